"""ROOM msanet_jax/trained."""
