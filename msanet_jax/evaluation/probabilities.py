"""What a probability map is worth beyond one threshold: calibration, and precision against recall of pixels.

Expected calibration error: pixels are put into bins of equal width by their probability; the error is the mean over
pixels of |mean probability of the bin - share of lesion pixels in it| (Naeini et al., AAAI 2015). Almost all pixels are
background with a probability near 0 and hide what the others do, so the error of the pixels above the lowest bin is
given too. Average precision: sum over thresholds of precision times gain in recall (scikit-learn's definition).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve

from msanet_jax.evaluation.pixels import quotient

RANK_BINS = 400
"""Score bins from which average precision is bootstrapped; the value itself is exact."""
CURVE_POINTS = 101
"""Recalls 0, 0.01, ... 1 at which the curve is stored."""


@dataclasses.dataclass(frozen=True)
class CalibrationTable:
    """Sums per image and bin, `[images, bins]` float64: pixels, their probabilities, their lesion pixels.

    Attributes:
      edges: `[bins + 1]`; a bin holds its upper edge, the first also its lower one.
      pixels, probability, lesion: the sums.
      squared_error: `[images]` sum over pixels of (probability - truth)^2.
    """

    edges: np.ndarray
    pixels: np.ndarray
    probability: np.ndarray
    lesion: np.ndarray
    squared_error: np.ndarray


def calibration_table(probabilities: np.ndarray, truths: np.ndarray, *, bins: int) -> CalibrationTable:
    """Sums for maps `[images, rows, columns]` in [0, 1] and masks of the same shape."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    sums = np.zeros((3, len(probabilities), bins))
    squared = np.zeros(len(probabilities))
    for number, (probability, truth) in enumerate(zip(probabilities, truths, strict=True)):
        flat, lesion = probability.ravel().astype(float), truth.ravel().astype(float)
        place = np.searchsorted(edges[1:-1], flat)
        for entry, weight in enumerate((None, flat, lesion)):
            sums[entry, number] = np.bincount(place, weight, minlength=bins)
        squared[number] = np.square(flat - lesion).sum()
    return CalibrationTable(edges, sums[0], sums[1], sums[2], squared)


def calibration_errors(weights: np.ndarray, table: CalibrationTable, *, first_bin: int = 0) -> np.ndarray:
    """Expected calibration error of samples with weights `[samples, images]` over the bins from `first_bin` on.

    Returns:
      `[samples]` in [0, 1]; NaN where these bins hold no pixel.
    """
    pixels, probability, lesion = (
        (weights @ sums)[:, first_bin:] for sums in (table.pixels, table.probability, table.lesion)
    )
    return quotient(np.abs(probability - lesion).sum(axis=1), pixels.sum(axis=1))


def brier_scores(weights: np.ndarray, table: CalibrationTable) -> np.ndarray:
    """Mean over pixels of (probability - truth)^2, weights `[samples, images]` -> `[samples]`."""
    return (weights @ table.squared_error) / (weights @ table.pixels.sum(axis=1))


def average_precision(probabilities: np.ndarray, truths: np.ndarray) -> float:
    """Average precision over all pixels; NaN without a lesion pixel."""
    if not truths.any():
        return float("nan")
    return float(average_precision_score(truths.ravel() > 0, probabilities.ravel()))


def precision_recall_points(probabilities: np.ndarray, truths: np.ndarray) -> dict[str, np.ndarray]:
    """Points of the curve over all pixels: the first at which each of `CURVE_POINTS` recalls is reached.

    Returns:
      `threshold` (a pixel counts as lesion if its probability reaches it), `precision`, `recall`, `[points]` each,
      from the highest threshold down; empty without a lesion pixel.
    """
    if not truths.any():
        return {key: np.zeros(0) for key in ("threshold", "precision", "recall")}
    precision, recall, threshold = precision_recall_curve(
        truths.ravel() > 0, probabilities.ravel(), drop_intermediate=True
    )
    # scikit-learn appends (1, 0) without a threshold and runs from the lowest threshold up.
    precision, recall, threshold = precision[-2::-1], recall[-2::-1], threshold[::-1]
    reached = np.searchsorted(recall, np.linspace(0.0, 1.0, CURVE_POINTS), side="left")
    chosen = np.unique(np.clip(reached, 0, len(recall) - 1))
    return {"threshold": threshold[chosen], "precision": precision[chosen], "recall": recall[chosen]}


def average_precisions(weights: np.ndarray, probabilities: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Average precision of samples with weights `[samples, images]`, from `RANK_BINS` bins of scores -> `[samples]`.

    The bins' edges are quantiles of the lesion pixels' scores, so that every bin holds about the same gain in recall.
    """
    positive = truths > 0
    if not positive.any():
        return np.full(len(weights), np.nan)
    edges = np.unique(np.quantile(probabilities[positive], np.linspace(0.0, 1.0, RANK_BINS + 1)))
    table = np.zeros((2, len(probabilities), len(edges) + 1))
    for number, (probability, truth) in enumerate(zip(probabilities, positive, strict=True)):
        place = np.searchsorted(edges, probability, side="right")
        table[0, number] = np.bincount(place[truth], minlength=len(edges) + 1)
        table[1, number] = np.bincount(place[~truth], minlength=len(edges) + 1)
    true, false = ((weights @ sums)[:, ::-1] for sums in table)
    found, wrong = np.cumsum(true, axis=1), np.cumsum(false, axis=1)
    precision = np.nan_to_num(quotient(found, found + wrong))
    gain = quotient(true, np.broadcast_to(found[:, -1:], true.shape))
    return (precision * gain).sum(axis=1)
