"""Probabilities that mean what they say: a calibration fitted on validation patients, and how far off they are.

The calibration is a strictly increasing map of the logit, linear between `KNOTS`, with the slopes of greatest
likelihood. A line does not describe a network's errors: lesions that it hardly sees lie among pixels of very low
probability, so the map is flat there and steeper on both sides (docs/metrics.md#calibration).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from msanet_jax.evaluation.field_maps import LARGEST, SMALLEST, logits, ramps
from msanet_jax.evaluation.probabilities import calibration_table
from msanet_jax.evaluation.results import Calibration

LOG = logging.getLogger(__name__)

KNOTS = (-6.0, -3.0, 0.0, 3.0)
"""Logits: probabilities of 0.0025, 0.047, 0.5 and 0.953."""
SLOPES = (0.1, 10.0)
"""Least and greatest slope: the map is strictly increasing, and separable pixels have a finite one."""
STEPS = 100
"""Logits are counted in bins of 1 / STEPS."""
LEAST_PIXELS = 200
"""A bin of the reliability curve with fewer says too little."""


def fit_calibration(maps: Iterable[np.ndarray], truths: Iterable[np.ndarray]) -> Calibration | None:
    """The calibration with the least cross-entropy over all pixels: log(1 + exp g(z)) - t g(z), z the logit.

    Args:
      maps: probabilities of the validation patients, image by image.
      truths: bool of the same shapes, True where there is lesion.

    Returns:
      None, and a warning, where there is no lesion pixel or nothing else.
    """
    first, last = np.rint(STEPS * logits(np.array([SMALLEST, LARGEST]))).astype(np.int64)
    pixels, lesion = np.zeros((2, last - first + 1))
    for values, truth in zip(maps, truths, strict=True):
        place = np.rint(STEPS * logits(values)).astype(np.int64) - first
        pixels += np.bincount(place.ravel(), minlength=len(pixels))
        lesion += np.bincount(place[truth], minlength=len(pixels))
    total = lesion.sum()
    if total in (0, pixels.sum()):
        LOG.warning("the validation patients have no lesion pixel, or no other: probabilities are not calibrated")
        return None
    columns = np.stack([np.ones(len(pixels)), *ramps(np.arange(first, last + 1) / STEPS, KNOTS)], axis=1)

    def cross_entropy(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        mapped = columns @ parameters
        value = (pixels * np.logaddexp(0.0, mapped) - lesion * mapped).sum()
        return value / total, columns.T @ (pixels * expit(mapped) - lesion) / total

    identity, bounds = [KNOTS[0], *[1.0] * (len(KNOTS) + 1)], [(None, None), *[SLOPES] * (len(KNOTS) + 1)]
    fit = minimize(cross_entropy, identity, jac=True, bounds=bounds, options={"ftol": 1e-13, "gtol": 1e-9})
    level, *slopes = fit.x.round(4).tolist()
    return Calibration(KNOTS, level, tuple(slopes))


def largest_gap(probabilities: np.ndarray, truths: np.ndarray, *, bins: int) -> float:
    """Largest |mean probability - share of lesion| of a bin that holds enough pixels; NaN where none does."""
    table = calibration_table(probabilities, truths, bins=bins)
    pixels, probability, lesion = (sums.sum(axis=0) for sums in (table.pixels, table.probability, table.lesion))
    enough = pixels >= LEAST_PIXELS
    gaps = np.abs(probability - lesion)[enough] / pixels[enough]
    return float(gaps.max()) if len(gaps) else float("nan")
