"""MSA-Net in JAX/Flax: networks, adversarial training, evaluation and prediction. Research software, not for diagnosis."""
