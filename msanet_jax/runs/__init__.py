"""What a run's folder holds: recipe, history, metrics, cases, notices."""
