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

from msanet_jax.networks.discriminator import LEAK, BoundedConv, pair
from msanet_jax.networks.layers import ConvNorm, Norm, norm_factory, upsample2
from msanet_jax.networks.peers.unet import check_sides, head

CRITIC_STAGES = ((7, 1), (5, 2), (4, 4), (4, 8), (4, 8), (3, 8))
"""Kernel side and multiple of the width of every critic stage; each halves the image."""


class Segmentor(nn.Module):
    """Encoder of strided convolutions, decoder of bilinear magnification, concatenated skips and 3 x 3 convolutions.

    Attributes:
      width: channels of the first stage, at half the resolution, doubled at every stage.
      depth: stages; rows and columns must be divisible by 2^depth.
      norm: `batch` or `group`, from the second stage on.
      initial_lesion_share: the probability an untrained head gives every pixel.
      dropout_rate: at the bottleneck.
      dtype: of the computation; parameters and logits are float32.
    """

    width: int
    depth: int
    norm: str
    initial_lesion_share: float
    dropout_rate: float
    dtype: str

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool, mapped: bool = False) -> tuple[jax.Array, ...]:
        """Image `[b, rows, columns, 1]` float, normalised uptake -> one tuple entry `[b, rows, columns, 1]` logits.

        Raises:
          RequestError: a side is not divisible by 2^depth.
        """
        check_sides(image, self.depth)
        norm = norm_factory(self.norm, train=train, mapped=mapped)
        x = image.astype(self.dtype)
        skips = []
        for stage in range(self.depth):
            x = nn.Conv(
                self.width * 2**stage,
                (4, 4),
                strides=(2, 2),
                use_bias=stage == 0,
                dtype=self.dtype,
                kernel_init=nn.initializers.he_normal(),
                name=f"encoder_{stage}",
            )(x)
            x = nn.leaky_relu(x if stage == 0 else norm(f"encoder_norm_{stage}")(x), LEAK)
            skips.append(x)
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        for stage in reversed(range(self.depth)):
            features = self.width * 2 ** max(stage - 1, 0)
            x = ConvNorm(features, norm, dtype=self.dtype, name=f"decoder_{stage}")(upsample2(x))
            if stage > 0:
                x = jnp.concatenate([x, skips[stage - 1]], axis=-1)
        return (head(self.initial_lesion_share, self.dtype, "head_0")(x).astype(jnp.float32),)


class Critic(nn.Module):
    """Strided stages over image x mask; the pair itself and every stage are features.

    Attributes:
      width: channels of the first stage (64 in the authors' code).
      depth: stages used, at most six.
      pairing: `multiply` (as published) or `concat`.
      norm: `batch` (as published) or `none`, from the second stage on.
      bound: `clip` (as published); see `discriminator.bounded_kernel`.
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
        """Image and mask `[b, rows, columns, 1]` -> features `[b, rows / 2^i, columns / 2^i, c]`, i = 0 ... depth."""
        x = pair(image, mask, self.pairing).astype(self.dtype)
        features = [x]
        for stage, (kernel, multiple) in enumerate(CRITIC_STAGES[: self.depth]):
            x = BoundedConv(self.width * multiple, self.bound, self.dtype, kernel=kernel, name=f"stage_{stage}")(x)
            if stage > 0:
                x = Norm(kind=self.norm, train=train, mapped=mapped, name=f"norm_{stage}")(x)
            x = nn.leaky_relu(x, LEAK)
            features.append(x)
        return tuple(features)


GENERATOR: Any = Segmentor
DISCRIMINATOR: Any = Critic
