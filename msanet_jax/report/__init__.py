"""ROOM msanet_jax/report."""
