"""What a command line takes and shows."""
