"""Resampling against the general routines that it replaces, and by hand."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from msanet_jax.networks.resampling import downsample2, fold_pixels, mean_pool, unfold_pixels, upsample2


def _random(*shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(0), shape)


def test_upsample2_equals_bilinear_resize() -> None:
    x = _random(2, 5, 7, 3)
    expected = jax.image.resize(x, (2, 10, 14, 3), "bilinear")
    np.testing.assert_allclose(upsample2(x), expected, atol=1e-6)


def test_downsample2_equals_max_pool() -> None:
    x = _random(2, 6, 8, 3)
    np.testing.assert_array_equal(downsample2(x), nn.max_pool(x, (2, 2), (2, 2)))


def test_downsample2_gradient_equals_that_of_max_pool() -> None:
    x, weight = _random(2, 6, 8, 3), jax.random.normal(jax.random.key(1), (2, 3, 4, 3))
    found = jax.grad(lambda x: (weight * downsample2(x)).sum())(x)
    expected = jax.grad(lambda x: (weight * nn.max_pool(x, (2, 2), (2, 2))).sum())(x)
    np.testing.assert_array_equal(found, expected)


def test_downsample2_gradient_goes_to_the_first_of_equals() -> None:
    x = jnp.array([[3.0, 3.0, 1.0, 2.0], [3.0, 0.0, 2.0, 0.0]]).reshape(1, 2, 4, 1)
    found = jax.grad(lambda x: (downsample2(x)[0, 0, :, 0] * jnp.array([5.0, 7.0])).sum())(x)
    np.testing.assert_array_equal(found[0, :, :, 0], [[5.0, 0.0, 0.0, 7.0], [0.0, 0.0, 0.0, 0.0]])


def test_mean_pool_by_hand() -> None:
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_allclose(mean_pool(x, 2)[0, :, :, 0], [[2.5, 4.5], [10.5, 12.5]])
    assert mean_pool(x, 1) is x


def test_folding_by_hand_and_back() -> None:
    x = jnp.arange(32.0).reshape(1, 4, 4, 2)
    folded = fold_pixels(x, 2)
    assert folded.shape == (1, 2, 2, 8)
    # The square of rows 2 to 3 and columns 0 to 1, pixel by pixel.
    np.testing.assert_array_equal(folded[0, 1, 0], [16, 17, 18, 19, 24, 25, 26, 27])
    np.testing.assert_array_equal(unfold_pixels(folded, 2), x)
    assert fold_pixels(x, 1) is x and unfold_pixels(x, 1) is x
