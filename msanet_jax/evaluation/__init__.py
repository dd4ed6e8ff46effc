"""ROOM msanet_jax/evaluation."""
