"""Measurements of speed and scale; for development, not installed (`pip install -e '.[bench]'`)."""
