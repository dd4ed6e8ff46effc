"""Scans from files and from the simulator to batches; knows nothing of networks."""
