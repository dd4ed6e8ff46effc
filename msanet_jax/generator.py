"""The generator: normalised scintigram -> lesion logits at every decoder level."""

from __future__ import annotations

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from data_pipeline.errors import RequestError
from msanet_jax.layers import (
    CascadeDilatedConvolution,
    Convolution,
    MultiScaleModule,
    ResidualBlock,
    downsample2,
    norm_factory,
    upsample2,
)


class Generator(nn.Module):
    """U-shaped encoder-decoder with multi-scale modules, cascade dilated bottleneck and deep supervision.

    The abstract of Wu, Lin et al. 2025 names these parts; their layout is our choice (docs/fidelity.md).

    Attributes:
      width: channels at full resolution, doubled at every level down.
      max_width: most channels at any level.
      depth: number of halvings; rows and columns must be divisible by 2^depth.
      multi_scale_dilations: branches of the multi-scale module behind every encoder block; () leaves it out.
      multi_scale_from_level: first encoder level with such a module; 1 spares the costly full resolution.
      cascade_dilations: cascade at the bottleneck; () leaves it out.
      deep_supervision: a head at every decoder level, else at full resolution only.
      norm: `batch` or `group`.
      initial_lesion_share: the probability an untrained head gives every pixel, set through its bias.
      dropout_rate: at the bottleneck.
      dtype: of the computation; parameters and logits are float32.
    """

    width: int
    max_width: int
    depth: int
    multi_scale_dilations: tuple[int, ...]
    multi_scale_from_level: int
    cascade_dilations: tuple[int, ...]
    deep_supervision: bool
    norm: str
    initial_lesion_share: float
    dropout_rate: float
    dtype: str

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool, mapped: bool = False) -> tuple[jax.Array, ...]:
        """Logits of every head, finest first.

        Args:
          image: `[batch, rows, columns, 1]` float, normalised uptake.
          train: batch statistics and dropout (needs the `dropout` stream) instead of running statistics.
          mapped: whether the call runs under the device axis `layers.AXIS`.

        Returns:
          Tuple of `[batch, rows / 2^l, columns / 2^l, 1]` float32 logits, l = 0 ... depth - 1; only l = 0 without
          deep supervision.

        Raises:
          RequestError: a side is not divisible by 2^depth.
        """
        rows, columns = image.shape[1:3]
        if rows % 2**self.depth or columns % 2**self.depth:
            raise RequestError(f"image of {rows} x {columns} pixels: sides must be divisible by {2**self.depth}")
        norm = norm_factory(self.norm, train=train, mapped=mapped)
        block = functools.partial(ResidualBlock, norm=norm, dtype=self.dtype)
        widths = [min(self.width * 2**level, self.max_width) for level in range(self.depth + 1)]

        x = image.astype(self.dtype)
        skips = []
        for level in range(self.depth):
            x = block(widths[level], name=f"encoder_{level}")(x)
            if self.multi_scale_dilations and level >= self.multi_scale_from_level:
                x = MultiScaleModule(self.multi_scale_dilations, norm, self.dtype, name=f"multi_scale_{level}")(x)
            skips.append(x)
            x = downsample2(x)

        x = block(widths[self.depth], name="bottleneck")(x)
        if self.cascade_dilations:
            x = CascadeDilatedConvolution(self.cascade_dilations, norm, self.dtype, name="cascade")(x)
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)

        logits = []
        for level in reversed(range(self.depth)):
            # The 1 x 1 reduction commutes with the upsampling and is four times cheaper before it.
            # No ReLU follows, so the smaller of the usual starts (LeCun's) keeps the scale.
            reduce = Convolution(
                widths[level], 1, 1, self.dtype, nn.initializers.lecun_normal(), name=f"reduce_{level}"
            )
            x = reduce(x)
            x = block(widths[level], name=f"decoder_{level}")(upsample2(x), skips[level])
            if level == 0 or self.deep_supervision:
                logits.append(self._head(level)(x).astype(jnp.float32))
        return tuple(reversed(logits))

    def _head(self, level: int) -> nn.Conv:
        share = self.initial_lesion_share
        bias = nn.initializers.constant(math.log(share / (1.0 - share)))
        return nn.Conv(1, (1, 1), dtype=self.dtype, bias_init=bias, name=f"head_{level}")
