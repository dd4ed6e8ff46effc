"""Building blocks of both networks: norm, residual block, multi-scale module, dilated cascade.

All arrays are `[batch, rows, columns, channels]`. The paper's abstract names the modules and gives no layout; the
layouts here are our choice (docs/fidelity.md).
"""

from __future__ import annotations

import math
from typing import Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from data_pipeline.errors import RequestError
from msanet_jax.networks.batch_norm import normalize_batch, normalize_running
from msanet_jax.networks.convolution import convolve

AXIS = "devices"
"""Name of the mapped axis over devices; batch statistics are averaged over it."""

MOMENTUM = 0.9
"""Share of the running statistics that a step keeps."""


def check_sides(what: str, x: jax.Array, divisor: int) -> None:
    """Refuses `[b, rows, columns, c]` that cannot be halved as often as a network needs.

    Raises:
      RequestError: rows or columns are not divisible by `divisor`.
    """
    rows, columns = x.shape[1:3]
    if rows % divisor or columns % divisor:
        raise RequestError(f"{what} of {rows} x {columns} pixels: sides must be divisible by {divisor}")


def lesion_head(initial_lesion_share: float, dtype: str, name: str, *, channels: int = 1) -> nn.Conv:
    """1 x 1 convolution to logits whose bias makes `initial_lesion_share` the probability of an untrained pixel."""
    bias = nn.initializers.constant(math.log(initial_lesion_share / (1.0 - initial_lesion_share)))
    return nn.Conv(channels, (1, 1), dtype=dtype, bias_init=bias, name=name)


class BatchNorm(nn.Module):
    """Batch normalisation, with ReLU if asked for; statistics are averaged over devices under `AXIS`.

    Attributes:
      train: use the statistics of the batch and move the running ones instead of using those.
      mapped: whether the module runs under the device axis.
      relu: whether the result passes through a ReLU.
      momentum: of the running statistics.
    """

    train: bool
    mapped: bool
    relu: bool
    momentum: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises `x` over its last axis."""
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones_init(), channels)
        offset = self.param("bias", nn.initializers.zeros_init(), channels)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        variance = self.variable("batch_stats", "var", jnp.ones, channels)
        if not self.train:
            return normalize_running(x, scale, offset, mean.value, variance.value, relu=self.relu)
        axis = AXIS if self.mapped else None
        result, batch_mean, batch_variance = normalize_batch(x, scale, offset, relu=self.relu, axis_name=axis)
        if not self.is_initializing():
            mean.value = self.momentum * mean.value + (1.0 - self.momentum) * batch_mean
            variance.value = self.momentum * variance.value + (1.0 - self.momentum) * batch_variance
        return result


class Norm(nn.Module):
    """Batch or group normalisation with scale and offset, computed in float32, and a ReLU if asked for.

    Attributes:
      kind: `batch` (see `BatchNorm`), `group` (8 channels a group) or `none`.
      train: see `BatchNorm`.
      mapped: see `BatchNorm`.
      relu: whether the result passes through a ReLU.
      momentum: of the running statistics.
    """

    kind: str
    train: bool
    mapped: bool
    relu: bool = False
    momentum: float = MOMENTUM

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises `x` over its last axis."""
        if self.kind == "batch":
            return BatchNorm(self.train, self.mapped, self.relu, self.momentum, name="norm")(x)
        if self.kind == "group":
            group = 8 if x.shape[-1] % 8 == 0 else x.shape[-1]
            x = nn.GroupNorm(num_groups=None, group_size=group, dtype=x.dtype, name="norm")(x)
        elif self.kind != "none":
            raise RequestError(f"norm is batch, group or none, not {self.kind!r}")
        return nn.relu(x) if self.relu else x


class NormFactory(Protocol):
    """Makes a norm layer with everything but its name and its ReLU settled."""

    def __call__(self, name: str, relu: bool = False) -> Norm:
        """The layer."""


def norm_factory(kind: str, *, train: bool, mapped: bool) -> NormFactory:
    """The factory that a network hands to its blocks; the arguments are those of `Norm`."""

    def norm(name: str, relu: bool = False) -> Norm:
        return Norm(kind=kind, train=train, mapped=mapped, relu=relu, name=name)

    return norm


class Convolution(nn.Module):
    """Convolution without bias, on an array or on the parts of one that was never joined (`convolution.convolve`)."""

    features: int
    kernel: int
    dilation: int = 1
    dtype: str = "float32"
    initializer: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, *parts: jax.Array) -> jax.Array:
        """Parts `[b, h, w, c_i]` of `[b, h, w, sum c_i]` -> `[b, h, w, features]`."""
        shape = (self.kernel, self.kernel, sum(part.shape[-1] for part in parts), self.features)
        kernel = self.param("kernel", self.initializer, shape).astype(self.dtype)
        return convolve([part.astype(self.dtype) for part in parts], kernel, self.dilation)


class ConvNorm(nn.Module):
    """Convolution without bias (the norm's offset replaces it), norm and, by default, ReLU."""

    features: int
    norm: NormFactory
    kernel: int = 3
    dilation: int = 1
    activate: bool = True
    dtype: str = "float32"

    @nn.compact
    def __call__(self, *parts: jax.Array) -> jax.Array:
        """Parts `[b, h, w, c_i]` (see `Convolution`) -> `[b, h, w, features]`."""
        x = Convolution(self.features, self.kernel, self.dilation, self.dtype, name="conv")(*parts)
        return self.norm("norm", self.activate)(x)


class ResidualBlock(nn.Module):
    """ReLU(shortcut(x) + conv-norm(ReLU(conv-norm(x)))), shortcut 1 x 1 where the channels change (He et al. 2016)."""

    features: int
    norm: NormFactory
    dtype: str = "float32"

    @nn.compact
    def __call__(self, *parts: jax.Array) -> jax.Array:
        """Parts `[b, h, w, c_i]` (see `Convolution`) -> `[b, h, w, features]`."""
        y = ConvNorm(self.features, self.norm, dtype=self.dtype, name="first")(*parts)
        y = ConvNorm(self.features, self.norm, activate=False, dtype=self.dtype, name="second")(y)
        if len(parts) == 1 and parts[0].shape[-1] == self.features:
            return nn.relu(parts[0] + y)
        x = ConvNorm(self.features, self.norm, kernel=1, activate=False, dtype=self.dtype, name="shortcut")(*parts)
        return nn.relu(x + y)


class MultiScaleModule(nn.Module):
    """Parallel receptive fields, fused: ReLU(x + g fuse(ReLU(norm(concat(r_0, conv_d(r_d)))))), r = split(reduce(x)).

    A 1 x 1 convolution reduces to equal shares, one a branch; the branch of dilation d looks through a 3 x 3 kernel
    that sees 2d + 1 pixels, and one share passes as it is. One norm serves all branches and a 1 x 1 convolution fuses
    them: on a CPU the many small norms of separate branches would cost more than the convolutions. `g` is a gain per
    channel, learned from 0 (see `gain`).
    """

    dilations: tuple[int, ...]
    norm: NormFactory
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[b, h, w, c]` -> `[b, h, w, c]`."""
        channels = x.shape[-1]
        share = max(1, channels // (len(self.dilations) + 1))
        count = len(self.dilations) + 1
        reduced = ConvNorm(share * count, self.norm, kernel=1, dtype=self.dtype, name="reduce")(x)
        parts = jnp.split(reduced, count, axis=-1)
        branches = [parts[0]]
        for part, dilation in zip(parts[1:], self.dilations, strict=True):
            branches.append(Convolution(share, 3, dilation, self.dtype, name=f"branch_{dilation}")(part))
        joined = self.norm("norm", True)(jnp.concatenate(branches, axis=-1))
        fused = ConvNorm(channels, self.norm, kernel=1, activate=False, dtype=self.dtype, name="fuse")(joined)
        return nn.relu(x + gain(self, "gain", channels) * fused)


class CascadeDilatedConvolution(nn.Module):
    """Dilated convolutions in cascade, every result aggregated: x + sum_i g_i y_i, y_i = conv_{d_i}(y_{i-1}), y_0 = x.

    With dilations 1, 2, 4, 8 the last result sees 31 x 31 pixels of its level and the sum holds 3, 7, 15 and 31.
    `g_i` are gains per channel, learned from 0 (see `gain`).
    """

    dilations: tuple[int, ...]
    norm: NormFactory
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[b, h, w, c]` -> `[b, h, w, c]`."""
        total, y = x, x
        for dilation in self.dilations:
            y = ConvNorm(x.shape[-1], self.norm, dilation=dilation, dtype=self.dtype, name=f"dilated_{dilation}")(y)
            total = total + gain(self, f"gain_{dilation}", x.shape[-1]) * y
        return total


def gain(module: nn.Module, name: str, channels: int) -> jax.Array:
    """Parameter `[channels]` of `module` in its computing type, 0 at the start.

    A part that is added through it starts as the identity and comes in where it lowers the loss (ReZero, Bachlechner et
    al. 2021; per channel, as LayerScale, Touvron et al. 2021). Added in full from the start, the cascade cost DSC in a
    short training (docs/results.md).
    """
    value: jax.Array = module.param(name, nn.initializers.zeros_init(), (channels,))
    return value.astype(module.dtype)
