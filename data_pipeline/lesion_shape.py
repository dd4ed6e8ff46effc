"""How long the lesions of a mask are."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage


def measure_lesions(ids: np.ndarray, pixel_size_mm: tuple[float, float]) -> list[dict[str, Any]]:
    """A row per lesion: `id`, `pixels` and `size_mm`, its length.

    The length is the major axis of the ellipse of the same second moments, 4 sqrt(l) with l the larger eigenvalue of
    the pixels' covariance in mm; each pixel adds a twelfth of its square, so that a disc's length is its diameter.

    Args:
      ids: `[rows, columns]` instance ids.
      pixel_size_mm: (row, column) spacing.
    """
    spacing = np.array(pixel_size_mm, np.float64)
    rows = []
    for number, window in enumerate(ndimage.find_objects(ids.astype(np.int32)), start=1):
        if window is None:
            continue
        places = np.stack(np.nonzero(ids[window] == number)) * spacing[:, None]
        covariance = np.cov(places, bias=True) + np.diag(spacing**2) / 12.0
        length = 4.0 * float(np.sqrt(np.linalg.eigvalsh(covariance)[-1]))
        rows.append({"id": number, "pixels": places.shape[1], "size_mm": round(length, 2)})
    return rows
