"""The simulator compared with closed forms and one real scan."""
