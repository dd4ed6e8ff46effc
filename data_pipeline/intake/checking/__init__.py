"""A data set folder looked through: problems with their remedies, copies of scans, doubtful pixels, and a page."""
