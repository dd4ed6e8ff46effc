"""What part of a scan the network sees: the thorax, 256 x 256 pixels, or the whole body, 1024 x 256."""

from __future__ import annotations

import numpy as np

from data_pipeline.errors import RequestError
from data_pipeline.scan import THORAX_SIZE_PX, Scan
from data_pipeline.thorax import field_size_px, find_thorax
from data_pipeline.windows import ThoraxBox, Window, area_weights, cut

FIELDS = {"thorax": (THORAX_SIZE_PX, THORAX_SIZE_PX), "whole_body": (4 * THORAX_SIZE_PX, THORAX_SIZE_PX)}
"""Rows and columns of each field, in pixels of about 2.26 mm."""


def field_shape(field: str) -> tuple[int, int]:
    """Rows and columns of a field.

    Raises:
      RequestError: no such field.
    """
    if field not in FIELDS:
        raise RequestError(f"data.field={field!r} must be one of {', '.join(FIELDS)}")
    return FIELDS[field]


def find_window(scan: Scan, field: str, thorax: ThoraxBox | None = None) -> Window:
    """Where the field lies in a scan.

    The whole body is four times as high as the thorax field and as wide. A scan that is shorter begins at the top and
    is filled up below; a longer one loses rows at its foot.

    Args:
      scan: any planar scan, head up.
      field: `thorax` or `whole_body`.
      thorax: the thorax box, where it is known already.
    """
    box = find_thorax(scan) if thorax is None else thorax
    if field == "thorax":
        return box.window
    rows, columns = field_shape(field)
    size = field_size_px(scan)
    middle = box.column + box.size_px // 2
    column = box.column if size == box.size_px else middle - size // 2
    return Window(0, column, rows * size // columns, size)


def field_counts(counts: np.ndarray, window: Window, field: str) -> np.ndarray:
    """Counts of the field `[rows, columns]` int32.

    Where the scan's pixels are not of the field's size, every count is spread evenly over its own pixel, collected on
    the field's grid and rounded.
    """
    patch = cut(counts, window)
    rows, columns = field_shape(field)
    if patch.shape == (rows, columns):
        return patch.astype(np.int32)
    spread = area_weights(window.rows, rows) @ patch.astype(np.float64) @ area_weights(window.columns, columns).T
    return np.rint(spread).astype(np.int32)


def field_ids(ids: np.ndarray, window: Window, field: str) -> np.ndarray:
    """Instance ids of the field `[rows, columns]` of the same type: each pixel has the id at its centre."""
    patch = cut(ids, window)
    rows, columns = field_shape(field)
    row = ((np.arange(rows) + 0.5) * window.rows / rows).astype(int)
    column = ((np.arange(columns) + 0.5) * window.columns / columns).astype(int)
    return patch[np.ix_(row, column)]


def field_pixel_mm(pixel_size_mm: tuple[float, float], window: Window, field: str) -> tuple[float, float]:
    """Spacing of the field's pixels in a scan whose pixels are of the given size."""
    rows, columns = field_shape(field)
    return pixel_size_mm[0] * window.rows / rows, pixel_size_mm[1] * window.columns / columns
