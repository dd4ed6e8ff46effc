"""ROOM msanet_jax/runs."""
