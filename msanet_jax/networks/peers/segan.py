"""SegAN: Xue, Xu, Zhang, Long, Huang, Neuroinformatics 16:383, 2018, arXiv 1706.01805.

The segmentor follows the article (4 x 4 convolutions with stride 2; magnification by 2 and 3 x 3 convolutions; skips as
in a U-Net), the critic the authors' code (kernels 7, 5, 4, 4, 4, 3, the pair itself as the first feature). As there:
the critic sees image x mask, both networks take one step per batch, the critic's parameters are clipped to +-0.05, and
the segmentor minimises the multi-scale L1 plus Dice, one to one (the code's; the article has no Dice).

Differs from the published recipe: every feature counts alike, as the article writes it (the code's mean over all values
lets the largest maps dominate); the Dice is linear and pooled over the batch; one logit; widths; the segmentor's
optimiser, the schedule and the augmentation are this project's.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from msanet_jax.networks.discriminator import LEAK, PairNetwork, pair
from msanet_jax.networks.layers import ConvNorm
from msanet_jax.networks.peers.base import Peer
from msanet_jax.networks.resampling import upsample2

CRITIC_STAGES = ((7, 1), (5, 2), (4, 4), (4, 8), (4, 8), (3, 8))
"""Kernel side and multiple of the width of every critic stage; each halves the image."""


class Segmentor(Peer):
    """Encoder of strided convolutions, decoder of bilinear magnification, concatenated skips and 3 x 3 convolutions.

    The first level is at half the resolution; the norm begins at the second.
    """

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool, mapped: bool = False) -> tuple[jax.Array, ...]:
        """Image `[b, rows, columns, 1]` float, normalised uptake -> one tuple entry `[b, rows, columns, 1]` logits.

        Raises:
          RequestError: a side is not divisible by 2^depth.
        """
        x, norm = self.begin(image, train=train, mapped=mapped)
        skips = []
        for stage in range(self.depth):
            x = nn.Conv(
                self.channels(stage),
                (4, 4),
                strides=(2, 2),
                use_bias=stage == 0,
                dtype=self.dtype,
                kernel_init=nn.initializers.he_normal(),
                name=f"encoder_{stage}",
            )(x)
            x = nn.leaky_relu(x if stage == 0 else norm(f"encoder_norm_{stage}")(x), LEAK)
            skips.append(x)
        x = self.dropout(x, train=train)
        for stage in reversed(range(self.depth)):
            features = self.channels(max(stage - 1, 0))
            x = ConvNorm(features, norm, dtype=self.dtype, name=f"decoder_{stage}")(upsample2(x))
            if stage > 0:
                x = jnp.concatenate([x, skips[stage - 1]], axis=-1)
        return (self.logits(x, "head_0"),)


class Critic(PairNetwork):
    """Strided stages over image x mask; the pair itself and every stage are features.

    As published: `width` 64, six stages, `multiply`, `batch`, `clip`.
    """

    @nn.compact
    def __call__(
        self, image: jax.Array, mask: jax.Array, *, train: bool = True, mapped: bool = False
    ) -> tuple[jax.Array, ...]:
        """Image and mask `[b, rows, columns, 1]` -> features `[b, rows / 2^i, columns / 2^i, c]`, i = 0 ... depth."""
        x = pair(image, mask, self.pairing).astype(self.dtype)
        features = [x]
        for index, (kernel, multiple) in enumerate(CRITIC_STAGES[: self.depth]):
            x = self.stage(x, index, self.width * multiple, train=train, mapped=mapped, kernel=kernel)
            features.append(x)
        return tuple(features)


GENERATOR: Any = Segmentor
DISCRIMINATOR: Any = Critic
