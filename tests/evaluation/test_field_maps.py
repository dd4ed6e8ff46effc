"""From counts to probability on the field's grid: by hand, against SciPy, and the same under JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from data_pipeline.errors import RequestError
from data_pipeline.normalize import bin_counts, normalize
from msanet_jax.evaluation.field_maps import field_probability, marks, resample


def test_two_pixels_become_four_by_hand() -> None:
    """New centres lie at -1/4, 1/4, 3/4 and 5/4 of the old ones; outside of them the value stays."""
    enlarged = resample(np.array([[0.0, 1.0]], np.float32), (1, 4))
    np.testing.assert_array_equal(enlarged, [[0.0, 0.25, 0.75, 1.0]])
    assert enlarged.dtype == np.float32
    corner = resample(np.array([[0.0, 0.0], [0.0, 1.0]], np.float32), (4, 4))
    np.testing.assert_array_equal(corner, np.outer([0.0, 0.25, 0.75, 1.0], [0.0, 0.25, 0.75, 1.0]))


@pytest.mark.parametrize(
    ("old", "new"), [((8, 4), (32, 16)), ((16, 16), (48, 40)), ((16, 12), (7, 5)), ((1, 3), (4, 3))]
)
def test_against_scipy(old: tuple[int, int], new: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).random((2, *old), np.float32)
    factors = (1, new[0] / old[0], new[1] / old[1])
    expected = ndimage.zoom(maps.astype(float), factors, order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(resample(maps, new), expected, atol=1e-6)


def test_values_stay_between_0_and_1_and_a_mirrored_map_is_mirrored() -> None:
    maps = np.random.default_rng(1).choice(np.float32([0.0, 1e-7, 0.3, 1.0]), (3, 16, 16))
    for size in (64, 100):
        whole = resample(maps, (size, size))
        assert whole.min() >= 0.0 and whole.max() <= 1.0
    np.testing.assert_array_equal(resample(maps[..., ::-1], (64, 64)), resample(maps, (64, 64))[..., ::-1])
    assert resample(maps, (16, 16)) is maps


def test_the_way_from_counts() -> None:
    """Binned, normalised, through the network, enlarged; JAX gives the same as NumPy."""
    counts = np.random.default_rng(2).poisson(9.0, (3, 32, 16)).astype(np.int32)
    probability = field_probability(lambda images: images[..., 0] / 4, 4)
    expected = resample(normalize(bin_counts(counts, 4)) / 4, (32, 16))
    np.testing.assert_array_equal(probability(counts), expected)
    traced = jax.jit(field_probability(lambda images: images[..., 0] / 4, 4, xp=jnp))
    np.testing.assert_allclose(traced(counts), expected, atol=1e-6)
    assert not probability(np.zeros_like(counts)).any()
    with pytest.raises(RequestError, match="image_size_px=5 does not divide the 16 pixels"):
        field_probability(lambda images: images[..., 0], 5)(counts)


def test_marks_lie_above_the_threshold_in_the_maps_precision() -> None:
    """0.3 is no float32: the float32 nearest to it does not exceed it, whatever type the threshold has."""
    maps = np.array([0.25, 0.3, np.nextafter(np.float32(0.3), np.float32(1))], np.float32)
    for threshold in (0.3, np.float64(0.3)):
        assert marks(maps, threshold).tolist() == [False, False, True]
