"""ROOM msanet_jax/networks."""
