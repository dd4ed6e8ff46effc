"""Bootstrap over patients: 95 % percentile intervals of statistics that are computed from per-image numbers.

A bootstrap sample draws as many patients as there are, with replacement, and takes all images of each. It is described
by how often every image enters it, its weights; a statistic maps weights `[samples, images]` to values `[samples]`.
Weights of one are the data themselves, so that a value and its interval come from the same formula.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from msanet_jax.evaluation.pixels import quotient

LEVEL = 0.95

Statistic = Callable[[np.ndarray], np.ndarray]
"""Weights `[samples, images]` -> values `[samples]`, NaN where undefined."""


def bootstrap_weights(patients: Sequence[str], *, samples: int, seed: int) -> np.ndarray:
    """How often each image enters each bootstrap sample, `[samples, images]` int64.

    Args:
      patients: patient of every image.
      samples: number of bootstrap samples.
      seed: of the draws; the same patients, samples and seed give the same weights.
    """
    names, owner = np.unique(np.asarray(patients, str), return_inverse=True)
    drawn = np.random.default_rng(seed).integers(0, max(len(names), 1), size=(samples, len(names)))
    weights = np.zeros((samples, len(names)), np.int64)
    np.add.at(weights, (np.arange(samples)[:, None], drawn), 1)
    return weights[:, owner]


def value(statistic: Statistic, images: int) -> float:
    """The statistic of the data themselves."""
    return float(statistic(np.ones((1, images)))[0])


def interval(values: np.ndarray) -> tuple[float, float]:
    """Ends of the 95 % percentile interval of bootstrap values; NaN values are left out, NaN if none is left."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [0.5 * (1 - LEVEL), 0.5 * (1 + LEVEL)])
    return float(low), float(high)


def ratio(weights: np.ndarray, numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Sum of numerators over sum of denominators, `[images]` each -> `[samples]`; NaN where nothing is divided by."""
    return quotient(weights @ numerator, weights @ denominator)


def mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of the values `[images]` that are not NaN -> `[samples]`."""
    defined = ~np.isnan(values)
    return ratio(weights, np.where(defined, values, 0.0), defined.astype(float))


def median(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Median of the values `[images]` that are not NaN, every value as often as its weight says -> `[samples]`."""
    defined = np.flatnonzero(~np.isnan(values))
    order = defined[np.argsort(values[defined], kind="stable")]
    result = np.full(len(weights), np.nan)
    if not len(order):
        return result
    reached = np.cumsum(weights[:, order], axis=1)
    total = reached[:, -1]
    # Of an even number the mean of the two middle ones, as usual.
    lower = (reached < ((total + 1) // 2)[:, None]).sum(axis=1)
    upper = (reached < (total // 2 + 1)[:, None]).sum(axis=1)
    filled = total > 0
    ranked = values[order]
    result[filled] = 0.5 * (ranked[lower[filled]] + ranked[upper[filled]])
    return result
