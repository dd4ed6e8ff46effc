"""Images halved, doubled and folded; all arrays are `[batch, rows, columns, channels]`."""

from __future__ import annotations

import jax
import jax.numpy as jnp


@jax.custom_vjp
def downsample2(x: jax.Array) -> jax.Array:
    """Maximum over 2 x 2 pixels, as a reshape: `[b, h, w, c]` -> `[b, h / 2, w / 2, c]`; sides must be even.

    The gradient goes to the first largest pixel, row by row. It is chosen by comparing the pixels with each other,
    never with the maximum: a compiler may compute `x` again for the gradient and round it differently, and where no
    pixel then equals the maximum JAX's own rule divides 0 by 0.
    """
    return _squares(x).max(axis=(2, 4))


def _squares(x: jax.Array) -> jax.Array:
    batch, rows, columns, channels = x.shape
    return x.reshape(batch, rows // 2, 2, columns // 2, 2, channels)


def _downsample2_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return downsample2(x), x


def _downsample2_backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    squares = _squares(x)
    left = squares[:, :, :, :, 0] >= squares[:, :, :, :, 1]
    larger = squares.max(axis=4)
    top = larger[:, :, 0] >= larger[:, :, 1]
    rows = jnp.stack([jnp.where(top, gradient, 0), jnp.where(top, 0, gradient)], axis=2)
    return (jnp.stack([jnp.where(left, rows, 0), jnp.where(left, 0, rows)], axis=4).reshape(x.shape),)


downsample2.defvjp(_downsample2_forward, _downsample2_backward)


def mean_pool(x: jax.Array, factor: int) -> jax.Array:
    """Mean over `factor` x `factor` pixels; sides must be divisible by `factor`."""
    if factor == 1:
        return x
    batch, rows, columns, channels = x.shape
    return x.reshape(batch, rows // factor, factor, columns // factor, factor, channels).mean(axis=(2, 4))


def fold_pixels(x: jax.Array, factor: int) -> jax.Array:
    """`[b, h, w, c]` -> `[b, h / n, w / n, n n c]`; channel (i n + j) c + k is channel k of a square's pixel (i, j)."""
    if factor == 1:
        return x
    batch, rows, columns, channels = x.shape
    x = x.reshape(batch, rows // factor, factor, columns // factor, factor, channels).swapaxes(2, 3)
    return x.reshape(batch, rows // factor, columns // factor, factor * factor * channels)


def unfold_pixels(x: jax.Array, factor: int) -> jax.Array:
    """The inverse of `fold_pixels`: `[b, h, w, n n c]` -> `[b, n h, n w, c]`."""
    if factor == 1:
        return x
    batch, rows, columns, channels = x.shape
    x = x.reshape(batch, rows, columns, factor, factor, channels // factor**2).swapaxes(2, 3)
    return x.reshape(batch, rows * factor, columns * factor, channels // factor**2)


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
