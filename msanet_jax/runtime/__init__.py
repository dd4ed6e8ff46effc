"""ROOM msanet_jax/runtime."""
