"""Where the lesions of a mask lie and how large they are."""

from __future__ import annotations

import dataclasses

import numpy as np
from skimage.measure import regionprops_table


@dataclasses.dataclass(frozen=True)
class LesionShape:
    """A lesion as measured.

    Attributes:
      id: in the mask.
      pixels: how many it has.
      centre_px: mean row and column; pixel centres are whole numbers.
      length_mm: major axis of the ellipse of the same second moments, 4 sqrt(l) with l the larger eigenvalue of the
        pixels' covariance in mm. Each pixel adds a twelfth of its square, so that a disc's length is its diameter.
      means: of each map within the lesion.
      maxima: of each map within the lesion.
    """

    id: int
    pixels: int
    centre_px: tuple[float, float]
    length_mm: float
    means: tuple[float, ...]
    maxima: tuple[float, ...]


def lesion_shapes(ids: np.ndarray, pixel_size_mm: tuple[float, float], *maps: np.ndarray) -> list[LesionShape]:
    """Measures every lesion, by id.

    Args:
      ids: `[rows, columns]` instance ids, 0 where there is no lesion.
      pixel_size_mm: (row, column) spacing.
      *maps: `[rows, columns]` each, of which means and maxima are taken.
    """
    layers = np.stack(maps, axis=-1, dtype=np.float64) if maps else None
    names = ["label", "num_pixels", "centroid", "moments_central"]
    names += ["intensity_mean", "intensity_max"] if maps else []
    table = regionprops_table(ids.astype(np.int32), layers, properties=names)
    spacing = np.array(pixel_size_mm, np.float64)
    second = np.empty((len(table["label"]), 2, 2))
    second[:, 0, 0], second[:, 1, 1] = table["moments_central-2-0"], table["moments_central-0-2"]
    second[:, 0, 1] = second[:, 1, 0] = table["moments_central-1-1"]
    covariance = second / table["num_pixels"][:, None, None] * np.outer(spacing, spacing) + np.diag(spacing**2) / 12.0
    lengths = 4.0 * np.sqrt(np.linalg.eigvalsh(covariance)[:, -1])
    return [
        LesionShape(
            id=int(number),
            pixels=int(table["num_pixels"][row]),
            centre_px=(float(table["centroid-0"][row]), float(table["centroid-1"][row])),
            length_mm=float(lengths[row]),
            means=tuple(float(table[f"intensity_mean-{layer}"][row]) for layer in range(len(maps))),
            maxima=tuple(float(table[f"intensity_max-{layer}"][row]) for layer in range(len(maps))),
        )
        for row, number in enumerate(table["label"])
    ]
