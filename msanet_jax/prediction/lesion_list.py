"""A lesion mask -> one row of figures per lesion."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

CONNECTIVITY = np.ones((3, 3), int)
"""Pixels that touch at an edge or a corner are one lesion."""


def list_lesions(
    mask: np.ndarray, probability: np.ndarray, counts: np.ndarray, pixel_size_mm: tuple[float, float] | None
) -> list[dict[str, Any]]:
    """Measures every connected region of a mask, from the top of the scan down.

    The equivalent diameter is that of the disc of the same area, 2 sqrt(area / pi). The major axis is that of the
    ellipse of the same second moments, 4 sqrt(l) with l the larger eigenvalue of the pixels' covariance (each pixel
    adds its own 1/12), so that a disc's major axis is its diameter.

    Args:
      mask: [rows, columns] bool.
      probability: [rows, columns] float.
      counts: [rows, columns] of the scan.
      pixel_size_mm: (row spacing, column spacing) or None: lengths and areas in mm are then None.

    Returns:
      JSON-able rows; `id` counts from 1, centres are in pixels of the scan (pixel centres are whole numbers).
    """
    labels, number = ndimage.label(mask, CONNECTIVITY)
    return [
        _measure(lesion, labels[window] == lesion, window, probability, counts, pixel_size_mm)
        for lesion, window in enumerate(ndimage.find_objects(labels, number), start=1)
    ]


def _measure(
    lesion: int,
    region: np.ndarray,
    window: tuple[slice, slice],
    probability: np.ndarray,
    counts: np.ndarray,
    pixel_size_mm: tuple[float, float] | None,
) -> dict[str, Any]:
    rows, columns = np.nonzero(region)
    inside, uptake = probability[window][region], counts[window][region]
    area = int(region.sum())
    known = pixel_size_mm is not None
    spacing = np.array(pixel_size_mm if pixel_size_mm is not None else (1.0, 1.0))
    area_mm2 = area * float(spacing.prod())
    return {
        "id": lesion,
        "centre_row_px": _rounded(rows.mean() + window[0].start),
        "centre_column_px": _rounded(columns.mean() + window[1].start),
        "area_px": area,
        "area_mm2": _rounded(area_mm2) if known else None,
        "equivalent_diameter_mm": _rounded(2.0 * np.sqrt(area_mm2 / np.pi)) if known else None,
        "major_axis_mm": _rounded(_major_axis(rows * spacing[0], columns * spacing[1], spacing)) if known else None,
        "counts_mean": _rounded(uptake.mean()),
        "counts_max": int(uptake.max()),
        "probability_mean": _rounded(inside.mean(), 4),
        "probability_max": _rounded(inside.max(), 4),
    }


def _major_axis(rows_mm: np.ndarray, columns_mm: np.ndarray, spacing: np.ndarray) -> float:
    covariance = np.cov(np.stack([rows_mm, columns_mm]), bias=True) + np.diag(spacing**2) / 12.0
    return 4.0 * float(np.sqrt(np.linalg.eigvalsh(covariance)[-1]))


def _rounded(value: float, digits: int = 2) -> float:
    return round(float(value), digits)
