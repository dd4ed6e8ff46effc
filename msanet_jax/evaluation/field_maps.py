"""The one way from counts of a field to lesion probability on the field's own grid, and from there to marks.

Scoring, the choice of a threshold, baselines, prediction and exported models all take it, so that a score is that of
the masks that users get. The network may see fewer pixels than the field has; its map is enlarged linearly.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from data_pipeline.normalize import bin_counts, binning_factor, normalize
from msanet_jax.evaluation.results import Calibration

Network = Callable[[Any], Any]
"""Normalised images `[n, r, c, 1]` float32 -> lesion probability `[n, r, c]` in [0, 1], on the network's grid."""

Probability = Callable[[Any], Any]
"""Counts of fields `[n, rows, columns]` -> lesion probability of the same shape, float32 in [0, 1]."""

SMALLEST, LARGEST = 1e-37, 1.0 - 2.0**-24
"""Probabilities are kept within these float32 numbers: at 0 and 1 the logit is infinite."""
LARGEST_LOGIT = 87.0
"""exp of it is a float32 number."""

SCORED_PIXELS = "field"
"""The grid of thresholds and scores, as metrics.json and an exported model's manifest name it."""


def field_probability(network: Network, image_size_px: int, xp: ModuleType = np) -> Probability:
    """Bins, normalises, runs the network and enlarges its map to the field's grid.

    Args:
      network: sees `image_size_px` columns.
      image_size_px: divides the field's columns.
      xp: numpy; jax.numpy for a function that is to be traced.

    Returns:
      A function that raises RequestError where the sizes do not divide.
    """

    def probability(counts: Any) -> Any:
        rows, columns = counts.shape[-2:]
        factor = binning_factor(columns, image_size_px)
        images = xp.asarray(normalize(bin_counts(counts, factor, xp=xp), xp=xp), xp.float32)
        return resample(network(images[..., None]), (rows, columns), xp=xp)

    return probability


def resample(maps: Any, shape: tuple[int, int], xp: ModuleType = np) -> Any:
    """Maps `[..., r, c]` on a grid of `shape` over the same area, linear between the centres of the old pixels.

    A pixel nearer to the edge than the outermost old centre has the value there. Values stay within those of `maps`.
    """
    for axis, size in ((-2, shape[0]), (-1, shape[1])):
        maps = _resample_axis(maps, axis, size, xp)
    return maps


def _resample_axis(maps: Any, axis: int, size: int, xp: ModuleType) -> Any:
    old = maps.shape[axis]
    if size == old:
        return maps
    place = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0.0, old - 1.0)
    before = place.astype(int)
    share = (place - before).astype(np.float32)
    if axis == -2:
        share = share[:, None]
    # Weighted alike from either side, so that a mirrored map gives the mirrored result to the last bit.
    after = np.minimum(before + 1, old - 1)
    return (1 - share) * xp.take(maps, before, axis=axis) + share * xp.take(maps, after, axis=axis)


def calibrated(probability: Probability, calibration: Calibration | None, xp: ModuleType = np) -> Probability:
    """The same model with its probabilities calibrated (`calibrate`); None leaves it as it is."""
    if calibration is None:
        return probability
    return lambda counts: calibrate(probability(counts), calibration, xp=xp)


def calibrate(maps: Any, calibration: Calibration, xp: ModuleType = np) -> Any:
    """Sigmoid of g(logit p), float32; g is the calibration's. It keeps the order of pixels, so marks stay the same.

    Args:
      maps: probabilities, any shape, or one threshold on them.
      calibration: fitted on other patients (`reliability.fit_calibration`).
      xp: numpy, which computes in float64; jax.numpy, in float32, for a function that is to be traced.

    Example:
      >>> halved = Calibration(knots=(0.0,), level=0.0, slopes=(0.5, 0.5))  # odds 16, 1, 1/16 become 4, 1, 1/4
      >>> [round(float(p), 4) for p in calibrate([16 / 17, 0.5, 1 / 17], halved)]
      [0.8, 0.5, 0.2]
    """
    found = calibration.level + sum(
        slope * part
        for slope, part in zip(calibration.slopes, ramps(logits(maps, xp=xp), calibration.knots, xp=xp), strict=True)
    )
    return (1.0 / (1.0 + xp.exp(-xp.clip(found, -LARGEST_LOGIT, LARGEST_LOGIT)))).astype(xp.float32)


def logits(maps: Any, xp: ModuleType = np) -> Any:
    """log(p / (1 - p)) of probabilities, which are first moved into `SMALLEST` to `LARGEST`."""
    kept = xp.clip(xp.asarray(maps, xp.float64 if xp is np else xp.float32), SMALLEST, LARGEST)
    return xp.log(kept) - xp.log1p(-kept)


def ramps(values: Any, knots: Sequence[float], xp: ModuleType = np) -> list[Any]:
    """What of a value lies below the first knot (negative), between two, and above the last.

    Example:
      >>> [part.tolist() for part in ramps(np.array([-1.0, 2.0, 5.0]), (0.0, 3.0))]
      [[-1.0, 0.0, 0.0], [0.0, 2.0, 3.0], [0.0, 0.0, 2.0]]
    """
    between = (xp.clip(values - low, 0.0, high - low) for low, high in itertools.pairwise(knots))
    return [xp.minimum(values - knots[0], 0.0), *between, xp.maximum(values - knots[-1], 0.0)]


def marks(maps: np.ndarray, threshold: float) -> np.ndarray:
    """True where a pixel is lesion: its value is above the threshold, both in the maps' own precision."""
    above: np.ndarray = maps > float(threshold)
    return above
