"""The discriminator: image-mask pair -> features of every stage, with a bounded response."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from msanet_jax.networks.convolution import DIMENSIONS, convolve_halving
from msanet_jax.networks.layers import Norm, check_sides
from msanet_jax.networks.resampling import fold_pixels

LEAK = 0.2
"""Negative slope of the leaky ReLU, as in SegAN."""

SQUARINGS = 8
"""2^8 power iterations: the largest singular value within 2 %, from a fixed start (tested)."""


def pair(image: jax.Array, mask: jax.Array, pairing: str) -> jax.Array:
    """Joins image and mask, both `[..., rows, columns, 1]`, into what the discriminator sees.

    `concat` stacks them as two channels (conditional in the sense of pix2pix); `multiply` masks the image (SegAN),
    which hides mask errors where the image has no counts. The paper does not say which it uses.
    """
    if pairing == "concat":
        return jnp.concatenate([jnp.broadcast_to(image, mask.shape).astype(mask.dtype), mask], axis=-1)
    if pairing == "multiply":
        return image.astype(mask.dtype) * mask
    raise RequestError(f"discriminator.pairing is concat or multiply, not {pairing!r}")


def spectral_norm(kernel: jax.Array) -> jax.Array:
    """Largest singular value of a convolution kernel `[h, w, in, out]` seen as a `[h w in, out]` matrix.

    Power iteration on the Gram matrix, by squaring it, from a fixed start: a pure function, so nothing is stored and
    every device agrees. The vector is held constant in the gradient (Miyato et al. 2018).
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    gram = matrix.T @ matrix
    power = jax.lax.stop_gradient(gram)
    for _ in range(SQUARINGS):
        power = power / (jnp.trace(power) + 1e-12)
        power = power @ power
    # A start without symmetry: equal entries could be orthogonal to the leading direction.
    vector = power @ jnp.cos(jnp.arange(1, gram.shape[0] + 1, dtype=kernel.dtype))
    vector = vector / (jnp.linalg.norm(vector) + 1e-12)
    return jnp.sqrt(vector @ gram @ vector + 1e-12)


def bounded_kernel(kernel: jax.Array, bound: str) -> jax.Array:
    """The kernel as it is used under `bound`.

    `spectral` divides by `spectral_norm` where that exceeds 1. `l1` divides each output channel by its absolute sum
    where that exceeds 1: no feature then differs by more than the largest difference of the pairs, so the multi-scale
    L1 cannot exceed 1. `clip` (done after the update, `clip_parameters`) and `none` leave it.
    """
    if bound == "spectral":
        return kernel / jnp.maximum(spectral_norm(kernel), 1.0)
    if bound == "l1":
        return kernel / jnp.maximum(jnp.abs(kernel).sum(axis=(0, 1, 2), keepdims=True), 1.0)
    if bound in ("clip", "none"):
        return kernel
    raise RequestError(f"discriminator.bound is spectral, clip, l1 or none, not {bound!r}")


def stage_bounds(section: ConfigDict) -> tuple[float, ...]:
    """Largest mean absolute feature difference of every stage of `Discriminator` for masks that differ by at most 1.

    A `spectral` kernel has a norm of at most 1 as a matrix of patches: 4 x 4 pixels that differ by a vector of norm d
    give features that differ by a vector of norm 4 d at most, of which the mean absolute entry is 4 d / sqrt(channels).
    Stage i, from 0, has width 2^i channels and the bound fold_px 4^(i + 1) / sqrt(width 2^i). Under `l1` it is 1. Image
    and biases cancel, and the leaky ReLU enlarges no difference.

    Args:
      section: the recipe's `discriminator`.

    Raises:
      RequestError: another `bound` or `pairing`, a norm between the stages, or another network than `Discriminator`.

    Example:
      >>> section = {"bound": "spectral", "norm": "none", "pairing": "concat", "fold_px": 1, "width": 16, "depth": 3}
      >>> [round(bound, 2) for bound in stage_bounds(ConfigDict(section))]
      [1.0, 2.83, 8.0]
    """
    wanted = {"bound": ("spectral", "l1"), "norm": ("none",), "pairing": ("concat",)}
    if "fold_px" not in section or any(section[key] not in values for key, values in wanted.items()):
        raise RequestError(
            "adversary.stages=bounded needs MSA-Net's discriminator with bound spectral or l1, norm none and pairing "
            "concat; use adversary.stages=equal"
        )
    if section.bound == "l1":
        return (1.0,) * section.depth
    return tuple(section.fold_px * 4.0 ** (i + 1) / math.sqrt(section.width * 2**i) for i in range(section.depth))


def clip_parameters(parameters: Any, *, bound: str, clip_value: float) -> Any:
    """Clips every parameter to +-`clip_value` where `bound` is `clip` (SegAN, Wasserstein GAN); else unchanged."""
    if bound != "clip":
        return parameters
    return jax.tree.map(lambda leaf: jnp.clip(leaf, -clip_value, clip_value), parameters)


class BoundedConv(nn.Module):
    """Convolution, by default 4 x 4 with stride 2, whose kernel passes through `bounded_kernel`."""

    features: int
    bound: str
    dtype: str
    kernel: int = 4
    stride: int = 2

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[b, h, w, c]` -> `[b, h / stride, w / stride, features]`."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        bounded = bounded_kernel(kernel, self.bound).astype(self.dtype)
        if (self.kernel, self.stride) == (4, 2):
            y = convolve_halving(x.astype(self.dtype), bounded)
        else:
            strides = (self.stride, self.stride)
            y = jax.lax.conv_general_dilated(
                x.astype(self.dtype), bounded, strides, "SAME", dimension_numbers=DIMENSIONS
            )
        return y + bias.astype(self.dtype)


class PairNetwork(nn.Module):
    """What every network over image-mask pairs is made of: bounded convolutions, norm from the second stage on.

    Attributes:
      width: channels of the first stage.
      depth: number of stages that halve the image.
      pairing: `concat` or `multiply`, see `pair`.
      norm: `none` or `batch`, from the second stage on.
      bound: see `bounded_kernel`.
      dtype: of the computation.
    """

    width: int
    depth: int
    pairing: str
    norm: str
    bound: str
    dtype: str

    def stage(
        self, x: jax.Array, index: int, features: int, *, train: bool, mapped: bool, kernel: int = 4, stride: int = 2
    ) -> jax.Array:
        """Stage `index`, from 0: `BoundedConv`, norm if it is not the first, leaky ReLU."""
        x = BoundedConv(features, self.bound, self.dtype, kernel, stride, name=f"stage_{index}")(x)
        if index > 0:
            x = Norm(kind=self.norm, train=train, mapped=mapped, name=f"norm_{index}")(x)
        return nn.leaky_relu(x, LEAK)


class Discriminator(PairNetwork):
    """Strided convolutional stages whose features, not a verdict, are the output (the critic of SegAN).

    Attributes:
      fold_px: squares of this many pixels a side become channels of the pair at the entry, so that no stage works on
        the largest maps; 1 folds nothing.
      width: channels of the first stage, doubled at every stage. The others: see `PairNetwork`.
    """

    fold_px: int = 1

    @nn.compact
    def __call__(
        self, image: jax.Array, mask: jax.Array, *, train: bool = True, mapped: bool = False
    ) -> tuple[jax.Array, ...]:
        """Features of every stage, first stage first.

        Args:
          image: `[batch, rows, columns, 1]` normalised uptake.
          mask: `[batch, rows, columns, 1]` truth or predicted probability in [0, 1].
          train: batch statistics where `norm` is `batch`.
          mapped: whether the call runs under the device axis.

        Raises:
          RequestError: a side is not divisible by fold_px 2^depth.
        """
        check_sides("pair", mask, self.fold_px * 2**self.depth)
        x = fold_pixels(pair(image, mask, self.pairing), self.fold_px)
        features = []
        for index in range(self.depth):
            x = self.stage(x, index, self.width * 2**index, train=train, mapped=mapped)
            features.append(x)
        return tuple(features)
