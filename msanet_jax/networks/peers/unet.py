"""U-Net: Ronneberger, Fischer, Brox, MICCAI 2015, arXiv 1505.04597; its parts also serve the peers derived from it.

Differs from the published recipe: convolutions are padded, so that input and output have one size, and followed by a
norm (the paper predates its use there); one logit instead of two classes; trained with this project's loss, optimiser
and augmentation instead of the border-weighted cross-entropy, momentum SGD and elastic deformation.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from data_pipeline.errors import RequestError
from msanet_jax.networks.layers import ConvNorm, NormFactory, downsample2, norm_factory


def check_sides(image: jax.Array, depth: int) -> None:
    """Refuses an image that cannot be halved `depth` times.

    Raises:
      RequestError: rows or columns are not divisible by 2^depth.
    """
    rows, columns = image.shape[1:3]
    if rows % 2**depth or columns % 2**depth:
        raise RequestError(f"image of {rows} x {columns} pixels: sides must be divisible by {2**depth}")


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


def head(initial_lesion_share: float, dtype: str, name: str) -> nn.Conv:
    """1 x 1 convolution to one logit whose bias makes `initial_lesion_share` the probability of an untrained pixel."""
    bias = nn.initializers.constant(math.log(initial_lesion_share / (1.0 - initial_lesion_share)))
    return nn.Conv(1, (1, 1), dtype=dtype, bias_init=bias, name=name)


class UNet(nn.Module):
    """Encoder of double convolutions and 2 x 2 maxima, decoder of up-convolutions and concatenated skips.

    Attributes:
      width: channels at full resolution (64 in the paper), doubled at every level down.
      depth: number of halvings (4 in the paper); rows and columns must be divisible by 2^depth.
      norm: `batch`, `group` or `none` (as published).
      initial_lesion_share: the probability an untrained head gives every pixel.
      dropout_rate: at the end of the contracting path.
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
        widths = [self.width * 2**level for level in range(self.depth + 1)]
        x = image.astype(self.dtype)
        skips = []
        for level in range(self.depth):
            x = DoubleConv(widths[level], norm, self.dtype, name=f"encoder_{level}")(x)
            skips.append(x)
            x = downsample2(x)
        x = DoubleConv(widths[self.depth], norm, self.dtype, name="bottleneck")(x)
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        for level in reversed(range(self.depth)):
            x = UpConv(widths[level], self.dtype, name=f"up_{level}")(x)
            x = DoubleConv(widths[level], norm, self.dtype, name=f"decoder_{level}")(
                jnp.concatenate([skips[level], x], axis=-1)
            )
        return (head(self.initial_lesion_share, self.dtype, "head_0")(x).astype(jnp.float32),)


GENERATOR: Any = UNet
