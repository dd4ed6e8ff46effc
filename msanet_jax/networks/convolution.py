"""Convolutions whose gradients are quick on a CPU: the one place with a fast path, its reference beside it in a test.

Forward, and backward on TPU and GPU, they are XLA's own. On a CPU XLA computes the gradient of the kernel as a
convolution with a kernel as large as the image, after transposing both; here it is a few matrix products. The gradient
of the input is the forward convolution with the flipped kernel.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

DIMENSIONS = ("NHWC", "HWIO", "NHWC")

PHASED_CHANNELS_MAX = 16
"""Up to here the dense form of a strided convolution's input gradient was quicker than the sparse one."""


def convolve(parts: Sequence[jax.Array], kernel: jax.Array, dilation: int = 1) -> jax.Array:
    """Convolution with stride 1 and zeros outside, of an array or of the parts of one that was never joined.

    A convolution of a concatenation is the sum of the convolutions of its parts with the parts of the kernel. On a CPU
    the narrower ones are quicker and the copy is spared; elsewhere, and below float32, where the sum would be rounded
    twice, the parts are joined.

    Args:
      parts: `[b, h, w, c_i]`.
      kernel: `[k, k, sum c_i, f]`, k odd.
      dilation: distance of neighbouring taps.

    Returns:
      `[b, h, w, f]`.
    """
    if len(parts) == 1 and kernel.shape[:3] == (1, 1, 1):
        return parts[0] * kernel[0, 0, 0]  # an outer product; as a matrix product it costs more than the norm behind it
    return _convolve(tuple(parts), kernel, dilation)


Parts = tuple[jax.Array, ...]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(parts: Parts, kernel: jax.Array, dilation: int) -> jax.Array:
    def joined(kernel: jax.Array, *parts: jax.Array) -> jax.Array:
        return plain_convolution(jnp.concatenate(parts, axis=-1), kernel, dilation)

    def summed(kernel: jax.Array, *parts: jax.Array) -> jax.Array:
        kernels = _split(kernel, parts, axis=2)
        convolved = [plain_convolution(part, own, dilation) for part, own in zip(parts, kernels, strict=True)]
        return functools.reduce(jnp.add, convolved)

    if len(parts) == 1:
        return plain_convolution(parts[0], kernel, dilation)
    on_cpu = summed if kernel.dtype == jnp.float32 else joined
    return jax.lax.platform_dependent(kernel, *parts, cpu=on_cpu, default=joined)


def plain_convolution(x: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
    """XLA's convolution with XLA's gradients: the reference."""
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", rhs_dilation=(dilation, dilation), dimension_numbers=DIMENSIONS
    )


def _split(x: jax.Array, parts: Parts, axis: int) -> Parts:
    """Cuts `x` along `axis` as the parts' channels lie."""
    ends = itertools.accumulate(part.shape[-1] for part in parts)
    return tuple(jnp.split(x, list(ends)[:-1], axis=axis))


def _forward(parts: Parts, kernel: jax.Array, dilation: int) -> tuple[jax.Array, tuple[Parts, jax.Array]]:
    return _convolve(parts, kernel, dilation), (parts, kernel)


def _backward(dilation: int, saved: tuple[Parts, jax.Array], gradient: jax.Array) -> tuple[Parts, jax.Array]:
    parts, kernel = saved
    size = kernel.shape[0]

    def apart(gradient: jax.Array, kernel: jax.Array, *parts: jax.Array) -> tuple[Parts, jax.Array]:
        flipped = [_flip(own) for own in _split(kernel, parts, axis=2)]
        kernels = [product_kernel_gradient(part, gradient, size=size, dilation=dilation) for part in parts]
        return tuple(plain_convolution(gradient, own, dilation) for own in flipped), jnp.concatenate(kernels, axis=2)

    def joined(gradient: jax.Array, kernel: jax.Array, *parts: jax.Array) -> tuple[Parts, jax.Array]:
        x = jnp.concatenate(parts, axis=-1)
        x_gradient = plain_convolution(gradient, _flip(kernel), dilation)
        kernel_gradient = plain_kernel_gradient(x, gradient, size=size, dilation=dilation)
        return _split(x_gradient, parts, axis=-1), kernel_gradient.astype(jnp.float32)

    gradients, kernel_gradient = jax.lax.platform_dependent(gradient, kernel, *parts, cpu=apart, default=joined)
    return gradients, kernel_gradient.astype(kernel.dtype)


def _flip(kernel: jax.Array) -> jax.Array:
    """The kernel of the input's gradient."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


_convolve.defvjp(_forward, _backward)


def plain_kernel_gradient(x: jax.Array, gradient: jax.Array, *, size: int, dilation: int) -> jax.Array:
    """d/d kernel of `plain_convolution`, `[k, k, c, f]`, as XLA derives it."""
    zeros = jnp.zeros((size, size, x.shape[-1], gradient.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda kernel: plain_convolution(x, kernel, dilation), zeros)(gradient)[0]


def product_kernel_gradient(x: jax.Array, gradient: jax.Array, *, size: int, dilation: int) -> jax.Array:
    """The same by k matrix products, dw[i, j] = sum over rows r and columns c of x[r + i, c]^T g[r, c - j].

    The horizontal taps of g stand side by side in one factor, so that k copies serve k^2 taps.
    """
    rows, columns, channels, features = *x.shape[1:], gradient.shape[-1]
    reach = dilation * (size // 2)
    taps = [dilation * number for number in range(size)]
    tall = jnp.pad(x, ((0, 0), (reach, reach), (0, 0), (0, 0)))
    wide = jnp.pad(gradient, ((0, 0), (0, 0), (reach, reach), (0, 0)))
    right = jnp.concatenate([wide[:, :, tap : tap + columns] for tap in reversed(taps)], axis=-1)
    right = right.reshape(-1, size * features)
    products = [_contract(tall[:, tap : tap + rows].reshape(-1, channels), right) for tap in taps]
    return jnp.stack(products).reshape(size, channels, size, features).swapaxes(1, 2)


def _contract(a: jax.Array, b: jax.Array) -> jax.Array:
    """`a^T b` over the first axis, summed in float32."""
    return jax.lax.dot_general(a, b, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)


def convolve_halving(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`[b, h, w, c]` * `[4, 4, c, f]` -> `[b, h / 2, w / 2, f]`, stride 2, a row of zeros on every side."""
    return _convolve_halving(x, kernel)


def plain_halving(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """XLA's strided convolution with XLA's gradients: the reference."""
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=DIMENSIONS)


_convolve_halving = jax.custom_vjp(plain_halving)


def _halving_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return plain_halving(x, kernel), (x, kernel)


def _halving_backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    narrow = kernel.shape[2] <= PHASED_CHANNELS_MAX
    x_gradient = jax.lax.platform_dependent(
        gradient,
        kernel,
        cpu=phased_input_gradient if narrow else plain_input_gradient,
        default=plain_input_gradient,
    )

    def plain(x: jax.Array, gradient: jax.Array) -> jax.Array:
        return plain_halving_kernel_gradient(x, gradient).astype(jnp.float32)  # as the products are

    kernel_gradient = jax.lax.platform_dependent(x, gradient, cpu=product_halving_kernel_gradient, default=plain)
    return x_gradient, kernel_gradient.astype(kernel.dtype)


_convolve_halving.defvjp(_halving_forward, _halving_backward)


def plain_halving_kernel_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """d/d kernel of `plain_halving`, `[4, 4, c, f]`, as XLA derives it."""
    zeros = jnp.zeros((4, 4, x.shape[-1], gradient.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda kernel: plain_halving(x, kernel), zeros)(gradient)[0]


def product_halving_kernel_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """The same by one matrix product, dw[2 a + p, 2 b + q] = sum over i, j of x_pq[i + a, j + b]^T g[i, j].

    x_pq are the four phases of the padded image, side by side as channels; so are the four shifts of g.
    """
    batch, rows, columns, channels = x.shape
    features = gradient.shape[-1]
    half_rows, half_columns = rows // 2 + 1, columns // 2 + 1
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(batch, half_rows, 2, half_columns, 2, channels)
    left = padded.swapaxes(2, 3).reshape(-1, 4 * channels)
    framed = jnp.pad(gradient, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [framed[:, 1 - a : 1 - a + half_rows, 1 - b : 1 - b + half_columns] for a in (0, 1) for b in (0, 1)]
    product = _contract(left, jnp.concatenate(shifts, axis=-1).reshape(-1, 4 * features))
    taps = product.reshape(2, 2, channels, 2, 2, features).transpose(3, 0, 4, 1, 2, 5)
    return taps.reshape(4, 4, channels, features)


def plain_input_gradient(gradient: jax.Array, kernel: jax.Array) -> jax.Array:
    """d/dx of `plain_halving`, as XLA derives it: a convolution over the gradient widened with zeros."""
    batch, rows, columns, _ = gradient.shape
    zeros = jnp.zeros((batch, 2 * rows, 2 * columns, kernel.shape[2]), gradient.dtype)
    return jax.linear_transpose(lambda x: plain_halving(x, kernel), zeros)(gradient)[0]


def phased_input_gradient(gradient: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same as one dense 3 x 3 convolution that gives the four pixels of every 2 x 2 block as channels.

    Pixel 2 i + p of an axis is seen by output i with tap p + 1 and by output i - 1 (p = 0, tap 3) or i + 1 (p = 1,
    tap 0); the other of the three neighbours has weight zero.
    """
    batch, rows, columns, features = gradient.shape
    channels = kernel.shape[2]
    zero = jnp.zeros_like(kernel[:1])
    even = jnp.concatenate([kernel[3:4], kernel[1:2], zero])
    odd = jnp.concatenate([zero, kernel[2:3], kernel[0:1]])
    tall = jnp.stack([even, odd])  # [phase, 3, 4, c, f]
    zero = jnp.zeros_like(tall[:, :, :1])
    even = jnp.concatenate([tall[:, :, 3:4], tall[:, :, 1:2], zero], axis=2)
    odd = jnp.concatenate([zero, tall[:, :, 2:3], tall[:, :, 0:1]], axis=2)
    phases = jnp.stack([even, odd], axis=1)  # [phase, phase, 3, 3, c, f]
    dense = phases.transpose(2, 3, 5, 0, 1, 4).reshape(3, 3, features, 4 * channels)
    pixels = plain_convolution(gradient, dense, 1).reshape(batch, rows, columns, 2, 2, channels)
    return pixels.swapaxes(2, 3).reshape(batch, 2 * rows, 2 * columns, channels)
