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
    """Numerator / denominator, element by element; NaN for 0 / 0 and anything over 0.

    Args:
      numerator: number or array.
      denominator: the same shape, >= 0.

    Returns:
      float64 array of that shape.

    Example:
      >>> quotient([1, 0], [2, 0]).tolist()
      [0.5, nan]
    """
    below = np.asarray(denominator, float)
    return np.divide(numerator, below, out=np.full(below.shape, np.nan), where=below > 0)


def dsc(tp: Any, fp: Any, fn: Any) -> np.ndarray:
    """Dice similarity coefficient 2 TP / (2 TP + FP + FN) in [0, 1]; NaN where truth and prediction are both empty.

    Source: Dice, Ecology 26:297, 1945. It equals F1 of the pixels.

    Args:
      tp: true positive pixels, a number or an array.
      fp: false positive pixels, the same shape.
      fn: false negative pixels, the same shape.

    Example:
      >>> float(dsc(tp=3, fp=1, fn=1))  # 6 / 8
      0.75
      >>> float(dsc(tp=0, fp=0, fn=0))
      nan
    """
    return quotient(2 * tp, 2 * tp + fp + fn)


def precision(tp: Any, fp: Any, fn: Any) -> np.ndarray:
    """Share TP / (TP + FP) of the prediction that is lesion, in [0, 1]; NaN where nothing is predicted.

    Args:
      tp: true positive pixels, a number or an array.
      fp: false positive pixels, the same shape.
      fn: not used; all three formulas take the same arguments.

    Example:
      >>> float(precision(tp=3, fp=1, fn=9))  # 3 / 4
      0.75
    """
    return quotient(tp, tp + fp)


def recall(tp: Any, fp: Any, fn: Any) -> np.ndarray:
    """Share TP / (TP + FN) of the lesion pixels that are predicted, in [0, 1]; NaN where there is no lesion.

    Args:
      tp: true positive pixels, a number or an array.
      fp: not used; all three formulas take the same arguments.
      fn: false negative pixels, the same shape.

    Example:
      >>> float(recall(tp=3, fp=9, fn=1))  # 3 / 4
      0.75
    """
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

    Example:
      >>> count_pixels(np.array([True, True, False, False]), np.array([True, False, True, False]))
      PixelCounts(tp=1, fp=1, fn=1)
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth {truth.shape} and prediction {prediction.shape} differ in shape")
    truth, prediction = truth.astype(bool), prediction.astype(bool)
    tp = int(np.count_nonzero(truth & prediction))
    return PixelCounts(tp=tp, fp=int(np.count_nonzero(prediction)) - tp, fn=int(np.count_nonzero(truth)) - tp)
