"""The one way from counts of a field to lesion probability on the field's own grid, and from there to marks.

Scoring, the choice of a threshold, baselines, prediction and exported models all take it, so that a score is that of
the masks that users get. The network may see fewer pixels than the field has; its map is enlarged linearly.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from data_pipeline.normalize import bin_counts, binning_factor, normalize

Network = Callable[[Any], Any]
"""Normalised images `[n, r, c, 1]` float32 -> lesion probability `[n, r, c]` in [0, 1], on the network's grid."""

Probability = Callable[[Any], Any]
"""Counts of fields `[n, rows, columns]` -> lesion probability of the same shape, float32 in [0, 1]."""

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


def marks(maps: np.ndarray, threshold: float) -> np.ndarray:
    """True where a pixel is lesion: its value is above the threshold, both in the maps' own precision."""
    above: np.ndarray = maps > float(threshold)
    return above
