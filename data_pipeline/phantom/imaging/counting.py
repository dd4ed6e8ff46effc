"""Poisson counts by the inverse of the distribution: one uniform number per pixel, and nothing else.

A sampler that rejects draws takes more or fewer random numbers depending on the expectation, so that a difference in
the last bit of one pixel can change all pixels after it. Here a pixel depends on its own number and expectation only.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import poisson

SUMMED_BELOW = 500.0
"""Expectation up to which the distribution is summed term by term; exp(-expectation) is a normal number there."""


def poisson_quantile(probability: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The smallest count k with P(K <= k) >= `probability`, K Poisson with mean `expected`.

    Equal to `scipy.stats.poisson.ppf`, ten times as fast on images, where most expectations are small.

    Args:
      probability: in [0, 1), uniform for a Poisson draw.
      expected: likewise shaped, float64, at least 0.

    Returns:
      int32, the shape of `expected`.
    """
    counts = np.zeros(expected.size, np.int32)
    # The rounding of the sum must not hide the last of the distribution from the highest numbers.
    mean, level = expected.ravel(), np.minimum(probability.ravel(), 1.0 - 1e-12)
    bright = mean >= SUMMED_BELOW
    counts[bright] = poisson.ppf(level[bright], mean[bright])
    pixel = np.flatnonzero((mean > 0.0) & ~bright)
    mean, level = mean[pixel], level[pixel]
    term = np.exp(-mean)
    total = term.copy()
    count = 0
    while len(pixel):
        more = level > total
        counts[pixel[~more]] = count
        pixel, mean, level, term, total = (values[more] for values in (pixel, mean, level, term, total))
        count += 1
        term = term * (mean / count)
        total = total + term
    return counts.reshape(expected.shape)
