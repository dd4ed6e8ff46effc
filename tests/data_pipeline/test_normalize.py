"""Normalisation: robust, level-free, the same in every array library."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow.experimental.numpy as tnp

from data_pipeline.normalize import bin_counts, binning_factor, body_level, normalize


@pytest.fixture(scope="module")
def body() -> np.ndarray:
    """A body of 30 counts per pixel with a brighter spine, in air."""
    expected = np.full((256, 256), 0.2)
    expected[20:, 60:200] = 30.0
    expected[20:, 120:140] = 60.0
    return np.random.default_rng(0).poisson(expected).astype(np.int32)


def test_body_is_near_one_and_air_near_zero(body: np.ndarray) -> None:
    x = normalize(body)
    assert x.dtype == np.float32
    assert np.mean(x[30:, 70:110]) == pytest.approx(1.0, abs=0.08)
    assert np.mean(x[:, :50]) < 0.1


def test_hot_spots_do_not_move_the_level(body: np.ndarray) -> None:
    level = body_level(np.sqrt(body.astype(np.float32))).item()
    for rows, columns, factor in ((slice(200, 240), slice(100, 140), 10), (slice(50, 70), slice(70, 90), 20)):
        hot = body.copy()
        hot[rows, columns] *= factor
        assert body_level(np.sqrt(hot.astype(np.float32))).item() == pytest.approx(level, rel=0.03)


def test_the_level_by_hand() -> None:
    """The means of the square roots between half and twice the last level are 86/64, 2, 8/3, 38/9 and 6."""
    roots = np.repeat([0.0, 2.0, 3.0, 5.0, 8.0], [49, 1, 2, 6, 6]).reshape(8, 8).astype(np.float32)
    assert body_level(roots).item() == pytest.approx(6.0)
    np.testing.assert_allclose(normalize(np.square(roots)), roots / 6.0, rtol=1e-6)


def test_count_level_drops_out(body: np.ndarray) -> None:
    half = np.random.default_rng(1).binomial(body, 0.5)
    assert normalize(half)[30:, 70:190].mean() == pytest.approx(normalize(body)[30:, 70:190].mean(), rel=0.02)


def test_noise_is_the_same_everywhere() -> None:
    """The square root's Poisson noise is 1/2 whatever the mean."""
    random = np.random.default_rng(2)
    for mean in (10, 40, 160):
        assert np.sqrt(random.poisson(mean, 100_000)).std() == pytest.approx(0.5, rel=0.03)


def test_same_in_every_library(body: np.ndarray) -> None:
    stack = np.stack([body, 400 * body])
    expected = normalize(stack)
    np.testing.assert_allclose(normalize(jnp.asarray(stack), jnp), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(normalize(tnp.asarray(stack), tnp), expected, rtol=1e-5, atol=1e-6)
    for alone, image in zip(stack, expected, strict=True):  # whatever its neighbours' counts
        np.testing.assert_allclose(normalize(alone), image, rtol=1e-6)


def test_empty_image_stays_zero() -> None:
    np.testing.assert_array_equal(normalize(np.zeros((8, 8), np.int32)), 0.0)


def test_binning_sums() -> None:
    image = np.arange(16).reshape(4, 4)
    np.testing.assert_array_equal(bin_counts(image, 2), [[10, 18], [42, 50]])
    assert bin_counts(image, 1) is image
    assert bin_counts(np.ones((3, 8, 8)), 4).shape == (3, 2, 2)
    with pytest.raises(ValueError, match="cannot be binned by 3"):
        bin_counts(image, 3)
    assert binning_factor(256, 128) == 2
    with pytest.raises(ValueError, match="image_size_px=100 does not divide"):
        binning_factor(256, 100)
