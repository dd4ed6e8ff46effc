"""Scores: from probability maps and truth to numbers with intervals."""
