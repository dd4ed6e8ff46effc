"""Calibration and precision-recall: by hand and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    precision_recall_curve,
    precision_score,
    recall_score,
)

from msanet_jax.evaluation import probabilities
from msanet_jax.evaluation.probabilities import (
    average_precision,
    average_precisions,
    brier_scores,
    calibration_errors,
    calibration_table,
    precision_recall_points,
    rank_pixels,
)


def _maps(seed: int = 0, images: int = 4, side: int = 24) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.random((images, side, side)) < 0.1
    probability = np.clip(random.beta(0.5, 3.0, truth.shape) + 0.4 * truth * random.random(truth.shape), 0, 1)
    return probability.astype(np.float32), truth


ONES = np.ones((1, 4))


def test_calibration_by_hand() -> None:
    """Two bins: 3 pixels of mean 0.2 with 1 lesion, 1 pixel of 0.8 without."""
    probability = np.array([[[0.1, 0.2], [0.3, 0.8]]], np.float32)
    truth = np.array([[[1, 0], [0, 0]]], bool)
    table = calibration_table(probability, truth, bins=2)
    assert table.pixels.tolist() == [[3, 1]]
    one = np.ones((1, 1))
    assert calibration_errors(one, table)[0] == pytest.approx((3 * (1 / 3 - 0.2) + 0.8) / 4)
    assert calibration_errors(one, table, first_bin=1)[0] == pytest.approx(0.8)
    assert brier_scores(one, table)[0] == pytest.approx((0.9**2 + 0.2**2 + 0.3**2 + 0.8**2) / 4)


def test_nothing_above_the_lowest_bin_is_undefined() -> None:
    table = calibration_table(np.zeros((1, 3, 3), np.float32), np.zeros((1, 3, 3), bool), bins=5)
    assert calibration_errors(np.ones((1, 1)), table)[0] == 0.0
    assert math.isnan(calibration_errors(np.ones((1, 1)), table, first_bin=1)[0])


@pytest.mark.parametrize("bins", [5, 10, 15])
def test_calibration_agrees_with_scikit_learn(bins: int) -> None:
    probability, truth = _maps()
    probability[0, 0, :6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]  # on edges
    table = calibration_table(probability, truth, bins=bins)
    share, mean = calibration_curve(truth.ravel(), probability.ravel().astype(float), n_bins=bins)
    pixels, sums, lesion = (array.sum(axis=0) for array in (table.pixels, table.probability, table.lesion))
    np.testing.assert_allclose(sums[pixels > 0] / pixels[pixels > 0], mean)
    np.testing.assert_allclose(lesion[pixels > 0] / pixels[pixels > 0], share)
    assert brier_scores(ONES, table)[0] == pytest.approx(brier_score_loss(truth.ravel(), probability.ravel()))


def test_samples_are_repeated_images() -> None:
    probability, truth = _maps()
    weights = np.array([[2, 0, 1, 1], [0, 4, 0, 0], [1, 0, 5, 0]])  # as many images as the patients drawn have
    table = calibration_table(probability, truth, bins=10)
    for row, error, brier, precision in zip(
        weights,
        calibration_errors(weights, table),
        brier_scores(weights, table),
        average_precisions(weights, rank_pixels(probability, truth)),
        strict=True,
    ):
        maps, masks = np.repeat(probability, row, axis=0), np.repeat(truth, row, axis=0)
        ones = np.ones((1, len(maps)))
        repeated = calibration_table(maps, masks, bins=10)
        assert error == pytest.approx(calibration_errors(ones, repeated)[0])
        assert brier == pytest.approx(brier_scores(ones, repeated)[0])
        assert precision == pytest.approx(average_precision(rank_pixels(maps, masks)), abs=0.01)


@pytest.mark.parametrize("at_a_time", [1, 7, 1 << 20])
@pytest.mark.parametrize("seed", range(3))
def test_average_precision_agrees_with_scikit_learn(seed: int, at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probabilities, "SCORES_AT_A_TIME", at_a_time)
    monkeypatch.setattr(probabilities, "IMAGES_AT_A_TIME", at_a_time)
    probability, truth = _maps(seed)
    expected = average_precision_score(truth.ravel(), probability.ravel())
    assert average_precision(rank_pixels(probability, truth)) == pytest.approx(expected, rel=1e-13)
    assert average_precisions(ONES, rank_pixels(probability, truth))[0] == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("decimals", [1, 2, 9])
def test_a_ranking_gives_the_curve_of_all_pixels(decimals: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """scikit-learn on the pixels themselves, with ties and with pixels above and below all lesion pixels."""
    probability, truth = _maps()
    probability = np.round(0.9 * probability, decimals)
    probability[0, 0, :3], truth[0, 0, :3] = (0.97, 0.99, 0.99), False
    ranking = rank_pixels(iter(probability), iter(truth), lesion_scores=probability[truth])
    assert len(ranking.scores) == len(np.unique(probability[truth])) + 1
    assert ranking.lesion.sum() == truth.sum()
    assert ranking.other.sum() == (probability[~truth] >= probability[truth].min()).sum()
    precision, recall, threshold = precision_recall_curve(truth.ravel(), probability.ravel())
    curve = precision_recall_points(ranking)
    monkeypatch.setattr(probabilities, "SCORES_AT_A_TIME", 3)
    assert {name: values.tolist() for name, values in precision_recall_points(ranking).items()} == {
        name: values.tolist() for name, values in curve.items()
    }
    for value, wanted, found in zip(curve["threshold"], curve["precision"], curve["recall"], strict=True):
        (place,) = np.flatnonzero(threshold == value)
        assert (precision[place], recall[place]) == pytest.approx((wanted, found), rel=1e-13)
    assert (curve["threshold"][0], curve["precision"][0], curve["recall"][0]) == (np.float32(0.99), 0.0, 0.0)


def test_average_precision_by_hand_and_ties() -> None:
    """Scores 0.9 hit, 0.8 false, 0.7 hit: 1/2 * 1 + 1/2 * 2/3; all scores alike: the share of lesion pixels."""
    probability, truth = np.array([[[0.9, 0.8, 0.7, 0.1]]]), np.array([[[1, 0, 1, 0]]], bool)
    one = np.ones((1, 1))
    assert average_precision(rank_pixels(probability, truth)) == pytest.approx(5 / 6)
    assert average_precisions(one, rank_pixels(probability, truth))[0] == pytest.approx(5 / 6)
    flat = np.full((1, 1, 4), 0.5)
    assert average_precision(rank_pixels(flat, truth)) == average_precisions(one, rank_pixels(flat, truth))[0] == 0.5
    assert average_precision(rank_pixels(flat, np.ones((1, 1, 4), bool))) == 1.0
    nothing = np.zeros((1, 1, 4), bool)
    assert math.isnan(average_precision(rank_pixels(flat, nothing)))
    assert math.isnan(average_precisions(one, rank_pixels(flat, nothing))[0])
    assert not len(precision_recall_points(rank_pixels(flat, nothing))["recall"])


def test_curve_points_are_what_the_thresholds_give() -> None:
    probability, truth = _maps()
    curve = precision_recall_points(rank_pixels(probability, truth))
    assert len(curve["recall"]) > 50
    assert curve["recall"][-1] == 1.0
    assert (np.diff(curve["recall"]) > 0).all()
    assert (np.diff(curve["threshold"]) < 0).all()
    for place in (0, 20, len(curve["recall"]) - 1):
        marked = (probability >= curve["threshold"][place]).ravel()
        assert curve["precision"][place] == pytest.approx(precision_score(truth.ravel(), marked))
        assert curve["recall"][place] == pytest.approx(recall_score(truth.ravel(), marked))


def test_a_bin_holds_its_upper_edge() -> None:
    """Of 0, 1/4, 1/2, 3/4 and 1 in quarters the first bin holds two: its lower edge, too."""
    probability = np.array([[[0.0, 0.25, 0.5, 0.75, 1.0]]], np.float32)
    truth = np.array([[[0, 0, 1, 0, 1]]], bool)
    table = calibration_table(probability, truth, bins=4)
    assert table.edges.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert table.pixels.tolist() == [[2, 1, 1, 1]]
    assert table.probability.tolist() == [[0.25, 0.5, 0.75, 1.0]]
    assert table.lesion.tolist() == [[0, 1, 0, 1]]
    assert table.squared_error.tolist() == [0.25**2 + 0.5**2 + 0.75**2]
    one = np.ones((1, 1))
    assert calibration_errors(one, table)[0] == pytest.approx((0.25 + 0.5 + 0.75 + 0.0) / 5)
    assert calibration_errors(one, table, first_bin=1)[0] == pytest.approx((0.5 + 0.75 + 0.0) / 3)


def test_a_sample_without_lesion_has_no_average_precision() -> None:
    """Image 0 has a lesion pixel ranked second of four, image 1 has none."""
    probability = np.array([[[0.9, 0.8, 0.1, 0.0]], [[0.5, 0.5, 0.5, 0.5]]])
    truth = np.array([[[0, 1, 0, 0]], [[0, 0, 0, 0]]], bool)
    found = average_precisions(np.array([[1, 0], [1, 1], [0, 2]]), rank_pixels(probability, truth))
    assert found[:2] == pytest.approx([1 / 2, 1 / 2])
    assert math.isnan(found[2])


def test_average_precision_of_samples_resolves_many_scores() -> None:
    """Each of 200 lesion pixels lies above one more pixel of background: the sum of n / (2 n - 1) over 200, exactly."""
    scores = np.linspace(0.9, 0.1, 400)[None, None]
    truth = (np.arange(400) % 2 == 0)[None, None]
    ranks = np.arange(1, 201)
    expected = np.mean(ranks / (2 * ranks - 1))
    assert average_precision(rank_pixels(scores, truth)) == pytest.approx(expected)
    assert average_precisions(np.ones((1, 1)), rank_pixels(scores, truth))[0] == pytest.approx(expected, abs=1e-3)


def test_curve_has_a_point_at_every_hundredth_of_recall() -> None:
    """128 lesion pixels without an error: the first of them, then the first to reach each hundredth, 32/128 = 0.25."""
    scores = np.linspace(1.0, 0.5, 128)
    probability, truth = np.append(scores, [0.25])[None, None], np.append(np.ones(128, bool), [False])[None, None]
    curve = precision_recall_points(rank_pixels(probability, truth))
    found = np.unique([1, *((128 * n + 99) // 100 for n in range(1, 101))])
    np.testing.assert_array_equal(curve["recall"], found / 128)
    np.testing.assert_array_equal(curve["threshold"], scores[found - 1])
    assert (curve["precision"] == 1.0).all()
