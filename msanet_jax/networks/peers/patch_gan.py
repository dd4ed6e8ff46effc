"""Conditional patch-GAN: Isola, Zhu, Zhou, Efros, CVPR 2017 (pix2pix), arXiv 1611.07004, on a U-Net.

Differs from the published recipe: the generator is the U-Net of `unet.py`, not the paper's with strided
4 x 4 convolutions, and is not fed noise through dropout (a segmentation is not sampled); the supervised loss of this
project stands where the paper has L1; widths; the generator's optimiser, the schedule and the augmentation are this
project's. The weights are the published ones, 100 : 1 (adversary weight 1/100), but the losses behind them are not:
Dice plus ten times cross-entropy (`loss.cross_entropy_weight`) is of another size than L1, so the proportion of what
reaches the generator is not the published one.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from msanet_jax.networks.discriminator import BoundedConv, PairNetwork, pair
from msanet_jax.networks.peers.unet import UNet


class PatchDiscriminator(PairNetwork):
    """One logit for every patch of an image-mask pair, high where the mask looks true.

    `depth` stages with stride 2, one with stride 1, one that gives the logit. Kernels are 4 x 4; channels double at
    every stage, at most eightfold. A logit sees 16, 34, 70 pixels for depth 1, 2, 3. As published: 70 pixels, `width`
    64, `concat`, `batch`, `none`.
    """

    @nn.compact
    def __call__(
        self, image: jax.Array, mask: jax.Array, *, train: bool = True, mapped: bool = False
    ) -> tuple[jax.Array, ...]:
        """Image and mask `[b, rows, columns, 1]` -> one entry `[b, rows / 2^depth, columns / 2^depth, 1]` logits."""
        x = pair(image, mask, self.pairing)
        for index in range(self.depth + 1):
            stride = 2 if index < self.depth else 1
            x = self.stage(x, index, self.width * min(2**index, 8), train=train, mapped=mapped, stride=stride)
        verdict = BoundedConv(1, self.bound, self.dtype, stride=1, name="verdict")(x)
        return (verdict.astype(jnp.float32),)


GENERATOR: Any = UNet
DISCRIMINATOR: Any = PatchDiscriminator
