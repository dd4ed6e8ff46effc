"""ROOM msanet_jax/experiment."""
