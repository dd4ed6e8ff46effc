"""Bootstrap over patients: 95 % percentile intervals of statistics that are computed from per-image numbers.

A bootstrap sample draws as many patients as there are, with replacement, and takes all images of each. It is described
by how often every image enters it, its weights; a statistic maps weights `[samples, images]` to values `[samples]`.
Weights of one are the data themselves, so that a value and its interval come from the same formula.

Where several trainings were scored on the same patients, a sample draws trainings and patients, each with replacement
and independently: a row enters it as often as its training times as often as its patient (the crossed, or pigeonhole,
bootstrap of Owen, Ann Appl Stat 1:386, 2007).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
from scipy import stats

from msanet_jax.evaluation.pixels import quotient

K = TypeVar("K", bound=Hashable)
LEVEL = 0.95

Statistic = Callable[[np.ndarray], np.ndarray]
"""Weights `[samples, images]` -> values `[samples]`, NaN where undefined."""

CELLS = 4_000_000
"""Weights in memory at a time, where they come in parts."""


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
    return np.concatenate([*PatientWeights(patients, samples=samples, seed=seed)])


def draws(things: int, *, samples: int, random: np.random.Generator) -> np.ndarray:
    """How often each of `things` is drawn when as many are drawn with replacement, `[samples, things]` int64.

    Example:
      >>> draws(3, samples=2, random=np.random.default_rng(0)).sum(axis=1).tolist()
      [3, 3]
    """
    drawn = random.integers(0, max(things, 1), size=(samples, things))
    weights = np.zeros((samples, things), np.int64)
    np.add.at(weights, (np.arange(samples)[:, None], drawn), 1)
    return weights


class PatientWeights:
    """Those of `bootstrap_weights`, a few samples at a time, drawn anew each time: of 20,000 images they take 160 MB.

    Args:
      patients: patient of every image, as for the next two.
      samples: see `bootstrap_weights`.
      seed: see there.

    Example:
      >>> parts = list(PatientWeights(["p1", "p1", "p2"], samples=4, seed=0))
      >>> np.array_equal(np.concatenate(parts), bootstrap_weights(["p1", "p1", "p2"], samples=4, seed=0))
      True
    """

    def __init__(self, patients: Sequence[str], *, samples: int, seed: int) -> None:
        names, self._owner = np.unique(np.asarray(patients, str), return_inverse=True)
        self._patients, self._samples, self._seed = len(names), samples, seed

    def __iter__(self) -> Iterator[np.ndarray]:
        """Weights `[some samples, images]` int64, all samples in order."""
        step, random = max(1, CELLS // max(len(self._owner), 1)), np.random.default_rng(self._seed)
        for begin in range(0, self._samples, step):
            yield draws(self._patients, samples=min(step, self._samples - begin), random=random)[:, self._owner]


class CrossedWeights:
    """The weights of a crossed bootstrap over trainings and patients, a few samples at a time.

    Args:
      trainings: of every row.
      patients: of every row.
      samples: number of bootstrap samples.
      seed: of the draws.

    Example:
      >>> rows = CrossedWeights(["t1", "t1", "t2", "t2"], ["p1", "p2", "p1", "p2"], samples=5, seed=0)
      >>> weights = np.concatenate(list(rows))
      >>> weights.shape, weights.sum(axis=1).tolist()  # two trainings times two patients
      ((5, 4), [4.0, 4.0, 4.0, 4.0, 4.0])
    """

    def __init__(self, trainings: Sequence[str], patients: Sequence[str], *, samples: int, seed: int) -> None:
        random = np.random.default_rng([seed, 1])
        self._factors = []
        for owners in (trainings, patients):
            names, owner = np.unique(np.asarray(owners, str), return_inverse=True)
            self._factors.append((draws(len(names), samples=samples, random=random).astype(float), owner))
        self.trainings = self._factors[0][0].shape[1]
        self._samples, self._rows = samples, len(patients)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Weights `[some samples, rows]` float64, all samples in order."""
        step = max(1, CELLS // max(self._rows, 1))
        for begin in range(0, self._samples, step):
            first, second = (weights[begin : begin + step][:, owner] for weights, owner in self._factors)
            yield first * second


def sampled(statistic: Statistic, weights: Iterable[np.ndarray]) -> np.ndarray:
    """Values `[samples]` of a statistic for weights that come in parts.

    Example:
      >>> sampled(lambda weights: weights @ np.array([1.0, 10.0]), [np.array([[2, 0]]), np.array([[1, 1]])]).tolist()
      [2.0, 11.0]
    """
    return np.concatenate([statistic(part) for part in weights])


def sampled_each(statistics: Mapping[K, Statistic], weights: Iterable[np.ndarray]) -> dict[K, np.ndarray]:
    """As `sampled`, of several statistics by name; every part of the weights is made once for all of them.

    Example:
      >>> both = {"first": lambda weights: weights[:, 0], "all": lambda weights: weights.sum(axis=1)}
      >>> found = sampled_each(both, [np.array([[2, 0]]), np.array([[1, 1]])])
      >>> found["first"].tolist(), found["all"].tolist()
      ([2, 1], [2, 2])
    """
    parts = [{name: statistic(part) for name, statistic in statistics.items()} for part in weights]
    return {name: np.concatenate([part[name] for part in parts]) for name in statistics}


def intervals(statistics: Mapping[K, Statistic], weights: Iterable[np.ndarray]) -> dict[K, tuple[float, float]]:
    """The 95 % interval of each statistic, by name.

    Example:
      >>> parts = [np.arange(0, 50)[:, None], np.arange(50, 101)[:, None]]
      >>> low, high = intervals({"score": lambda weights: weights[:, 0] / 100}, parts)["score"]
      >>> round(low, 3), round(high, 3)
      (0.025, 0.975)
    """
    return {name: interval(values) for name, values in sampled_each(statistics, weights).items()}


def expanded_level(trainings: int) -> float:
    """Level of the percentile interval that has the width of a 95 % t interval, for few trainings.

    1 - 2 Phi(-sqrt(n / (n - 1)) t), t the 97.5 % point of Student's t with n - 1 degrees of freedom: percentiles of n
    things alone are too narrow by sqrt((n - 1) / n) and by the normal's 1.96 in place of t (Hesterberg, Am Stat 69:371,
    2015, "expanded percentile interval").

    Args:
      trainings: n >= 2.

    Returns:
      In (0.95, 1).

    Example:
      >>> round(expanded_level(16), 4), round(expanded_level(100_000), 4)
      (0.9723, 0.95)
    """
    width = math.sqrt(trainings / (trainings - 1)) * stats.t.ppf(0.5 * (1 + LEVEL), trainings - 1)
    return float(1.0 - 2.0 * stats.norm.sf(width))


def expanded_p(p: float, trainings: int) -> float:
    """The two-sided p that belongs to `expanded_level`: below 0.05 exactly where that interval leaves out zero.

    2 T(-z sqrt((n - 1) / n)), z the normal deviate of p, T the distribution of Student's t with n - 1 degrees of
    freedom.

    Example:
      >>> round(expanded_p(1.0 - expanded_level(16), 16), 6), expanded_p(1.0, 16)
      (0.05, 1.0)
    """
    return float(2.0 * stats.t.sf(stats.norm.isf(0.5 * p) * math.sqrt((trainings - 1) / trainings), trainings - 1))


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


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Ends of the percentile interval of bootstrap values; NaN values are left out, NaN if none is left.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Args:
      values: `[samples]`.
      level: share of the values between the ends; see `expanded_level`.

    Example:
      >>> low, high = interval(np.append(np.arange(101.0), np.nan))
      >>> round(low, 6), round(high, 6)
      (2.5, 97.5)
    """
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [0.5 * (1 - level), 0.5 * (1 + level)])
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
