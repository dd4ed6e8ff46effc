"""A local page that segments scans: drop files, look, move a threshold, download. It needs the extra `web`."""
