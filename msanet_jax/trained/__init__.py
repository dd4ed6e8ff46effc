"""Trained models: from checkpoints or exported files to one probability function."""
