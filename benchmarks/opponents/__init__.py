"""What our networks are timed against: PyTorch twins of them, MONAI, each in a process of its own."""
