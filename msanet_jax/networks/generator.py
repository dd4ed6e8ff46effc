"""The generator: normalised scintigram -> lesion logits at every decoder level."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from data_pipeline.errors import RequestError
from msanet_jax.networks.layers import (
    CascadeDilatedConvolution,
    Convolution,
    MultiScaleModule,
    ResidualBlock,
    check_sides,
    lesion_head,
    norm_factory,
)
from msanet_jax.networks.resampling import downsample2, fold_pixels, unfold_pixels, upsample2


class Generator(nn.Module):
    """U-shaped encoder-decoder with multi-scale modules, cascade dilated convolutions and deep supervision.

    The abstract of Wu, Lin et al. 2025 names these parts; their layout is our choice (docs/fidelity.md).

    Attributes:
      width: channels at the finest level, doubled at every level down.
      max_width: most channels at any level.
      depth: number of halvings; rows and columns must be divisible by fold_px 2^depth.
      multi_scale_dilations: branches of the multi-scale module behind every encoder block; () leaves it out.
      multi_scale_from_level: first encoder level with such a module; 0 is the finest.
      cascade_dilations: of the cascade; () leaves it out.
      cascade_level: encoder level whose end the cascade is, before the skip; `depth` or more is the bottleneck.
      deep_supervision: a head at every decoder level, else at the finest only.
      norm: `batch` or `group`.
      initial_lesion_share: the probability an untrained head gives every pixel, set through its bias.
      dropout_rate: at the bottleneck.
      dtype: of the computation; parameters and logits are float32.
      fold_px: squares of this many pixels a side become channels at the entry and pixels again at the exit (sub-pixel
        convolution, Shi et al. 2016), so that no layer works at full resolution; 1 folds nothing.
      remat: the inside of every block is computed again for its gradients and not kept: less memory, more time.
    """

    width: int
    max_width: int
    depth: int
    multi_scale_dilations: tuple[int, ...]
    multi_scale_from_level: int
    cascade_dilations: tuple[int, ...]
    cascade_level: int
    deep_supervision: bool
    norm: str
    initial_lesion_share: float
    dropout_rate: float
    dtype: str
    fold_px: int = 1
    remat: bool = False

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool, mapped: bool = False) -> tuple[jax.Array, ...]:
        """Logits of every head, finest first.

        Args:
          image: `[batch, rows, columns, 1]` float, normalised uptake.
          train: batch statistics and dropout (needs the `dropout` stream) instead of running statistics.
          mapped: whether the call runs under the device axis `layers.AXIS`.

        Returns:
          Tuple of float32 logits: `[batch, rows, columns, 1]`, then, with deep supervision, `[batch, rows / n,
          columns / n, 1]` with n = fold_px 2^l, l = 1 ... depth - 1.

        Raises:
          RequestError: a side is not divisible by fold_px 2^depth, or `cascade_level` is negative.
        """
        check_sides("image", image, self.fold_px * 2**self.depth)
        if self.cascade_level < 0:
            raise RequestError(f"generator.cascade_level={self.cascade_level}: levels count from 0, the finest")
        norm = norm_factory(self.norm, train=train, mapped=mapped)
        kept: Callable[[Any], Any] = nn.remat if self.remat else lambda module: module
        block = functools.partial(kept(ResidualBlock), norm=norm, dtype=self.dtype)
        widths = [min(self.width * 2**level, self.max_width) for level in range(self.depth + 1)]

        x = fold_pixels(image.astype(self.dtype), self.fold_px)
        skips = []
        cascade = functools.partial(kept(CascadeDilatedConvolution), self.cascade_dilations, norm, self.dtype)
        cascade_level = min(self.cascade_level, self.depth) if self.cascade_dilations else None
        for level in range(self.depth):
            x = block(widths[level], name=f"encoder_{level}")(x)
            if self.multi_scale_dilations and level >= self.multi_scale_from_level:
                module = kept(MultiScaleModule)
                x = module(self.multi_scale_dilations, norm, self.dtype, name=f"multi_scale_{level}")(x)
            if level == cascade_level:
                x = cascade(name="cascade")(x)
            skips.append(x)
            x = downsample2(x)

        x = block(widths[self.depth], name="bottleneck")(x)
        if cascade_level == self.depth:
            x = cascade(name="cascade")(x)
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
                fold = self.fold_px if level == 0 else 1
                head = lesion_head(self.initial_lesion_share, self.dtype, f"head_{level}", channels=fold**2)
                logits.append(unfold_pixels(head(x).astype(jnp.float32), fold))
        return tuple(reversed(logits))
