"""Batch normalisation with its ReLU as one operation: fewer passes over memory than a norm and a ReLU apart.

y = act((x - m) / sqrt(v + eps) * scale + offset), m and v per channel over batch, rows, columns and devices (Ioffe and
Szegedy 2015). In training it is bound by memory, not by arithmetic: forward is one pass for the two sums and one for
the result; backward is one pass for two sums and one for dx = a g + b x + c, whose three coefficients per channel are
small. What is saved is x alone. Sums and coefficients are float32 whatever the type of x.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

EPSILON = 1e-5
AXES = (0, 1, 2)


def normalize_running(
    x: jax.Array, scale: jax.Array, offset: jax.Array, mean: jax.Array, variance: jax.Array, *, relu: bool
) -> jax.Array:
    """With given statistics, `[b, h, w, c]` -> the same shape and type."""
    factor = scale * jax.lax.rsqrt(variance + EPSILON)
    return _affine(x, factor, offset - mean * factor, relu)


def normalize_batch(
    x: jax.Array, scale: jax.Array, offset: jax.Array, *, relu: bool, axis_name: str | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """With the statistics of the batch, over all devices of `axis_name`.

    Args:
      x: `[b, h, w, c]`.
      scale: `[c]` float32.
      offset: `[c]` float32.
      relu: whether the result passes through a ReLU.
      axis_name: device axis, or None.

    Returns:
      Result, mean `[c]` and (biased) variance `[c]`; no gradient passes through the last two.
    """
    result, mean, variance = _normalize(x, scale, offset, relu, axis_name)
    return result, jax.lax.stop_gradient(mean), jax.lax.stop_gradient(variance)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _normalize(
    x: jax.Array, scale: jax.Array, offset: jax.Array, relu: bool, axis_name: str | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    mean, variance = _statistics(x, axis_name)
    return normalize_running(x, scale, offset, mean, variance, relu=relu), mean, variance


def _statistics(x: jax.Array, axis_name: str | None) -> tuple[jax.Array, jax.Array]:
    # Each sum is a reduction of its own: the compiler fuses the square into it and both read x once from the cache.
    wide = x.astype(jnp.float32)
    moments = jnp.stack([wide.mean(axis=AXES), jnp.square(wide).mean(axis=AXES)])
    if axis_name is not None:
        moments = jax.lax.pmean(moments, axis_name)
    return moments[0], jnp.maximum(moments[1] - jnp.square(moments[0]), 0.0)


def _affine(x: jax.Array, factor: jax.Array, shift: jax.Array, relu: bool) -> jax.Array:
    y = x.astype(jnp.float32) * factor + shift
    return (jnp.maximum(y, 0) if relu else y).astype(x.dtype)


Saved = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]


def _forward(
    x: jax.Array, scale: jax.Array, offset: jax.Array, relu: bool, axis_name: str | None
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], Saved]:
    result, mean, variance = _normalize(x, scale, offset, relu, axis_name)
    return (result, mean, variance), (x, scale, offset, mean, variance)


def _backward(
    relu: bool, axis_name: str | None, saved: Saved, gradients: tuple[jax.Array, jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale, offset, mean, variance = saved
    gradient = gradients[0]
    inverse = jax.lax.rsqrt(variance + EPSILON)
    factor = scale * inverse
    if relu:
        positive = _affine(x, factor, offset - mean * factor, relu=False) > 0
        gradient = jnp.where(positive, gradient, 0)
    wide = gradient.astype(jnp.float32)
    sum_gradient = wide.sum(axis=AXES)
    sum_product = (wide * x.astype(jnp.float32)).sum(axis=AXES)
    scale_gradient = (sum_product - mean * sum_gradient) * inverse
    offset_gradient = sum_gradient
    # Means over the whole batch: the statistics that x helped to make were those of all devices.
    pixels = x.size // x.shape[-1]
    means = jnp.stack([offset_gradient, scale_gradient]) / pixels
    if axis_name is not None:
        means = jax.lax.pmean(means, axis_name)
    along = -factor * inverse * means[1]
    constant = -factor * means[0] - along * mean
    x_gradient = wide * factor + x.astype(jnp.float32) * along + constant
    return x_gradient.astype(x.dtype), scale_gradient, offset_gradient


_normalize.defvjp(_forward, _backward)
