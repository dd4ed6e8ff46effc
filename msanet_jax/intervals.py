"""Bootstrap intervals over patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

LEVEL = 0.95


def bootstrap_interval(
    patients: Sequence[str], statistic: Callable[[np.ndarray], float], *, samples: int, seed: int
) -> tuple[float, float]:
    """Percentile interval of a statistic when patients, with all their images, are drawn with replacement.

    Args:
      patients: patient of every image.
      statistic: indices of images (with repetitions) -> value; NaN samples are left out.
      samples: number of bootstrap samples.
      seed: of the draws.

    Returns:
      Lower and upper end of the 95 % interval; NaN where no sample is defined.
    """
    names = np.asarray(patients)
    images_of = [np.flatnonzero(names == name) for name in sorted(set(patients))]
    random = np.random.default_rng(seed)
    values = []
    for _ in range(samples):
        drawn = random.integers(0, len(images_of), size=len(images_of))
        values.append(statistic(np.concatenate([images_of[number] for number in drawn])))
    defined = np.array(values)[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [0.5 * (1 - LEVEL), 0.5 * (1 + LEVEL)])
    return float(low), float(high)
