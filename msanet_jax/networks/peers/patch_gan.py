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

from msanet_jax.networks.discriminator import LEAK, BoundedConv, pair
from msanet_jax.networks.layers import Norm
from msanet_jax.networks.peers.unet import UNet


class PatchDiscriminator(nn.Module):
    """One logit for every patch of an image-mask pair, high where the mask looks true.

    `depth` stages with stride 2, one with stride 1, one that gives the logit; kernels 4 x 4, leaky ReLU. A logit sees
    16, 34, 70 pixels for depth 1, 2, 3; the paper's is 70 (width 64).

    Attributes:
      width: channels of the first stage, doubled at every further one, at most eightfold.
      depth: stages that halve the image.
      pairing: `concat` (as published) or `multiply`.
      norm: `batch` (as published) or `none`, from the second stage on.
      bound: see `discriminator.bounded_kernel`; `none` as published.
      dtype: of the computation.
    """

    width: int
    depth: int
    pairing: str
    norm: str
    bound: str
    dtype: str

    @nn.compact
    def __call__(
        self, image: jax.Array, mask: jax.Array, *, train: bool = True, mapped: bool = False
    ) -> tuple[jax.Array, ...]:
        """Image and mask `[b, rows, columns, 1]` -> one entry `[b, rows / 2^depth, columns / 2^depth, 1]` logits."""
        x = pair(image, mask, self.pairing)
        for stage in range(self.depth + 1):
            stride = 2 if stage < self.depth else 1
            features = self.width * min(2**stage, 8)
            x = BoundedConv(features, self.bound, self.dtype, stride=stride, name=f"stage_{stage}")(x)
            if stage > 0:
                x = Norm(kind=self.norm, train=train, mapped=mapped, name=f"norm_{stage}")(x)
            x = nn.leaky_relu(x, LEAK)
        verdict = BoundedConv(1, self.bound, self.dtype, stride=1, name="verdict")(x)
        return (verdict.astype(jnp.float32),)


GENERATOR: Any = UNet
DISCRIMINATOR: Any = PatchDiscriminator
