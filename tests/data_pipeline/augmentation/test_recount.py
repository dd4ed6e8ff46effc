"""Counts anew: the mean that is asked for, and Poisson noise as white as before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from data_pipeline.augmentation.recount import HIGHEST_MEAN, recount, thin

SEED = np.array([5, 6])


def _recount(counts: np.ndarray, kept: float | np.ndarray = 1.0, **changes: Any) -> np.ndarray:
    options = {"blur_px": np.zeros(2), "haze_px": np.zeros(2), "haze_share": 0.0, "seed": SEED} | changes
    return recount(counts, np.broadcast_to(kept, counts.shape), **options)


def test_thinning_is_binomial() -> None:
    counts = np.full((300, 300), 40, np.int32)
    kept = thin(counts, 0.3, np.array([1, 2]))
    assert kept.mean() == pytest.approx(12.0, rel=0.01)
    assert kept.var() == pytest.approx(40 * 0.3 * 0.7, rel=0.03)
    assert kept.max() <= 40
    np.testing.assert_array_equal(kept, thin(counts, 0.3, np.array([1, 2])))
    assert not np.array_equal(kept, thin(counts, 0.3, np.array([1, 3])))


def test_thinned_poisson_is_poisson() -> None:
    counts = np.random.default_rng(0).poisson(50.0, (300, 300))
    kept = thin(counts, 0.5, SEED)
    assert kept.var() / kept.mean() == pytest.approx(1.0, abs=0.03)


def test_everything_kept_in_its_place_is_the_scan() -> None:
    counts = np.random.default_rng(0).poisson(5.0, (30, 20)).astype(np.int32)
    np.testing.assert_array_equal(_recount(counts), counts)


def test_every_pixel_has_its_own_binomial() -> None:
    counts = np.full((200, 300), 20, np.int32)
    kept = np.where(np.arange(300) < 150, 0.25, 0.75)
    found = _recount(counts, kept)
    for half, share in ((found[:, :150], 0.25), (found[:, 150:], 0.75)):
        assert half.mean() == pytest.approx(20 * share, rel=0.01)
        assert half.var() == pytest.approx(20 * share * (1 - share), rel=0.04)
    np.testing.assert_array_equal(found, _recount(counts, kept))
    assert not np.array_equal(found, _recount(counts, kept, seed=SEED + 1))


def test_a_point_becomes_the_blur() -> None:
    """Variances are those of the blur and of rounding to whole pixels, 1 / 12; none is lost."""
    counts = np.zeros((101, 91), np.int32)
    counts[50, 40] = 200_000
    spread = _recount(counts, blur_px=np.array([2.0, 4.0]))
    rows, columns = np.mgrid[:101, :91]
    assert spread.sum() == 200_000
    for places, middle, sd in ((rows, 50, 2.0), (columns, 40, 4.0)):
        mean = (places * spread).sum() / 200_000
        assert mean == pytest.approx(middle, abs=0.2)
        assert ((places - mean) ** 2 * spread).sum() / 200_000 == pytest.approx(sd**2 + 1 / 12, rel=0.08)


def test_haze_takes_its_share() -> None:
    """A quarter moves by 12 pixels: of those 1 - exp(-(3 / 12)^2 / 2) = 0.031 end within 3 pixels."""
    counts = np.zeros((201, 201), np.int32)
    counts[100, 100] = 100_000
    spread = _recount(counts, haze_px=np.full(2, 12.0), haze_share=0.25)
    rows, columns = np.mgrid[:201, :201]
    far = np.hypot(rows - 100, columns - 100) > 3.0
    assert spread[far].sum() / 100_000 == pytest.approx(0.25 * np.exp(-((3 / 12) ** 2) / 2), abs=0.025)
    assert spread[100, 100] / 100_000 == pytest.approx(0.75, abs=0.025)


def test_noise_stays_white_and_poisson() -> None:
    counts = np.random.default_rng(0).poisson(20.0, (250, 250)).astype(np.int32)
    spread = _recount(counts, 0.5, blur_px=np.full(2, 1.5), haze_px=np.full(2, 10.0), haze_share=0.2)
    assert spread.mean() == pytest.approx(10.0, rel=0.01)
    assert spread.var() / spread.mean() == pytest.approx(1.0, abs=0.03)
    noise = spread - spread.mean()
    for shifted in (noise[1:] * noise[:-1], noise[:, 1:] * noise[:, :-1]):
        assert shifted.mean() / noise.var() == pytest.approx(0.0, abs=0.02)


def test_edges_reflect() -> None:
    """A flat image stays flat up to its edges, and a corner keeps its counts."""
    flat = np.full((60, 50), 30, np.int32)
    spread = _recount(flat, blur_px=np.full(2, 3.0))
    assert spread.sum() == flat.sum()
    for rim in (spread[0], spread[-1], spread[:, 0], spread[:, -1]):
        assert rim.mean() == pytest.approx(30.0, abs=4.0)
    corner = np.zeros((20, 30), np.int32)
    corner[0, 29] = 1000
    moved = _recount(corner, haze_px=np.full(2, 100.0), haze_share=1.0)
    assert moved.sum() == 1000 and moved[0, 29] < 500


def test_of_very_many_counts_a_share_is_followed() -> None:
    counts = np.full((100, 100), 1_000_000, np.int32)
    found = _recount(counts, 0.5)
    assert found.mean() == pytest.approx(HIGHEST_MEAN / 2, rel=0.02)
    assert found.var() / found.mean() == pytest.approx(1.0, abs=0.06)
