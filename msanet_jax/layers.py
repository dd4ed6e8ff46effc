"""Building blocks of both networks: resampling, norm, residual block, multi-scale module, dilated cascade.

All arrays are `[batch, rows, columns, channels]`. The paper's abstract names the modules and gives no layout; the
layouts here are our choice (docs/fidelity.md).
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from data_pipeline.errors import RequestError

AXIS = "devices"
"""Name of the mapped axis over devices; batch statistics are averaged over it."""


def downsample2(x: jax.Array) -> jax.Array:
    """Maximum over 2 x 2 pixels, as a reshape: its gradient needs no select-and-scatter."""
    batch, rows, columns, channels = x.shape
    return x.reshape(batch, rows // 2, 2, columns // 2, 2, channels).max(axis=(2, 4))


def mean_pool(x: jax.Array, factor: int) -> jax.Array:
    """Mean over `factor` x `factor` pixels; sides must be divisible by `factor`."""
    if factor == 1:
        return x
    batch, rows, columns, channels = x.shape
    return x.reshape(batch, rows // factor, factor, columns // factor, factor, channels).mean(axis=(2, 4))


def upsample2(x: jax.Array) -> jax.Array:
    """Bilinear magnification by 2 with half-pixel centres and clamped borders.

    Equal to `jax.image.resize(..., "bilinear")`, written as two weighted shifts per axis because the general
    resampling is a gather that costs several times more on a CPU.
    """
    return _upsample_axis(_upsample_axis(x, 1), 2)


def _upsample_axis(x: jax.Array, axis: int) -> jax.Array:
    size = x.shape[axis]
    before = jnp.concatenate(
        [jax.lax.slice_in_dim(x, 0, 1, axis=axis), jax.lax.slice_in_dim(x, 0, size - 1, axis=axis)], axis=axis
    )
    after = jnp.concatenate(
        [jax.lax.slice_in_dim(x, 1, size, axis=axis), jax.lax.slice_in_dim(x, size - 1, size, axis=axis)], axis=axis
    )
    stacked = jnp.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis=axis + 1)
    return stacked.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])


class Norm(nn.Module):
    """Batch or group normalisation with scale and offset, computed in float32.

    Attributes:
      kind: `batch` (statistics averaged over devices under `AXIS`), `group` (8 channels a group) or `none`.
      train: use and update the statistics of the batch instead of the running ones.
      mapped: whether the module runs under the device axis.
      momentum: of the running statistics.
    """

    kind: str
    train: bool
    mapped: bool
    momentum: float = 0.9

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises `x` over its last axis."""
        if self.kind == "none":
            return x
        if self.kind == "batch":
            return nn.BatchNorm(
                use_running_average=not self.train,
                momentum=self.momentum,
                axis_name=AXIS if self.mapped and self.train else None,
                dtype=x.dtype,
                name="norm",
            )(x)
        if self.kind == "group":
            group = 8 if x.shape[-1] % 8 == 0 else x.shape[-1]
            return nn.GroupNorm(num_groups=None, group_size=group, dtype=x.dtype, name="norm")(x)
        raise RequestError(f"norm is batch, group or none, not {self.kind!r}")


NormFactory = Callable[[str], Norm]
"""Makes a named norm layer with everything but its name settled."""


class ConvNorm(nn.Module):
    """Convolution without bias (the norm's offset replaces it), norm and, by default, ReLU."""

    features: int
    norm: NormFactory
    kernel: int = 3
    dilation: int = 1
    activate: bool = True
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[b, h, w, c]` -> `[b, h, w, features]`."""
        x = nn.Conv(
            self.features,
            (self.kernel, self.kernel),
            kernel_dilation=self.dilation,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=nn.initializers.he_normal(),
            name="conv",
        )(x)
        x = self.norm("norm")(x)
        return nn.relu(x) if self.activate else x


class ResidualBlock(nn.Module):
    """ReLU(shortcut(x) + conv-norm(ReLU(conv-norm(x)))), shortcut 1 x 1 where the channels change (He et al. 2016)."""

    features: int
    norm: NormFactory
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[b, h, w, c]` -> `[b, h, w, features]`."""
        y = ConvNorm(self.features, self.norm, dtype=self.dtype, name="first")(x)
        y = ConvNorm(self.features, self.norm, activate=False, dtype=self.dtype, name="second")(y)
        if x.shape[-1] != self.features:
            x = ConvNorm(self.features, self.norm, kernel=1, activate=False, dtype=self.dtype, name="shortcut")(x)
        return nn.relu(x + y)


class MultiScaleModule(nn.Module):
    """Parallel receptive fields, fused: ReLU(x + fuse(ReLU(norm(concat(r_0, conv_d(r_d)))))), r = split(reduce(x)).

    A 1 x 1 convolution reduces to equal shares, one a branch; the branch of dilation d looks through a 3 x 3 kernel
    that sees 2d + 1 pixels, and one share passes as it is. One norm serves all branches and a 1 x 1 convolution fuses
    them: on a CPU the many small norms of separate branches would cost more than the convolutions.
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
            branches.append(
                nn.Conv(
                    share,
                    (3, 3),
                    kernel_dilation=dilation,
                    use_bias=False,
                    dtype=self.dtype,
                    kernel_init=nn.initializers.he_normal(),
                    name=f"branch_{dilation}",
                )(part)
            )
        joined = nn.relu(self.norm("norm")(jnp.concatenate(branches, axis=-1)))
        fused = ConvNorm(channels, self.norm, kernel=1, activate=False, dtype=self.dtype, name="fuse")(joined)
        return nn.relu(x + fused)


class CascadeDilatedConvolution(nn.Module):
    """Dilated convolutions in cascade, every intermediate result aggregated: x + sum_i y_i, y_i = conv_{d_i}(y_{i-1}).

    With dilations 1, 2, 4, 8 the last result sees 31 x 31 pixels of the bottleneck and the sum holds 3, 7, 15 and 31.
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
            total = total + y
        return total
