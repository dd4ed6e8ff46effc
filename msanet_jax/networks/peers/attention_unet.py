"""Attention U-Net: Oktay et al., MIDL 2018, arXiv 1804.03999, in two dimensions.

Differs from the published recipe: two-dimensional; deep supervision is this project's loss over a head at every decoder
level; trained with this project's optimiser and augmentation instead of Adam on the class-wise Dice.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from msanet_jax.networks.layers import ConvNorm, NormFactory, downsample2, norm_factory, upsample2
from msanet_jax.networks.peers.unet import DoubleConv, UpConv, check_sides, head


class AttentionGate(nn.Module):
    """x * up(alpha), alpha = sigmoid(psi(ReLU(W_x x + W_g g + b))): additive attention on the grid of the gate g.

    W_x is a 2 x 2 convolution with stride 2, W_g and psi are 1 x 1; the product passes a 1 x 1 convolution with norm.
    """

    norm: NormFactory
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, gate: jax.Array) -> jax.Array:
        """Skip `[b, 2 h, 2 w, c]` and gate `[b, h, w, g]` -> `[b, 2 h, 2 w, c]`."""
        channels = x.shape[-1]
        seen = nn.Conv(channels, (2, 2), strides=(2, 2), use_bias=False, dtype=self.dtype, name="skip")(x)
        asked = nn.Conv(channels, (1, 1), dtype=self.dtype, name="gate")(gate)
        alpha = nn.sigmoid(nn.Conv(1, (1, 1), dtype=self.dtype, name="psi")(nn.relu(seen + asked)))
        return ConvNorm(channels, self.norm, kernel=1, activate=False, dtype=self.dtype, name="out")(
            x * upsample2(alpha)
        )


class AttentionUNet(nn.Module):
    """U-Net whose skips below full resolution pass an attention gate asked by the next coarser decoder level.

    The finest skip is not gated: the paper finds it too close to the image to be worth asking.

    Attributes:
      width: channels at full resolution, doubled at every level down.
      depth: number of halvings; rows and columns must be divisible by 2^depth.
      deep_supervision: a head at every decoder level, else at full resolution only.
      norm: `batch`, `group` or `none`.
      initial_lesion_share: the probability an untrained head gives every pixel.
      dropout_rate: at the bottleneck.
      dtype: of the computation; parameters and logits are float32.
    """

    width: int
    depth: int
    deep_supervision: bool
    norm: str
    initial_lesion_share: float
    dropout_rate: float
    dtype: str

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool, mapped: bool = False) -> tuple[jax.Array, ...]:
        """Image `[b, rows, columns, 1]` -> logits `[b, rows / 2^l, columns / 2^l, 1]` float32, finest first.

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
        logits = []
        for level in reversed(range(self.depth)):
            skip = skips[level]
            if level > 0:
                skip = AttentionGate(norm, self.dtype, name=f"attention_{level}")(skip, x)
            x = UpConv(widths[level], self.dtype, name=f"up_{level}")(x)
            x = DoubleConv(widths[level], norm, self.dtype, name=f"decoder_{level}")(
                jnp.concatenate([skip, x], axis=-1)
            )
            if level == 0 or self.deep_supervision:
                logits.append(head(self.initial_lesion_share, self.dtype, f"head_{level}")(x).astype(jnp.float32))
        return tuple(reversed(logits))


GENERATOR: Any = AttentionUNet
