"""Pixel counts, and what is computed from them: sums first, division last.

DSC = 2 TP / (2 TP + FP + FN), precision = TP / (TP + FP), recall = TP / (TP + FN). A quotient 0 / 0 is NaN: undefined,
and counted as such, never taken for 0 or 1. The formulas take numbers or arrays of any shape: counts of an image give
its score, sums over images the pooled one.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


def quotient(numerator: Any, denominator: Any) -> np.ndarray:
    """Numerator / denominator, element by element; NaN for 0 / 0 and anything over 0."""
    below = np.asarray(denominator, float)
    return np.divide(numerator, below, out=np.full(below.shape, np.nan), where=below > 0)


def dsc(tp: Any, fp: Any, fn: Any) -> np.ndarray:
    """Dice similarity coefficient in [0, 1]; NaN where truth and prediction are both empty."""
    return quotient(2 * tp, 2 * tp + fp + fn)


def precision(tp: Any, fp: Any, fn: Any) -> np.ndarray:
    """Share of the prediction that is lesion; NaN where nothing is predicted."""
    return quotient(tp, tp + fp)


def recall(tp: Any, fp: Any, fn: Any) -> np.ndarray:
    """Share of the lesion pixels that are predicted; NaN where there is no lesion."""
    return quotient(tp, tp + fn)


@dataclasses.dataclass(frozen=True)
class PixelCounts:
    """True positive, false positive and false negative pixels of an image or a lesion."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    @property
    def dsc(self) -> float:
        """Dice similarity coefficient, see `dsc`."""
        return float(dsc(self.tp, self.fp, self.fn))

    @property
    def precision(self) -> float:
        """Share of the prediction that is lesion, see `precision`."""
        return float(precision(self.tp, self.fp, self.fn))

    @property
    def recall(self) -> float:
        """Share of the lesion pixels that are predicted, see `recall`."""
        return float(recall(self.tp, self.fp, self.fn))


def count_pixels(truth: np.ndarray, prediction: np.ndarray) -> PixelCounts:
    """Counts of two boolean arrays of the same shape.

    Raises:
      ValueError: the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth {truth.shape} and prediction {prediction.shape} differ in shape")
    truth, prediction = truth.astype(bool), prediction.astype(bool)
    tp = int(np.count_nonzero(truth & prediction))
    return PixelCounts(tp=tp, fp=int(np.count_nonzero(prediction)) - tp, fn=int(np.count_nonzero(truth)) - tp)
