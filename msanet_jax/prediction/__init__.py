"""ROOM msanet_jax/prediction."""
