"""Candidates and the FROC curve by hand."""

from __future__ import annotations

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.msanet import get_config
from msanet_jax.evaluation.froc import (
    Candidates,
    find_candidates,
    find_peaks,
    froc_curve,
    froc_score,
    hit_zones,
    rank_candidates,
    sensitivities,
)


def _section() -> ConfigDict:
    section = get_config().evaluate
    section.froc_peak_distance_mm = 6.0
    section.froc_hit_distance_mm = 2.0
    section.froc_probability_min = 0.05
    return section


def _scene() -> tuple[np.ndarray, np.ndarray]:
    """Lesion 1 hit by 0.9 and, weaker, by 0.6; lesion 2 hit from one pixel beside by 0.5; lesion 3 missed."""
    ids = np.zeros((40, 40), np.uint8)
    ids[5:8, 5:15] = 1
    ids[20, 20] = 2
    ids[35:38, 35:38] = 3
    probability = np.zeros((40, 40), np.float32)
    probability[6, 6], probability[6, 13] = 0.9, 0.6
    probability[20, 21] = 0.5
    probability[20, 19] = 0.4  # within 3 pixels of a higher one: no peak
    probability[0, 39] = 0.8  # false, in the corner
    probability[30, 5] = 0.3  # false
    probability[36, 36] = 0.04  # too faint
    return ids, probability


def test_candidates_by_hand() -> None:
    ids, probability = _scene()
    found = find_candidates(probability, ids, pixel_size_mm=(2.0, 2.0), evaluate=_section())
    assert found.lesion_scores == pytest.approx({1: 0.9, 2: 0.5, 3: 0.0})
    assert found.false_scores.tolist() == pytest.approx([0.8, 0.3])


def test_hit_distance_counts_in_mm() -> None:
    ids = np.zeros((9, 9), np.uint8)
    ids[4, 4] = 7
    zone = hit_zones(ids, pixel_size_mm=(2.0, 4.0), distance_mm=4.0)
    rows, columns = np.nonzero(zone)
    assert set(zip((rows - 4).tolist(), (columns - 4).tolist(), strict=True)) == {
        (0, 0), (1, 0), (-1, 0), (2, 0), (-2, 0), (0, 1), (0, -1),
    }  # fmt: skip
    assert set(zone[zone > 0].tolist()) == {7}
    assert not hit_zones(np.zeros((3, 3), np.uint8), pixel_size_mm=(1.0, 1.0), distance_mm=9.0).any()


def test_plateaus_and_flat_maps() -> None:
    flat = find_peaks(np.ones((12, 12), np.float32), distance_px=3, minimum=0.01)
    assert len(flat) >= 4  # a saturated map is full of candidates, not free of them
    assert np.abs(flat[:, None] - flat[None]).max(axis=-1)[~np.eye(len(flat), dtype=bool)].min() >= 3
    assert not len(find_peaks(np.zeros((12, 12), np.float32), distance_px=3, minimum=0.01))


def test_curve_by_hand() -> None:
    """Two scans, three lesions, two of them hit: scores 0.9 hit, 0.8 false, 0.5 hit, 0.3 false."""
    images = [Candidates({1: 0.9, 2: 0.5, 3: 0.0}, np.array([0.8])), Candidates({}, np.array([0.3]))]
    curve = froc_curve(images)
    assert curve.thresholds.tolist() == [np.inf, 0.9, 0.8, 0.5, 0.3]
    assert curve.false_positives_per_scan.tolist() == [0.0, 0.0, 0.5, 0.5, 1.0]
    assert curve.sensitivity.tolist() == pytest.approx([0.0, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert froc_score(curve, (0.25, 0.5, 8.0)) == pytest.approx((1 / 3 + 2 / 3 + 2 / 3) / 3)


def test_score_of_samples_is_the_score_of_repeated_images() -> None:
    random = np.random.default_rng(0)
    images = [
        Candidates(
            {n: float(random.choice([0.0, random.uniform()])) for n in range(random.integers(0, 4))},
            random.uniform(size=random.integers(0, 5)),
        )
        for _ in range(6)
    ]
    weights = random.integers(0, 3, size=(10, 6))
    points = (0.25, 1.0, 4.0)
    expected = [
        froc_score(froc_curve([image for image, times in zip(images, row, strict=True) for _ in range(times)]), points)
        for row in weights
    ]
    np.testing.assert_allclose(sensitivities(weights, rank_candidates(images), points).mean(axis=1), expected)


def test_without_lesions_and_without_candidates() -> None:
    healthy = [Candidates({}, np.array([0.7]))]
    assert np.isnan(froc_score(froc_curve(healthy), (1.0,)))
    assert np.isnan(sensitivities(np.ones((2, 1)), rank_candidates(healthy), (1.0,))).all()
    blind = [Candidates({1: 0.0}, np.zeros(0))]
    assert froc_score(froc_curve(blind), (1.0, 2.0)) == 0.0


def test_peak_distance_counts_in_mm_of_the_mean_side() -> None:
    """12 mm are four pixels of 2 x 4 mm: a peak five columns from a higher one counts, one four columns away not."""
    section, ids = _section(), np.zeros((20, 20), np.uint8)
    section.froc_peak_distance_mm = 12.0
    probability = np.zeros((20, 20), np.float32)
    probability[10, 3], probability[10, 8], probability[10, 12] = 0.75, 0.5, 0.25
    found = find_candidates(probability, ids, pixel_size_mm=(2.0, 4.0), evaluate=section)
    assert found.false_scores.tolist() == [0.75, 0.5]
    section.froc_peak_distance_mm = 1.0  # less than a pixel: neighbours still are one peak
    probability[10, 4] = 0.625
    found = find_candidates(probability, ids, pixel_size_mm=(2.0, 4.0), evaluate=section)
    assert found.false_scores.tolist() == [0.75, 0.5, 0.25]


def test_a_peak_hits_the_nearest_lesion_only() -> None:
    """It lies 4 mm from lesion 1 and 2 mm from lesion 2, within 5 mm of both."""
    section, ids, probability = _section(), np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.float32)
    section.froc_hit_distance_mm = 5.0
    ids[4, 2], ids[5, 4] = 1, 2
    probability[4, 4] = 0.5
    found = find_candidates(probability, ids, pixel_size_mm=(2.0, 2.0), evaluate=section)
    assert found.lesion_scores == {1: 0.0, 2: 0.5}
    assert not len(found.false_scores)


def test_score_between_and_beyond_the_points() -> None:
    """One scan: the only false positive comes first, then two of four lesions; no threshold gives half of it."""
    curve = froc_curve([Candidates({1: 0.75, 2: 0.5, 3: 0.0, 4: 0.0}, np.array([0.875, 0.25]))])
    assert curve.false_positives_per_scan.tolist() == [0.0, 1.0, 1.0, 1.0, 2.0]
    assert curve.sensitivity.tolist() == [0.0, 0.0, 0.25, 0.5, 0.5]
    assert froc_score(curve, (0.0,)) == 0.0
    assert froc_score(curve, (2.0,)) == froc_score(curve, (8.0,)) == 0.5
    assert froc_score(curve, (0.0, 2.0, 4.0, 8.0)) == pytest.approx(1.5 / 4)
