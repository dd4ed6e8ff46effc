"""Networks and baselines that MSA-Net is compared with, one file each, in the same trainer, data and budget.

A file NAME.py here is reached by `config.model = "NAME"` (`networks/catalogue.py`). It names its `GENERATOR`, a Flax
module whose attributes are the recipe's `generator` section and which maps image `[b, rows, columns, 1]` to a tuple of
logits, finest first; if it has a discriminator of its own, `DISCRIMINATOR` likewise. docs/peers.md lists them.
"""
