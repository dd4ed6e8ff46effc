"""A split with the mask that is scored, on one of two grids.

The field's own grid is that of the data set and of predictions: thresholds are chosen and scores computed there. The
network's grid has the recipe's `data.image_size_px` columns: training sees that one.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from data_pipeline.features import BoneScans, ImageRow
from data_pipeline.normalize import bin_counts, binning_factor, normalize

NOT_HEALTHY = ("lesions_all", "benign", "organs")
"""Masks whose pixels are not healthy bone."""


@dataclasses.dataclass(frozen=True)
class GridSplit:
    """A split on one grid.

    Attributes:
      counts: `[n, rows, columns]` int32; counts add up in binning.
      ids: `[n, rows, columns]` uint8 lesion ids of the scored mask, 0 where there is no lesion.
      rows: `n` image rows; their pixel sizes are those of the data set.
      pixel_sizes_mm: of every image on this grid, (row spacing, column spacing).
      version: of the built set, None for scans that come from none.
      spared: `[n, rows, columns]` bool, True on benign spots, hot organs and hidden lesions, where a mark is not one on
        healthy bone; None where the set does not say.
    """

    counts: np.ndarray
    ids: np.ndarray
    rows: list[ImageRow]
    pixel_sizes_mm: list[tuple[float, float]]
    version: str | None = None
    spared: np.ndarray | None = None

    @functools.cached_property
    def masks(self) -> np.ndarray:
        """`[n, rows, columns]` bool, True on lesion pixels."""
        return self.ids > 0

    @functools.cached_property
    def images(self) -> np.ndarray:
        """`[n, rows, columns]` float32 normalised uptake; on the network's grid its input."""
        return normalize(self.counts)


def on_field(scans: BoneScans, data: ConfigDict) -> GridSplit:
    """A split on the field's own grid, with the recipe's `data.scored_mask`.

    Raises:
      RequestError: no such mask, or a `data.image_size_px` that does not divide the columns.
    """
    if data.scored_mask not in scans.masks:
        raise RequestError(f"data.scored_mask={data.scored_mask!r} must be one of {', '.join(scans.masks)}")
    binning_factor(scans.counts.shape[-1], data.image_size_px)
    return GridSplit(
        counts=scans.counts.astype(np.int32, copy=False),
        ids=scans.masks[data.scored_mask].astype(np.uint8, copy=False),
        rows=scans.rows,
        pixel_sizes_mm=[row.pixel_size_mm for row in scans.rows],
        version=scans.version,
        spared=_spared(scans),
    )


def _spared(scans: BoneScans) -> np.ndarray | None:
    if not scans.masks.keys() >= set(NOT_HEALTHY):
        return None
    return np.logical_or.reduce([scans.masks[name] > 0 for name in NOT_HEALTHY])


def on_network(split: GridSplit, image_size_px: int) -> GridSplit:
    """A split of the field's grid binned to `image_size_px` columns.

    A binned pixel is lesion where at least half of it is; it carries the id that most of its lesion pixels have (on a
    tie the id that comes first, row by row).

    Raises:
      RequestError: the size does not divide the columns.
    """
    factor = binning_factor(split.counts.shape[-1], image_size_px)
    return GridSplit(
        counts=bin_counts(split.counts, factor).astype(np.int32, copy=False),
        ids=_binned_ids(split.ids, factor),
        rows=split.rows,
        pixel_sizes_mm=[(factor * rows_mm, factor * columns_mm) for rows_mm, columns_mm in split.pixel_sizes_mm],
        version=split.version,
    )


def _binned_ids(ids: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return ids
    lesion = 2 * bin_counts((ids > 0).astype(np.int32), factor) >= factor**2
    n, rows, columns = lesion.shape
    blocks = ids.reshape(n, rows, factor, columns, factor).swapaxes(2, 3)[lesion].reshape(-1, factor**2)
    # Lesions are few pixels: every pixel of their blocks votes for its own id.
    votes = (blocks[:, :, None] == blocks[:, None, :]).sum(axis=-1) * (blocks > 0)
    binned = np.zeros(lesion.shape, np.uint8)
    binned[lesion] = np.take_along_axis(blocks, votes.argmax(axis=1)[:, None], axis=1)[:, 0]
    return binned
