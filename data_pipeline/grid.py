"""A split with the mask that is scored, on one of two grids.

The field's own grid is that of the data set and of predictions: thresholds are chosen and scores computed there. The
network's grid has the recipe's `data.image_size_px` columns: training sees that one.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from data_pipeline.features import BoneScans, ImageRow, Lazy, StoredScans
from data_pipeline.normalize import bin_counts, binning_factor, normalize

NOT_HEALTHY = ("lesions_all", "benign", "organs")
"""Masks whose pixels are not healthy bone."""
IN_MEMORY_BYTES = 2**29
"""Counts and ids of a split that are kept in memory, 1,638 thorax images; those of a larger one are read from disk."""

Images = np.ndarray | Lazy[np.ndarray]
"""`[n, rows, columns]`, or the same image by image from disk."""


@dataclasses.dataclass(frozen=True)
class GridSplit:
    """A split on one grid, in memory or read from disk image by image.

    Attributes:
      counts: `[n, rows, columns]` int32; counts add up in binning.
      ids: `[n, rows, columns]` uint8 lesion ids of the scored mask, 0 where there is no lesion.
      rows: `n` image rows; their pixel sizes are those of the data set.
      pixel_sizes_mm: of every image on this grid, (row spacing, column spacing).
      version: of the built set, None for scans that come from none.
      spared: `[n, rows, columns]` bool, True on benign spots, hot organs and hidden lesions, where a mark is not one on
        healthy bone; None where the set does not say or is read from disk with its scored mask alone.
    """

    counts: Images
    ids: Images
    rows: Sequence[ImageRow] | Lazy[ImageRow]
    pixel_sizes_mm: Sequence[tuple[float, float]] | Lazy[tuple[float, float]]
    version: str | None = None
    spared: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of an image."""
        rows, columns = self.counts[0].shape
        return rows, columns

    @functools.cached_property
    def masks(self) -> Images:
        """`[n, rows, columns]` bool, True on lesion pixels."""
        return each(self.ids, lambda ids: ids > 0)

    @functools.cached_property
    def images(self) -> Images:
        """`[n, rows, columns]` float32 normalised uptake; on the network's grid its input."""
        return each(self.counts, normalize)


def on_field(scans: BoneScans | StoredScans, data: ConfigDict) -> GridSplit:
    """A split on the field's own grid, with the recipe's `data.scored_mask`.

    Of a stored split no other mask is read. It is read into memory if it takes no more than `IN_MEMORY_BYTES` there.

    Raises:
      RequestError: no such mask, or a `data.image_size_px` that does not divide the columns.
    """
    kind = data.scored_mask
    if kind not in scans.masks:
        raise RequestError(f"data.scored_mask={kind!r} must be one of {', '.join(scans.masks)}")
    if isinstance(scans, StoredScans):
        rows, columns = scans.shape
        binning_factor(columns, data.image_size_px)
        if len(scans) * rows * columns * 5 > IN_MEMORY_BYTES:
            return _from_disk(scans, kind)
        scans = scans.in_memory((kind,))
    binning_factor(scans.counts.shape[-1], data.image_size_px)
    return GridSplit(
        counts=scans.counts.astype(np.int32, copy=False),
        ids=scans.masks[kind].astype(np.uint8, copy=False),
        rows=scans.rows,
        pixel_sizes_mm=[row.pixel_size_mm for row in scans.rows],
        version=scans.version,
        spared=_spared(scans),
    )


def _spared(scans: BoneScans) -> np.ndarray | None:
    if not scans.masks.keys() >= set(NOT_HEALTHY):
        return None
    return np.logical_or.reduce([scans.masks[name] > 0 for name in NOT_HEALTHY])


def _from_disk(scans: StoredScans, kind: str) -> GridSplit:
    images = len(scans)
    return GridSplit(
        counts=Lazy(images, scans.pixels),
        ids=Lazy(images, functools.partial(scans.pixels, kind=kind)),
        rows=Lazy(images, scans.row),
        pixel_sizes_mm=Lazy(images, lambda number: scans.row(number).pixel_size_mm),
        version=scans.version,
    )


def on_network(split: GridSplit, image_size_px: int) -> GridSplit:
    """A split of the field's grid binned to `image_size_px` columns.

    A binned pixel is lesion where at least half of it is; it carries the id that most of its lesion pixels have (on a
    tie the id that comes first, row by row).

    Raises:
      RequestError: the size does not divide the columns.
    """
    factor = binning_factor(split.shape[-1], image_size_px)

    def enlarged(number: int) -> tuple[float, float]:
        rows_mm, columns_mm = split.pixel_sizes_mm[number]
        return (factor * rows_mm, factor * columns_mm)

    sizes = Lazy(len(split), enlarged)
    return GridSplit(
        counts=each(split.counts, lambda counts: bin_counts(counts, factor).astype(np.int32, copy=False)),
        ids=each(split.ids, lambda ids: _binned_ids(ids, factor)),
        rows=split.rows,
        pixel_sizes_mm=sizes if isinstance(split.pixel_sizes_mm, Lazy) else list(sizes),
        version=split.version,
    )


def each(images: Images, change: Callable[[np.ndarray], np.ndarray]) -> Images:
    """Images changed each for itself: now if they are in memory, else when they are read."""
    if isinstance(images, np.ndarray):
        return change(images)
    return Lazy(len(images), lambda number: change(images[number]))


def _binned_ids(ids: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return ids
    lesion = 2 * bin_counts((ids > 0).astype(np.int32), factor) >= factor**2
    *leading, rows, columns = lesion.shape
    blocks = ids.reshape(*leading, rows, factor, columns, factor).swapaxes(-3, -2)[lesion].reshape(-1, factor**2)
    # Lesions are few pixels: every pixel of their blocks votes for its own id.
    votes = (blocks[:, :, None] == blocks[:, None, :]).sum(axis=-1) * (blocks > 0)
    binned = np.zeros(lesion.shape, np.uint8)
    binned[lesion] = np.take_along_axis(blocks, votes.argmax(axis=1)[:, None], axis=1)[:, 0]
    return binned
