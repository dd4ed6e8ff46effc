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

    Example:
      >>> weights = bootstrap_weights(["p1", "p1", "p2"], samples=4, seed=0)
      >>> weights.shape, bool((weights[:, 0] == weights[:, 1]).all())  # both images of p1 are drawn together
      ((4, 3), True)
      >>> (weights[:, 1] + weights[:, 2]).tolist()  # as many patients as there are
      [2, 2, 2, 2]
    """
    names, owner = np.unique(np.asarray(patients, str), return_inverse=True)
    drawn = np.random.default_rng(seed).integers(0, max(len(names), 1), size=(samples, len(names)))
    weights = np.zeros((samples, len(names)), np.int64)
    np.add.at(weights, (np.arange(samples)[:, None], drawn), 1)
    return weights[:, owner]


def value(statistic: Statistic, images: int) -> float:
    """The statistic of the data themselves: every image once.

    Args:
      statistic: weights -> values.
      images: how many there are.

    Example:
      >>> value(lambda weights: weights @ np.array([1.0, 2.0]), images=2)
      3.0
    """
    return float(statistic(np.ones((1, images)))[0])


def interval(values: np.ndarray) -> tuple[float, float]:
    """Ends of the 95 % percentile interval of bootstrap values; NaN values are left out, NaN if none is left.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Args:
      values: `[samples]`.

    Example:
      >>> low, high = interval(np.append(np.arange(101.0), np.nan))
      >>> round(low, 6), round(high, 6)
      (2.5, 97.5)
    """
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [0.5 * (1 - LEVEL), 0.5 * (1 + LEVEL)])
    return float(low), float(high)


def ratio(weights: np.ndarray, numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Sum of numerators over sum of denominators.

    Args:
      weights: `[samples, images]`, how often an image enters a sample.
      numerator: `[images]`.
      denominator: `[images]`.

    Returns:
      `[samples]`; NaN where nothing is divided by.

    Example:
      >>> ratio(np.array([[1, 1], [2, 0]]), np.array([1.0, 5.0]), np.array([2.0, 6.0])).tolist()  # 6/8, 2/4
      [0.75, 0.5]
    """
    return quotient(weights @ numerator, weights @ denominator)


def mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of the values that are not NaN.

    Args:
      weights: `[samples, images]`, how often an image enters a sample.
      values: `[images]`.

    Returns:
      `[samples]`; NaN where no value is left.

    Example:
      >>> mean(np.array([[1, 1, 1], [3, 1, 0]]), np.array([1.0, 5.0, np.nan])).tolist()  # 6/2, 8/4
      [3.0, 2.0]
    """
    defined = ~np.isnan(values)
    return ratio(weights, np.where(defined, values, 0.0), defined.astype(float))


def median(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Median of the values that are not NaN, every value as often as its weight says.

    Args:
      weights: `[samples, images]`, how often an image enters a sample.
      values: `[images]`.

    Returns:
      `[samples]`; the mean of the two middle values where their number is even, NaN where no value is left.

    Example:
      >>> median(np.array([[1, 1, 1], [2, 1, 0]]), np.array([5.0, 1.0, 4.0])).tolist()  # of 1 4 5, and of 1 5 5
      [4.0, 5.0]
    """
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
