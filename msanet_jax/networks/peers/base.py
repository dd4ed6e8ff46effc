"""What the peers' generators share, so that a new peer writes down its own layout only."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from msanet_jax.networks.layers import NormFactory, check_sides, lesion_head, norm_factory


class Peer(nn.Module):
    """A generator with the section of the recipe that all peers share.

    Attributes:
      width: channels of the first level, doubled at every level down.
      depth: number of halvings; rows and columns must be divisible by 2^depth.
      norm: `batch`, `group` or `none`.
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

    def begin(self, image: jax.Array, *, train: bool, mapped: bool) -> tuple[jax.Array, NormFactory]:
        """Image `[b, rows, columns, 1]` in the computing type, and the maker of norms.

        Raises:
          RequestError: a side is not divisible by 2^depth.
        """
        check_sides("image", image, 2**self.depth)
        return image.astype(self.dtype), norm_factory(self.norm, train=train, mapped=mapped)

    def channels(self, level: int) -> int:
        """Channels of a level, 0 being the first."""
        return self.width * 2**level

    def dropout(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Dropout at the end of the contracting path; needs the `dropout` stream in training."""
        return nn.Dropout(self.dropout_rate, deterministic=not train)(x)

    def logits(self, x: jax.Array, name: str) -> jax.Array:
        """`[b, h, w, c]` -> `[b, h, w, 1]` float32."""
        return lesion_head(self.initial_lesion_share, self.dtype, name)(x).astype(jnp.float32)
