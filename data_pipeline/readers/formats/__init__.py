"""A module for each file format: from a path, and what the user states, to scans."""
