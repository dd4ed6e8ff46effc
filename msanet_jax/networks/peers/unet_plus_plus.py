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

from msanet_jax.networks.peers.base import Peer
from msanet_jax.networks.peers.unet import DoubleConv, UpConv
from msanet_jax.networks.resampling import downsample2


class UNetPlusPlus(Peer):
    """Nested U-Net: x[i, j] = H(x[i, 0], ..., x[i, j-1], up(x[i+1, j-1])), x[i, 0] = H(down(x[i-1, 0])).

    i counts halvings, j steps along the skip; H is a double convolution of the concatenation. `width` is 32 and `depth`
    4 in the paper, which has no norm.

    Attributes:
      deep_supervision: a full-resolution head on every x[0, j > 0], else on the last alone. The others: see `Peer`.
    """

    deep_supervision: bool

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool, mapped: bool = False) -> tuple[jax.Array, ...]:
        """Image `[b, rows, columns, 1]` -> logits `[b, rows, columns, 1]` float32, of x[0, depth] first.

        Raises:
          RequestError: a side is not divisible by 2^depth.
        """
        x, norm = self.begin(image, train=train, mapped=mapped)
        nodes: dict[tuple[int, int], jax.Array] = {}
        for level in range(self.depth + 1):
            node = DoubleConv(self.channels(level), norm, self.dtype, name=f"node_{level}_0")
            x = node(x if level == 0 else downsample2(x))
            nodes[level, 0] = x
        nodes[self.depth, 0] = self.dropout(x, train=train)
        for step in range(1, self.depth + 1):
            for level in range(self.depth - step + 1):
                below = UpConv(self.channels(level), self.dtype, name=f"up_{level}_{step}")(nodes[level + 1, step - 1])
                inputs = [nodes[level, earlier] for earlier in range(step)]
                nodes[level, step] = DoubleConv(self.channels(level), norm, self.dtype, name=f"node_{level}_{step}")(
                    jnp.concatenate([*inputs, below], axis=-1)
                )
        branches = range(self.depth, 0, -1) if self.deep_supervision else [self.depth]
        return tuple(self.logits(nodes[0, branch], f"head_{branch}") for branch in branches)


GENERATOR: Any = UNetPlusPlus
