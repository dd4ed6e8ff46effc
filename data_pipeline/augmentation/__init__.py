"""Random changes to training images: another acquisition, another body, another place."""
