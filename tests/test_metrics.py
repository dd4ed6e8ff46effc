"""Pixel and lesion metrics: by hand, and against scikit-learn and scikit-image."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from skimage.measure import label
from sklearn.metrics import f1_score, precision_score, recall_score

from msanet_jax.intervals import bootstrap_interval
from msanet_jax.lesion_metrics import lesion_summary, match_lesions
from msanet_jax.metrics import PixelCounts, count_pixels, pooled, quotient


def test_counts_by_hand() -> None:
    truth = np.array([1, 1, 1, 0, 0, 0], bool)
    prediction = np.array([1, 0, 1, 1, 0, 0], bool)
    counts = count_pixels(truth, prediction)
    assert counts == PixelCounts(tp=2, fp=1, fn=1, tn=2)
    assert counts.dsc == pytest.approx(2 / 3)
    assert counts.precision == counts.recall == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(5))
def test_counts_agree_with_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, prediction = random.random((2, 40, 40)) < random.uniform(0.02, 0.9, size=(2, 1, 1))
    counts = count_pixels(truth, prediction)
    flat = truth.ravel(), prediction.ravel()
    assert counts.dsc == pytest.approx(f1_score(*flat))
    assert counts.precision == pytest.approx(precision_score(*flat))
    assert counts.recall == pytest.approx(recall_score(*flat))


def test_empty_and_full() -> None:
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    nothing = count_pixels(empty, empty)
    assert math.isnan(nothing.dsc)
    assert math.isnan(nothing.precision)
    assert math.isnan(nothing.recall)
    assert count_pixels(full, full).dsc == 1.0
    missed, false = count_pixels(full, empty), count_pixels(empty, full)
    assert missed.dsc == false.dsc == 0.0
    assert missed.recall == 0.0
    assert math.isnan(missed.precision)
    assert math.isnan(false.recall)
    with pytest.raises(ValueError, match="differ in shape"):
        count_pixels(empty, np.zeros((4, 5), bool))


def test_pooling_sums_before_it_divides() -> None:
    images = [PixelCounts(tp=1, fp=0, fn=0), PixelCounts(tp=0, fp=0, fn=9)]
    assert pooled(images).dsc == pytest.approx(2 / 11)
    assert np.mean([image.dsc for image in images]) == pytest.approx(0.5)
    assert math.isnan(quotient(0, 0))


def _scene() -> tuple[np.ndarray, np.ndarray]:
    """Lesion 1 half found, 2 missed, 3 touching 2 in a corner and found; one false component, one at the border."""
    ids = np.zeros((20, 20), np.uint8)
    ids[2:4, 2:6] = 1
    ids[10:12, 10:12] = 2
    ids[12:14, 12:14] = 3
    prediction = np.zeros((20, 20), bool)
    prediction[2:4, 2:4] = True
    prediction[12:14, 12:14] = True
    prediction[17, 3] = True
    prediction[0, 19] = True
    return ids, prediction


def test_lesions_by_hand() -> None:
    ids, prediction = _scene()
    result = match_lesions(
        ids,
        prediction,
        overlap_min=0.5,
        pixel_mm=1.0,
        facts=[{"id": 1, "size_mm": 10.0, "visible": True}, {"id": 3, "size_mm": 40.0, "visible": False}],
    )
    assert [(x.id, x.pixels, x.found, x.detected) for x in result.lesions] == [
        (1, 8, 4, True),
        (2, 4, 0, False),
        (3, 4, 4, True),
    ]
    assert [x.clustered for x in result.lesions] == [True, True, True]  # lesion 1 is 8.6 pixels from lesion 2
    assert result.false_positives == 2
    summary = lesion_summary([result])
    assert summary["lesion_recall"] == pytest.approx(2 / 3)
    assert summary["lesions_small"] == 1
    assert summary["lesion_recall_large"] == 1.0
    assert math.isnan(summary["lesion_recall_medium"])
    assert summary["false_positives_per_image"] == 2.0


def test_overlap_rule_and_distance() -> None:
    ids, prediction = _scene()
    strict = match_lesions(ids, prediction, overlap_min=0.6, pixel_mm=2.0)
    assert [x.detected for x in strict.lesions] == [False, False, True]
    far = match_lesions(ids, prediction, overlap_min=0.5, pixel_mm=2.0)
    assert [x.clustered for x in far.lesions] == [False, True, True]


@pytest.mark.parametrize("seed", range(3))
def test_false_positives_agree_with_scikit_image(seed: int) -> None:
    random = np.random.default_rng(seed)
    ids = (random.random((30, 30)) < 0.05).astype(np.uint8)
    prediction = random.random((30, 30)) < 0.15
    components = label(prediction, connectivity=2)
    expected = sum(not ids[components == number].any() for number in range(1, components.max() + 1))
    assert match_lesions(ids, prediction, overlap_min=0.1, pixel_mm=2.0).false_positives == expected


def test_bootstrap_draws_patients() -> None:
    patients = ["a", "a", "b", "c"]
    values = np.array([1.0, 1.0, 2.0, 3.0])
    drawn = []

    def mean(index: np.ndarray) -> float:
        drawn.append(index)
        return float(values[index].mean())

    low, high = bootstrap_interval(patients, mean, samples=200, seed=0)
    assert 1.0 <= low < values.mean() < high <= 3.0
    assert all((index == 0).sum() == (index == 1).sum() for index in drawn)
    assert (low, high) == bootstrap_interval(patients, mean, samples=200, seed=0)


def _mean(values: np.ndarray, index: np.ndarray) -> float:
    return float(values[index].mean())


def test_bootstrap_covers_the_mean() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(60):
        mean = functools.partial(_mean, random.normal(size=40))
        low, high = bootstrap_interval([str(number) for number in range(40)], mean, samples=200, seed=trial)
        covered += low <= 0.0 <= high
    assert 50 <= covered <= 60
