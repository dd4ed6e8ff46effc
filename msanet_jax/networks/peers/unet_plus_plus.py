"""U-Net++: Zhou, Siddiquee, Tajbakhsh, Liang, DLMIA 2018, arXiv 1807.10165.

Differs from the published recipe: a norm follows every convolution; scores come from the deepest branch alone (the
paper's `fast mode`, not pruned) instead of the mean of all branches; trained with this project's loss, optimiser and
augmentation instead of cross-entropy / 2 + Dice and Adam at 3e-4.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from msanet_jax.networks.layers import downsample2, norm_factory
from msanet_jax.networks.peers.unet import DoubleConv, UpConv, check_sides, head


class UNetPlusPlus(nn.Module):
    """Nested U-Net: x[i, j] = H(x[i, 0], ..., x[i, j-1], up(x[i+1, j-1])), x[i, 0] = H(down(x[i-1, 0])).

    i counts halvings, j steps along the skip; H is a double convolution of the concatenation.

    Attributes:
      width: channels at full resolution (32 in the paper), doubled at every level down.
      depth: number of halvings (4 in the paper); rows and columns must be divisible by 2^depth.
      deep_supervision: a full-resolution head on every x[0, j > 0], else on the last alone.
      norm: `batch`, `group` or `none` (as published).
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
        """Image `[b, rows, columns, 1]` -> logits `[b, rows, columns, 1]` float32, of x[0, depth] first.

        Raises:
          RequestError: a side is not divisible by 2^depth.
        """
        check_sides(image, self.depth)
        norm = norm_factory(self.norm, train=train, mapped=mapped)
        widths = [self.width * 2**level for level in range(self.depth + 1)]
        nodes: dict[tuple[int, int], jax.Array] = {}
        x = image.astype(self.dtype)
        for level in range(self.depth + 1):
            x = DoubleConv(widths[level], norm, self.dtype, name=f"node_{level}_0")(x if level == 0 else downsample2(x))
            nodes[level, 0] = x
        nodes[self.depth, 0] = nn.Dropout(self.dropout_rate, deterministic=not train)(nodes[self.depth, 0])
        for step in range(1, self.depth + 1):
            for level in range(self.depth - step + 1):
                below = UpConv(widths[level], self.dtype, name=f"up_{level}_{step}")(nodes[level + 1, step - 1])
                inputs = [nodes[level, earlier] for earlier in range(step)]
                nodes[level, step] = DoubleConv(widths[level], norm, self.dtype, name=f"node_{level}_{step}")(
                    jnp.concatenate([*inputs, below], axis=-1)
                )
        branches = range(self.depth, 0, -1) if self.deep_supervision else [self.depth]
        return tuple(
            head(self.initial_lesion_share, self.dtype, f"head_{branch}")(nodes[0, branch]).astype(jnp.float32)
            for branch in branches
        )


GENERATOR: Any = UNetPlusPlus
