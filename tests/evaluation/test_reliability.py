"""Temperature scaling on probabilities whose truth is drawn from them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from msanet_jax.evaluation.reliability import LEAST_PIXELS, fit_temperature, largest_gap, reliability, tempered


def _drawn(images: int = 3, side: int = 200) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    honest = random.beta(0.5, 2.0, (images, side, side))
    return honest, random.uniform(size=honest.shape) < honest


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_spoilt_honest_probabilities_is_found(temperature: float) -> None:
    honest, truths = _drawn()
    spoilt = tempered(honest, 1.0 / temperature).astype(np.float32)
    assert fit_temperature(spoilt, truths) == pytest.approx(temperature, rel=0.03)
    found = reliability(spoilt, truths, temperature=temperature, bins=15)
    assert found["gap_tempered"] < 0.03
    assert found["gap"] > 0.1 or temperature == 1.0
    np.testing.assert_allclose(tempered(spoilt, temperature), honest, atol=2e-3)


def test_order_and_marks_stay() -> None:
    p = np.array([0.0, 0.1, 0.345, 0.346, 1.0])
    for temperature in (0.3, 4.0):
        scaled = tempered(p, temperature)
        assert (np.diff(scaled) > 0).all()
        assert ((scaled > tempered(0.345, temperature)) == (p > 0.345)).all()


def test_without_lesion_nothing_is_fitted() -> None:
    assert fit_temperature(np.full((1, 4, 4), 0.2), np.zeros((1, 4, 4), bool)) == 1.0


def test_gap_by_hand_and_of_bins_with_enough_pixels() -> None:
    """0.25 of which 1/10 is lesion: 0.15. A few pixels at 0.75 that are never lesion do not count."""
    maps = np.full((1, 10, LEAST_PIXELS // 5), 0.25)
    truths = np.zeros(maps.shape, bool)
    truths[:, 0] = True
    assert largest_gap(maps, truths, bins=2) == pytest.approx(0.15)
    maps[0, 9, :10] = 0.75
    assert largest_gap(maps, truths, bins=2) == pytest.approx(abs(0.25 - 40 / 390))
    assert math.isnan(largest_gap(maps[:, :1, :10], truths[:, :1, :10], bins=2))
