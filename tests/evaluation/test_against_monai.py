"""Every score that MONAI has too, against MONAI, on random and on adversarial masks."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import hausdorff_distance
from sklearn.metrics import average_precision_score, brier_score_loss

from configs.msanet import get_config
from msanet_jax.evaluation.contours import contour, surface_scores
from msanet_jax.evaluation.froc import Candidates, find_candidates, find_peaks, froc_curve, froc_score, hit_zones
from msanet_jax.evaluation.pixels import count_pixels
from msanet_jax.evaluation.probabilities import (
    average_precision,
    average_precisions,
    brier_scores,
    calibration_errors,
    calibration_table,
    rank_pixels,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("monai", reason="needs the bench extra")
    import monai.metrics as reference
    import torch

# MONAI announces empty masks and its own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")

SIDE = 24
SPACING = (2.3, 4.1)
Pair = tuple[np.ndarray, np.ndarray]


def _blobs(seed: int, share: float) -> np.ndarray:
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((SIDE, SIDE)), 1.5)
    return smooth > np.quantile(smooth, 1 - share)


def _at(*places: tuple[slice | int, slice | int]) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    for place in places:
        mask[place] = True
    return mask


EMPTY, FULL = np.zeros((SIDE, SIDE), bool), np.ones((SIDE, SIDE), bool)
ONE, OTHER = _at((3, 4)), _at((20, 9))
TOUCHING = _at((slice(5, 9), slice(5, 9)), (slice(9, 13), slice(9, 13)))
BORDER = _at((slice(0, 4), slice(0, SIDE)), (slice(0, SIDE), 0))
CORNERS = _at((0, 0), (0, -1), (-1, 0), (-1, -1))
CASES: dict[str, Pair] = {
    **{f"random {n}": (_blobs(n, 0.1), _blobs(n + 100, 0.15)) for n in range(5)},
    **{f"near {n}": (_blobs(n, 0.2), _blobs(n, 0.15)) for n in range(5)},
    "same": (TOUCHING, TOUCHING),
    "both empty": (EMPTY, EMPTY),
    "empty truth": (EMPTY, ONE),
    "empty prediction": (TOUCHING, EMPTY),
    "both full": (FULL, FULL),
    "full prediction": (ONE, FULL),
    "full truth": (FULL, BORDER),
    "one pixel each": (ONE, OTHER),
    "one pixel hit": (TOUCHING, _at((6, 6))),
    "touching": (TOUCHING, _at((slice(5, 13), slice(5, 13)))),
    "border": (BORDER, _at((slice(1, 5), slice(1, SIDE)))),
    "corners": (CORNERS, BORDER),
}
every_case = pytest.mark.parametrize(("truth", "prediction"), CASES.values(), ids=CASES)


def _tensor(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(mask[None, None].astype(np.float32))


@every_case
def test_dice(truth: np.ndarray, prediction: np.ndarray) -> None:
    """Also the rule for two empty masks: NaN."""
    theirs = float(reference.compute_dice(_tensor(prediction), _tensor(truth), ignore_empty=False)[0, 0])
    ours = count_pixels(truth, prediction).dsc
    if not truth.any() and not prediction.any():
        assert math.isnan(ours)
        assert math.isnan(float(reference.compute_dice(_tensor(prediction), _tensor(truth), ignore_empty=True)[0, 0]))
    else:
        assert ours == pytest.approx(theirs, abs=1e-6)


@every_case
def test_counts_precision_and_recall(truth: np.ndarray, prediction: np.ndarray) -> None:
    matrix = reference.get_confusion_matrix(_tensor(prediction), _tensor(truth))
    ours = count_pixels(truth, prediction)
    tp, fp, _, fn = matrix[0, 0].tolist()
    assert [ours.tp, ours.fp, ours.fn] == [tp, fp, fn]
    for name, score in (("precision", ours.precision), ("sensitivity", ours.recall)):
        theirs = float(reference.compute_confusion_matrix_metric(name, matrix)[0, 0])
        assert score == pytest.approx(theirs, abs=1e-6, nan_ok=True)


@every_case
@pytest.mark.parametrize("spacing", [(1.0, 1.0), SPACING])
def test_surface_scores(truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, float]) -> None:
    """Where one mask is empty MONAI's distance is infinite or NaN; ours is undefined."""
    ours = surface_scores(truth, prediction, pixel_size_mm=spacing, tolerance_mm=4.2)
    arguments = {"include_background": True, "spacing": spacing}
    theirs = float(
        reference.compute_hausdorff_distance(_tensor(prediction), _tensor(truth), percentile=95.0, **arguments)[0, 0]
    )
    if truth.any() and prediction.any():
        assert ours.hd95_mm == pytest.approx(theirs, abs=1e-4)
    else:
        assert math.isnan(ours.hd95_mm)
        assert not math.isfinite(theirs)
    nsd = float(
        reference.compute_surface_dice(_tensor(prediction), _tensor(truth), class_thresholds=[4.2], **arguments)[0, 0]
    )
    assert ours.nsd == pytest.approx(nsd, abs=1e-6, nan_ok=True)


@every_case
def test_contours_agree_with_scikit_image(truth: np.ndarray, prediction: np.ndarray) -> None:
    """The whole Hausdorff distance of the contours, in pixels; HD95 is at most that."""
    if truth.any() and prediction.any():
        whole = hausdorff_distance(contour(truth), contour(prediction))
        ours = surface_scores(truth, prediction, pixel_size_mm=(1.0, 1.0), tolerance_mm=whole)
        assert ours.hd95_mm <= whole
        assert ours.nsd == 1.0
        assert surface_scores(truth, prediction, pixel_size_mm=(1.0, 1.0), tolerance_mm=whole - 1e-6).nsd < 1.0


def _map(seed: int) -> Pair:
    random = np.random.default_rng(seed)
    truth = _blobs(seed, 0.1)
    return truth, np.clip(random.beta(0.5, 3.0, truth.shape) + 0.4 * truth, 0, 1).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_calibration_and_average_precision(seed: int) -> None:
    truth, probability = _map(seed)
    table = calibration_table(probability[None], truth[None], bins=15)
    metric = reference.CalibrationErrorMetric(num_bins=15)
    theirs = float(metric(y_pred=_tensor(probability), y=_tensor(truth))[0, 0])
    assert calibration_errors(np.ones((1, 1)), table)[0] == pytest.approx(theirs, abs=1e-5)
    flat = torch.from_numpy(probability.ravel()), torch.from_numpy(truth.ravel().astype(np.float32))
    assert average_precision(rank_pixels(probability[None], truth[None])) == pytest.approx(
        float(reference.compute_average_precision(*flat)), abs=1e-5
    )


@every_case
@pytest.mark.parametrize("soft", [False, True], ids=["certain", "soft"])
def test_probabilities_of_every_case(truth: np.ndarray, prediction: np.ndarray, soft: bool) -> None:
    """ECE and Brier score are always defined; average precision not without a lesion pixel; of lesion alone it is 1.

    MONAI has no average precision of lesion alone and no Brier score: there scikit-learn is the judge.
    """
    probability = prediction.astype(np.float32)
    if soft:
        probability = 0.05 + 0.9 * ndimage.gaussian_filter(probability, 1.0, mode="nearest")
    table = calibration_table(probability[None], truth[None], bins=15)
    once = np.ones((1, 1))
    metric = reference.CalibrationErrorMetric(num_bins=15)
    theirs = float(metric(y_pred=_tensor(probability), y=_tensor(truth))[0, 0])
    assert calibration_errors(once, table)[0] == pytest.approx(theirs, abs=1e-5)
    flat, labels = probability.ravel().astype(float), truth.ravel().astype(int)
    assert brier_scores(once, table)[0] == pytest.approx(brier_score_loss(labels, flat, labels=[0, 1]), abs=1e-9)
    above = calibration_errors(once, table, first_bin=1)[0]
    assert math.isnan(above) == bool((probability <= table.edges[1]).all())
    ranking = rank_pixels(probability[None], truth[None])
    ours = average_precision(ranking)
    theirs = float(reference.compute_average_precision(torch.from_numpy(flat), torch.from_numpy(labels)))
    if truth.all():
        assert ours == 1.0 == average_precision_score(labels, flat)
        assert math.isnan(theirs)
    else:
        assert ours == pytest.approx(theirs, abs=1e-5, nan_ok=True)
        assert math.isnan(ours) == (not truth.any())
    binned = average_precisions(once, ranking)[0]
    assert binned == pytest.approx(ours, abs=0.003, nan_ok=True)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("lesions", ["random", "one pixel", "none", "border"])
def test_froc(seed: int, lesions: str) -> None:
    """Candidates, curve and score against the functions of CAMELYON16's evaluation that MONAI carries."""
    section = get_config().evaluate
    chosen = []
    fp_probs, tp_probs, targets = [], [], 0
    for image in range(3):
        truth, probability = _map(10 * seed + image)
        masks = {"random": truth, "one pixel": ONE, "none": EMPTY, "border": CORNERS}
        ids = ndimage.label(masks[lesions], structure=np.ones((3, 3)))[0]
        chosen.append(find_candidates(probability, ids, pixel_size_mm=SPACING, evaluate=section))
        peaks = find_peaks(
            probability,
            distance_px=round(section.froc_peak_distance_mm / np.mean(SPACING)),
            minimum=section.froc_probability_min,
        )
        zone = hit_zones(ids, pixel_size_mm=SPACING, distance_mm=section.froc_hit_distance_mm)
        false, true, number = reference.compute_fp_tp_probs(
            probability[tuple(peaks.T)], peaks[:, 0], peaks[:, 1], zone.astype(int)
        )
        assert sorted(false) == pytest.approx(sorted(chosen[-1].false_scores))
        assert true == pytest.approx(list(chosen[-1].lesion_scores.values()))
        assert number == len(chosen[-1].lesion_scores)
        fp_probs.append(false)
        tp_probs.append(true)
        targets += number
    curve = froc_curve(chosen)
    if not targets:
        assert np.isnan(curve.sensitivity).all()
        return
    # MONAI leaves its lowest score out; a candidate of score 0 takes that place.
    x, y = reference.compute_froc_curve_data(
        np.concatenate([*fp_probs, [0.0]]), np.concatenate(tp_probs), targets, len(chosen)
    )
    np.testing.assert_allclose(x[::-1], curve.false_positives_per_scan)
    np.testing.assert_allclose(y[::-1], curve.sensitivity)
    assert reference.compute_froc_score(x, y) == pytest.approx(froc_score(curve, section.froc_false_positives_per_scan))


def test_froc_of_perfect_and_blind_candidates() -> None:
    for hit in (0.9, 0.0):
        ours = froc_curve([Candidates({1: hit}, np.array([0.5]))])
        x, y = reference.compute_froc_curve_data(np.array([0.5, 0.0]), np.array([hit]), 1, 1)
        assert froc_score(ours, (0.25, 1.0)) == pytest.approx(reference.compute_froc_score(x, y, (0.25, 1.0)))
