"""Temperature scaling: one number that makes probabilities mean what they say, fitted on validation patients.

p -> sigmoid(logit(p) / T); Guo et al. 2017, arXiv 1706.04599. It keeps the order of pixels, so a threshold t on p is
the threshold `tempered(t, T)` on the result, and marks stay the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from msanet_jax.evaluation.probabilities import calibration_table

SMALLEST = 1e-7
"""Probabilities are kept this far from 0 and 1, where the logit is infinite."""
STEPS = 100
"""Logits are counted in bins of 1 / STEPS."""
TEMPERATURES = (0.1, 10.0)
LEAST_PIXELS = 200
"""A bin of the reliability curve with fewer says too little."""


def tempered(probabilities: Any, temperature: float) -> np.ndarray:
    """sigmoid(logit(p) / T), float64.

    Args:
      probabilities: any shape, in [0, 1].
      temperature: above 0; above 1 draws towards 1/2.

    Example:
      >>> tempered([0.2, 0.5, 0.8], 0.5).round(4).tolist()  # odds are squared: 1/16, 1, 16
      [0.0588, 0.5, 0.9412]
    """
    return np.asarray(1.0 / (1.0 + np.exp(-_logits(probabilities) / temperature)))


def fit_temperature(probabilities: np.ndarray, truths: np.ndarray) -> float:
    """The T within `TEMPERATURES` with the least cross-entropy of `tempered`; 1 where there is no lesion pixel.

    Args:
      probabilities: any shape, in [0, 1].
      truths: same shape, True where there is lesion.
    """
    if not truths.any():
        return 1.0
    place = np.rint(_logits(probabilities).ravel() * STEPS).astype(np.int64)
    first = int(place.min())
    pixels, lesion = np.bincount(place - first), np.bincount(place - first, weights=truths.ravel())
    logits = (np.arange(len(pixels)) + first) / STEPS

    def cross_entropy(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float((pixels * np.logaddexp(0.0, scaled) - lesion * scaled).sum() / pixels.sum())

    low, high = np.log(TEMPERATURES)
    return round(float(np.exp(minimize_scalar(cross_entropy, bounds=(low, high), method="bounded").x)), 3)


def reliability(probabilities: np.ndarray, truths: np.ndarray, *, temperature: float, bins: int) -> dict[str, float]:
    """How far the reliability curve is from the diagonal, before and after scaling.

    Args:
      probabilities: `[n, rows, columns]`.
      truths: same shape, True where there is lesion.
      temperature: fitted on other patients.
      bins: of equal width over [0, 1].

    Returns:
      `gap` and `gap_tempered`: the largest difference of mean probability and share of lesion over the
      bins with at least `LEAST_PIXELS` pixels.
    """
    return {
        "gap": largest_gap(probabilities, truths, bins=bins),
        "gap_tempered": largest_gap(tempered(probabilities, temperature), truths, bins=bins),
    }


def largest_gap(probabilities: np.ndarray, truths: np.ndarray, *, bins: int) -> float:
    """Largest |mean probability - share of lesion| of a bin that holds enough pixels; NaN where none does."""
    table = calibration_table(probabilities, truths, bins=bins)
    pixels, probability, lesion = (sums.sum(axis=0) for sums in (table.pixels, table.probability, table.lesion))
    enough = pixels >= LEAST_PIXELS
    gaps = np.abs(probability - lesion)[enough] / pixels[enough]
    return float(gaps.max()) if len(gaps) else float("nan")


def _logits(probabilities: Any) -> np.ndarray:
    kept = np.clip(np.asarray(probabilities, np.float64), SMALLEST, 1.0 - SMALLEST)
    return np.asarray(np.log(kept) - np.log1p(-kept))
