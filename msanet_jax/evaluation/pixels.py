"""Pixel counts that merge, and what is computed from them: sums first, division last.

DSC = 2 TP / (2 TP + FP + FN), precision = TP / (TP + FP), recall = TP / (TP + FN). A quotient 0 / 0 is NaN: undefined,
and counted as such, never taken for 0 or 1.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable

import numpy as np


@dataclasses.dataclass(frozen=True)
class PixelCounts:
    """True positive, false positive, false negative and true negative pixels."""

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def __add__(self, other: PixelCounts) -> PixelCounts:
        return PixelCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def dsc(self) -> float:
        """Dice similarity coefficient in [0, 1]; NaN where truth and prediction are both empty."""
        return quotient(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float:
        """Share of the prediction that is lesion; NaN where nothing is predicted."""
        return quotient(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of the lesion pixels that are predicted; NaN where there is no lesion."""
        return quotient(self.tp, self.tp + self.fn)


def count_pixels(truth: np.ndarray, prediction: np.ndarray) -> PixelCounts:
    """Counts of two boolean arrays of the same shape.

    Raises:
      ValueError: the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth {truth.shape} and prediction {prediction.shape} differ in shape")
    truth, prediction = truth.astype(bool), prediction.astype(bool)
    tp = int(np.count_nonzero(truth & prediction))
    fp, fn = int(np.count_nonzero(prediction)) - tp, int(np.count_nonzero(truth)) - tp
    return PixelCounts(tp=tp, fp=fp, fn=fn, tn=truth.size - tp - fp - fn)


def pooled(counts: Iterable[PixelCounts]) -> PixelCounts:
    """The counts of all pixels of all images together."""
    return functools.reduce(PixelCounts.__add__, counts, PixelCounts())


def quotient(numerator: float, denominator: float) -> float:
    """Numerator / denominator, NaN for 0 / 0 and anything over 0."""
    return numerator / denominator if denominator else float("nan")
