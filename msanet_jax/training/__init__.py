"""ROOM msanet_jax/training."""
