"""ROOM data_pipeline/phantom/validation."""
