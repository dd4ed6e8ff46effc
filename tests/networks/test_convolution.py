"""Convolutions with a fast path against XLA's own, forward and both gradients."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msanet_jax.networks.convolution import (
    convolve,
    convolve_halving,
    phased_input_gradient,
    plain_convolution,
    plain_halving,
    plain_input_gradient,
)
from msanet_jax.networks.layers import Convolution


def _normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def _assert_same(
    ours: Callable[[jax.Array, jax.Array], jax.Array],
    reference: Callable[[jax.Array, jax.Array], jax.Array],
    x: jax.Array,
    kernel: jax.Array,
) -> None:
    expected, expected_pull = jax.vjp(reference, x, kernel)
    found, pull = jax.vjp(ours, x, kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    cotangent = _normal(3, *expected.shape)
    for ours_gradient, reference_gradient in zip(pull(cotangent), expected_pull(cotangent), strict=True):
        np.testing.assert_allclose(ours_gradient, reference_gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("size", "dilation"), [(1, 1), (3, 1), (3, 2), (3, 8), (5, 1)])
@pytest.mark.parametrize("channels", [1, 5])
def test_convolution(size: int, dilation: int, channels: int) -> None:
    _assert_same(
        lambda x, kernel: convolve([x], kernel, dilation),
        lambda x, kernel: plain_convolution(x, kernel, dilation),
        _normal(0, 2, 8, 12, channels),
        _normal(1, size, size, channels, 7),
    )


@pytest.mark.parametrize("channels", [2, 20])
def test_halving_convolution(channels: int) -> None:
    _assert_same(convolve_halving, plain_halving, _normal(0, 2, 8, 12, channels), _normal(1, 4, 4, channels, 3))


def test_phased_gradient_needs_no_padding_trick() -> None:
    gradient, kernel = _normal(0, 1, 3, 5, 4), _normal(1, 4, 4, 2, 4)
    np.testing.assert_allclose(
        phased_input_gradient(gradient, kernel), plain_input_gradient(gradient, kernel), rtol=1e-5, atol=1e-5
    )


def test_under_vmap_with_a_shared_kernel() -> None:
    x, kernel = _normal(0, 3, 2, 8, 8, 2), _normal(1, 4, 4, 2, 3)

    def loss(function: Callable[[jax.Array, jax.Array], jax.Array], kernel: jax.Array) -> jax.Array:
        return jnp.square(jax.vmap(lambda image: function(image, kernel))(x)).sum()

    ours = jax.grad(lambda kernel: loss(convolve_halving, kernel))(kernel)
    np.testing.assert_allclose(ours, jax.grad(lambda kernel: loss(plain_halving, kernel))(kernel), rtol=1e-4)


def test_halving_in_bfloat16_is_close_to_float32() -> None:
    x, kernel = _normal(0, 2, 8, 8, 3), _normal(1, 4, 4, 3, 5)
    cotangent = _normal(2, 2, 4, 4, 5)
    _, exact = jax.vjp(convolve_halving, x, kernel)
    _, rough = jax.vjp(convolve_halving, x.astype("bfloat16"), kernel.astype("bfloat16"))
    for ours, reference in zip(rough(cotangent.astype("bfloat16")), exact(cotangent), strict=True):
        assert ours.dtype == jnp.bfloat16
        np.testing.assert_allclose(ours.astype(jnp.float32), reference, rtol=0.03, atol=0.15)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parts_are_the_concatenation(dtype: str) -> None:
    first, second, kernel = (
        array.astype(dtype) for array in (_normal(0, 2, 6, 6, 3), _normal(1, 2, 6, 6, 4), _normal(2, 3, 3, 7, 5))
    )
    expected, expected_pull = jax.vjp(
        lambda a, b, k: plain_convolution(jnp.concatenate([a, b], axis=-1), k, 2), first, second, kernel
    )
    found, pull = jax.vjp(lambda a, b, k: convolve([a, b], k, 2), first, second, kernel)
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == "float32" else {"rtol": 0.02, "atol": 0.1}
    cotangent = _normal(3, *expected.shape).astype(dtype)
    for ours, reference in zip((found, *pull(cotangent)), (expected, *expected_pull(cotangent)), strict=True):
        assert ours.dtype == reference.dtype
        np.testing.assert_allclose(ours.astype(jnp.float32), reference.astype(jnp.float32), **tolerance)


def test_module_takes_parts() -> None:
    module = Convolution(features=5, kernel=3)
    variables = module.init(jax.random.key(0), _normal(0, 1, 6, 6, 3), _normal(1, 1, 6, 6, 4))
    assert variables["params"]["kernel"].shape == (3, 3, 7, 5)
