"""Flax modules: layers, generator, discriminator and the peers that MSA-Net is compared with."""
