"""Attention U-Net: Oktay et al., MIDL 2018, arXiv 1804.03999, in two dimensions.

Differs from the published recipe: two-dimensional; deep supervision is this project's loss over a head at every decoder
level; trained with this project's optimiser and augmentation instead of Adam on the class-wise Dice.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from msanet_jax.networks.layers import ConvNorm, NormFactory
from msanet_jax.networks.peers.unet import UNet
from msanet_jax.networks.resampling import upsample2


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


class AttentionUNet(UNet):
    """U-Net whose skips below full resolution pass an attention gate asked by the next coarser decoder level.

    The finest skip is not gated: the paper finds it too close to the image to be worth asking.

    Attributes:
      deep_supervision: a head at every decoder level, else at full resolution only. The others: see `Peer`.
    """

    deep_supervision: bool

    def skip(self, level: int, skip: jax.Array, coarser: jax.Array, norm: NormFactory) -> jax.Array:
        """The gated skip."""
        return AttentionGate(norm, self.dtype, name=f"attention_{level}")(skip, coarser) if level > 0 else skip

    def has_head(self, level: int) -> bool:
        """At every level with deep supervision."""
        return self.deep_supervision or super().has_head(level)


GENERATOR: Any = AttentionUNet
