"""A lesion mask -> one row of figures per lesion."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import ndimage

from data_pipeline.annotations.lesion_shape import lesion_shapes

CONNECTIVITY = np.ones((3, 3), int)
"""Pixels that touch at an edge or a corner are one lesion."""


def list_lesions(
    mask: np.ndarray, probability: np.ndarray, counts: np.ndarray, pixel_size_mm: tuple[float, float] | None
) -> list[dict[str, Any]]:
    """Measures every connected region of a mask, from the top of the scan down.

    The equivalent diameter is that of the disc of the same area, 2 sqrt(area / pi); the major axis is
    `LesionShape.length_mm`.

    Args:
      mask: [rows, columns] bool.
      probability: [rows, columns] float.
      counts: [rows, columns] of the scan.
      pixel_size_mm: (row spacing, column spacing) or None: lengths and areas in mm are then None.

    Returns:
      JSON-able rows; `id` counts from 1, centres are in pixels of the scan (pixel centres are whole numbers).
    """
    labels, _ = ndimage.label(mask, CONNECTIVITY)
    known = pixel_size_mm is not None
    spacing = pixel_size_mm or (1.0, 1.0)
    rows = []
    for shape in lesion_shapes(labels, spacing, counts, probability):
        area_mm2 = shape.pixels * spacing[0] * spacing[1]
        rows.append(
            {
                "id": shape.id,
                "centre_row_px": round(shape.centre_px[0], 2),
                "centre_column_px": round(shape.centre_px[1], 2),
                "area_px": shape.pixels,
                "area_mm2": round(area_mm2, 2) if known else None,
                "equivalent_diameter_mm": round(2.0 * math.sqrt(area_mm2 / math.pi), 2) if known else None,
                "major_axis_mm": round(shape.length_mm, 2) if known else None,
                "counts_mean": round(shape.means[0], 2),
                "counts_max": int(shape.maxima[0]),
                "probability_mean": round(shape.means[1], 4),
                "probability_max": round(shape.maxima[1], 4),
            }
        )
    return rows
