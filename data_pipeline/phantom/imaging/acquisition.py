"""Faults of a real acquisition that can be switched on: a patient who moves, a detector that is not uniform.

The table carries the patient past the detector, so every row is seen by the whole length of the detector: what remains
of its non-uniformity are stripes along the table, one factor per column. Rows are finished one after the other, so a
patient who moves once is displaced from some row on.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.ndimage import gaussian_filter1d

from data_pipeline.errors import RequestError

STRIPE_WIDTH_PX = 4.0
MOVES_BETWEEN = (0.25, 0.75)
"""Share of the image's rows within which the patient moves."""


@dataclasses.dataclass(frozen=True)
class Faults:
    """Off by default.

    Attributes:
      motion_mm: sideways displacement of everything below a random row; its direction is drawn.
      uniformity: standard deviation of the columns' sensitivity around 1.
    """

    motion_mm: float = 0.0
    uniformity: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what no acquisition shows."""
        if not 0.0 <= self.motion_mm <= 50.0:
            raise RequestError(f"motion is 0 to 50 mm, not {self.motion_mm:g}")
        if not 0.0 <= self.uniformity <= 0.2:
            raise RequestError(f"uniformity is a share from 0 to 0.2, not {self.uniformity:g}")


def column_sensitivity(random: np.random.Generator, columns: int, spread: float) -> np.ndarray:
    """`[columns]` factors with mean 1 and standard deviation `spread`, smooth over `STRIPE_WIDTH_PX`."""
    wave = gaussian_filter1d(random.standard_normal(columns), STRIPE_WIDTH_PX, mode="wrap")
    return 1.0 + spread * (wave - wave.mean()) / wave.std()


def displaced(image: np.ndarray, first_row: int, pixels: int) -> np.ndarray:
    """`image` with all rows from `first_row` on moved by whole pixels; what enters at the edge is zero."""
    moved = image.copy()
    moved[first_row:] = 0
    if pixels >= 0:
        moved[first_row:, pixels:] = image[first_row:, : image.shape[1] - pixels]
    else:
        moved[first_row:, :pixels] = image[first_row:, -pixels:]
    return moved


def draw_motion(random: np.random.Generator, rows: int, motion_mm: float, pixel_mm: float) -> tuple[int, int]:
    """First displaced row, and the displacement in whole pixels with its sign."""
    first_row = int(rows * random.uniform(*MOVES_BETWEEN))
    sign = 1 if random.uniform() < 0.5 else -1
    return first_row, sign * round(motion_mm / pixel_mm)
