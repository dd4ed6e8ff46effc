"""MSA-Net in JAX/Flax: networks, training, evaluation, prediction. Research software, not for diagnosis."""
