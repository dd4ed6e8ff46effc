"""U-Net: Ronneberger, Fischer, Brox, MICCAI 2015, arXiv 1505.04597; its parts also serve the peers derived from it.

Differs from the published recipe: convolutions are padded, so that input and output have one size, and followed by a
norm (the paper predates its use there); one logit instead of two classes; trained with this project's loss, optimiser
and augmentation instead of the border-weighted cross-entropy, momentum SGD and elastic deformation.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from msanet_jax.networks.layers import ConvNorm, NormFactory
from msanet_jax.networks.peers.base import Peer
from msanet_jax.networks.resampling import downsample2


class DoubleConv(nn.Module):
    """Two 3 x 3 convolutions, each with norm and ReLU."""

    features: int
    norm: NormFactory
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[b, h, w, c]` -> `[b, h, w, features]`."""
        x = ConvNorm(self.features, self.norm, dtype=self.dtype, name="first")(x)
        return ConvNorm(self.features, self.norm, dtype=self.dtype, name="second")(x)


class UpConv(nn.Module):
    """2 x 2 transposed convolution with stride 2.

    Kernel and stride being equal, no two inputs meet in an output: it is a 1 x 1 convolution whose channels are spread
    over 2 x 2 pixels, and is computed so because the general one is slow on a CPU.
    """

    features: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[b, h, w, c]` -> `[b, 2 h, 2 w, features]`."""
        batch, rows, columns, _ = x.shape
        x = nn.Conv(4 * self.features, (1, 1), use_bias=False, dtype=self.dtype, name="conv")(x)
        x = x.reshape(batch, rows, columns, 2, 2, self.features).swapaxes(2, 3)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        return x.reshape(batch, 2 * rows, 2 * columns, self.features) + bias.astype(x.dtype)


class UNet(Peer):
    """Encoder of double convolutions and 2 x 2 maxima, decoder of up-convolutions and concatenated skips.

    `width` is 64 and `depth` 4 in the paper, which has no norm. A peer derived from it changes `skip` or `has_head`.
    """

    def skip(self, level: int, skip: jax.Array, coarser: jax.Array, norm: NormFactory) -> jax.Array:
        """What the decoder of a level gets of its encoder; `coarser` is the output of the decoder below."""
        return skip

    def has_head(self, level: int) -> bool:
        """Whether the decoder of a level gives logits."""
        return level == 0

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool, mapped: bool = False) -> tuple[jax.Array, ...]:
        """Image `[b, rows, columns, 1]` float, normalised uptake -> logits `[b, rows / 2^l, columns / 2^l, 1]`.

        The finest come first.

        Raises:
          RequestError: a side is not divisible by 2^depth.
        """
        x, norm = self.begin(image, train=train, mapped=mapped)
        skips = []
        for level in range(self.depth):
            x = DoubleConv(self.channels(level), norm, self.dtype, name=f"encoder_{level}")(x)
            skips.append(x)
            x = downsample2(x)
        x = DoubleConv(self.channels(self.depth), norm, self.dtype, name="bottleneck")(x)
        x = self.dropout(x, train=train)
        logits = []
        for level in reversed(range(self.depth)):
            skip = self.skip(level, skips[level], x, norm)
            x = UpConv(self.channels(level), self.dtype, name=f"up_{level}")(x)
            x = DoubleConv(self.channels(level), norm, self.dtype, name=f"decoder_{level}")(
                jnp.concatenate([skip, x], axis=-1)
            )
            if self.has_head(level):
                logits.append(self.logits(x, f"head_{level}"))
        return tuple(reversed(logits))


GENERATOR: Any = UNet
