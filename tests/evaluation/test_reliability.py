"""Calibration on probabilities whose truth is known: shares counted by hand, and truth drawn from the probabilities."""

from __future__ import annotations

import logging
import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, logit

from msanet_jax.evaluation.field_maps import LARGEST, calibrate, marks
from msanet_jax.evaluation.reliability import KNOTS, LEAST_PIXELS, fit_calibration, largest_gap
from msanet_jax.evaluation.results import Calibration

BENT = Calibration(KNOTS, -5.0, (0.9, 0.1, 1.2, 0.4, 0.3))


def _drawn(images: int = 4, side: int = 200) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    honest = random.beta(0.3, 1.2, (images, side, side)).astype(np.float32)
    return honest, random.uniform(size=honest.shape) < honest


def test_shares_at_the_knots_by_hand() -> None:
    """Pixels at the knots alone: the greatest likelihood is where every probability is the share of lesion."""
    shares = np.array([1, 4, 30, 90]) / 100
    maps = np.repeat(expit(KNOTS), 100).reshape(4, 10, 10)
    truths = (np.arange(400) % 100 < np.repeat(100 * shares, 100)).reshape(maps.shape)
    found = fit_calibration(maps, truths)
    assert found is not None and found.knots == KNOTS
    assert found.level == pytest.approx(logit(0.01), abs=1e-3)
    np.testing.assert_allclose(found.slopes[1:-1], np.diff(logit(shares)) / 3, atol=1e-3)
    np.testing.assert_allclose(calibrate(expit(KNOTS), found), shares, rtol=2e-3)


def test_the_map_by_hand_on_both_sides_of_every_knot() -> None:
    logits = [-8.0, -6.0, -4.0, -3.0, -1.0, 0.0, 2.0, 3.0, 5.0]
    wanted = [-6.8, -5.0, -4.8, -4.7, -2.3, -1.1, -0.3, 0.1, 0.7]
    np.testing.assert_allclose(calibrate(expit(logits), BENT), expit(wanted), rtol=1e-5)


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (0.6, 0.4), (1.8, -0.7)])
def test_a_line_of_the_logit_that_spoilt_honest_probabilities_is_undone(slope: float, shift: float) -> None:
    honest, truths = _drawn()
    spoilt = expit((logit(np.clip(honest, 1e-9, LARGEST)) - shift) / slope).astype(np.float32)
    found = fit_calibration(spoilt, truths)
    assert found is not None
    assert found.slopes[2:4] == pytest.approx((slope, slope), rel=0.05)
    np.testing.assert_allclose(calibrate(spoilt, found), honest, atol=0.02)
    assert largest_gap(calibrate(spoilt, found), truths, bins=15) < 0.03
    assert (largest_gap(spoilt, truths, bins=15) > 0.08) == (slope != 1.0)


def test_order_and_marks_stay() -> None:
    """The steps are far below those of any slider, in the flattest part, too."""
    maps = expit(np.linspace(-15.0, 12.0, 20_001)).astype(np.float32)
    for calibration in (BENT, Calibration((0.0,), 3.0, (9.0, 0.1))):
        found = calibrate(maps, calibration)
        assert found.dtype == np.float32 and found.min() > 0.0 and found.max() < 1.0
        assert (np.diff(found) >= 0).all() and (np.diff(found[(maps > 1e-4) & (maps < 0.99)]) > 0).all()
    threshold = np.float32(0.345)
    np.testing.assert_array_equal(marks(calibrate(maps, BENT), float(calibrate(threshold, BENT))), maps > threshold)


def test_ends_are_finite_and_jax_gives_the_same() -> None:
    maps = np.array([0.0, 1e-30, 1e-6, 0.3, 0.9999, 1.0], np.float32)
    steep = Calibration((0.0,), 0.0, (10.0, 10.0))
    for calibration in (BENT, steep):
        found = calibrate(maps, calibration)
        assert np.isfinite(found).all() and (np.diff(found) >= 0).all()
        np.testing.assert_allclose(calibrate(jnp.asarray(maps), calibration, xp=jnp), found, rtol=2e-4)


def test_separable_pixels_have_a_finite_calibration() -> None:
    truths = np.arange(200).reshape(1, 10, 20) < 20
    found = fit_calibration(np.where(truths, 0.6, 0.2), truths)
    assert found is not None and max(found.slopes) <= 10.0
    low, high = calibrate([0.2, 0.6], found)
    assert low < 1e-3 and high > 0.999


@pytest.mark.parametrize("lesion", [False, True])
def test_without_lesion_or_without_anything_else_nothing_is_fitted(
    lesion: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert fit_calibration(np.full((1, 4, 4), 0.2), np.full((1, 4, 4), lesion)) is None
    assert "probabilities are not calibrated" in caplog.text


@pytest.mark.parametrize(("knots", "slopes"), [((0.0, 0.0), (1.0,) * 3), ((1.0, 0.0), (1.0,) * 3), ((0.0,), (1.0,))])
def test_no_calibration(knots: tuple[float, ...], slopes: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="ascending knots and a slope more"):
        Calibration(knots, 0.0, slopes)


def test_gap_by_hand_and_of_bins_with_enough_pixels() -> None:
    """0.25 of which 1/10 is lesion: 0.15. A few pixels at 0.75 that are never lesion do not count."""
    maps = np.full((1, 10, LEAST_PIXELS // 5), 0.25)
    truths = np.zeros(maps.shape, bool)
    truths[:, 0] = True
    assert largest_gap(maps, truths, bins=2) == pytest.approx(0.15)
    maps[0, 9, :10] = 0.75
    assert largest_gap(maps, truths, bins=2) == pytest.approx(abs(0.25 - 40 / 390))
    assert math.isnan(largest_gap(maps[:, :1, :10], truths[:, :1, :10], bins=2))
