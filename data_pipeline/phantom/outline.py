"""The body's outline: at every pixel of the frontal plane, where tissue begins (front) and ends (back).

Sections of trunk, head and limbs follow the bones and the deformation; skin lies at a stated depth over sternum, spine
and sacrum. Frame as in `skeleton`: x left, y back, z up, mm.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

from data_pipeline.phantom.deformation import Deformation
from data_pipeline.phantom.parts import SIDES
from data_pipeline.phantom.patients import COLUMNS, Patient
from data_pipeline.phantom.skeleton import Skeleton

ROWS = 1024
TRUNK = np.array(
    [  # z, half width, front and back y of the reference body without fat
        [1560, 52, 178, 292],
        [1530, 84, 174, 294],
        [1508, 134, 164, 298],
        [1485, 160, 153, 304],
        [1440, 168, 133, 316],
        [1380, 158, 110, 324],
        [1300, 152, 94, 316],
        [1220, 146, 84, 296],
        [1140, 142, 86, 272],
        [1070, 150, 84, 264],
        [1000, 164, 82, 270],
        [940, 172, 84, 284],
        [880, 168, 96, 282],
        [840, 150, 124, 246],
        [815, 120, 172, 198],
    ]
)
NECK_HEAD = np.array(
    [
        [1765, 12, 14, 205],
        [1755, 42, 52, 205],
        [1735, 64, 80, 205],
        [1700, 76, 96, 205],
        [1660, 78, 100, 203],
        [1620, 72, 92, 200],
        [1585, 62, 74, 200],
        [1560, 56, 62, 215],
        [1530, 56, 58, 230],
        [1490, 60, 58, 232],
    ]
)
LEG = np.array(
    [
        [960, 68, 80],
        [900, 80, 86],
        [820, 77, 82],
        [700, 65, 70],
        [560, 50, 56],
        [500, 49, 56],
        [430, 45, 52],
        [340, 46, 55],
        [220, 34, 40],
        [130, 31, 37],
        [60, 38, 42],
        [0, 36, 32],
        [-60, 28, 22],
        [-100, 18, 16],
        [-130, 6, 8],
    ]
)
ARM = np.array(
    [
        [1522, 10, 14],
        [1508, 30, 34],
        [1485, 43, 46],
        [1430, 46, 50],
        [1300, 38, 44],
        [1180, 36, 40],
        [1090, 32, 36],
        [930, 22, 24],
        [880, 30, 20],
        [780, 16, 14],
    ]
)
"""z, half width, half depth of legs and arms; their axes follow the bones."""
SKIN_MM, SKIN_PX = 8.0, 7
"""Least tissue over a bone, in depth and as the width of the window around a pixel."""

COVERED = ("clavicle", "scapula", "foot", "bofoot")
CENTRE_STEP_MM = 12.0
BELLY = ([815, 900, 1080, 1200, 1400, 1530], [0.5, 1.0, 1.3, 1.1, 0.35, 0.3])
"""Share of the girth by z at the sides and in front."""

BACK_SHARE = 0.42
FURROW_MM, FURROW_HALF_WIDTH_MM = 11.0, 20.0
"""Depth and half width of the groove over the spine, between the muscles beside it."""

BUTTOCK_MM = 20.0
LEAST_BMI, GIRTH_PER_BMI_MM, LEAST_GIRTH_MM, MOST_GIRTH_MM = 18.5, 2.2, 2.0, 58.0


def girth_mm(patient: Patient) -> float:
    """Thickness of fat at the waist that gives the patient's body-mass index, within a tenth."""
    height = patient.height_mm / 1690.0
    thickness = (patient.bmi - LEAST_BMI) * GIRTH_PER_BMI_MM * height + 5.0
    return float(np.clip(thickness, LEAST_GIRTH_MM, MOST_GIRTH_MM))


@dataclasses.dataclass(frozen=True)
class Column:
    """A tissue of the frontal plane: from `front` to `back` (mm, y) per pixel, NaN-free, empty where front >= back."""

    front: np.ndarray
    back: np.ndarray


class Grid:
    """The camera's pixels in patient coordinates."""

    def __init__(self, patient: Patient, top: float) -> None:
        rows = np.arange(ROWS)
        self.z = (top - (rows - patient.head_row) * patient.pixel_mm).astype(np.float64)
        columns = np.arange(COLUMNS) - (COLUMNS - 1) / 2.0
        self.x = (columns * patient.pixel_mm - patient.column_shift_mm).astype(np.float64)

    def empty(self) -> Column:
        """Nowhere any tissue."""
        shape = (len(self.z), len(self.x))
        return Column(np.full(shape, np.inf, np.float64), np.full(shape, -np.inf, np.float64))

    def union(self, columns: list[Column]) -> Column:
        """From the foremost front to the backmost back."""
        return Column(
            np.min([column.front for column in columns], axis=0), np.max([column.back for column in columns], axis=0)
        )

    def tube(self, z: np.ndarray, x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray, power: float) -> Column:
        """Superelliptic sections |dx / a|^p + |dy / b|^p <= 1 along z; inputs are sorted by falling z."""
        order = np.argsort(z)
        centre_x, centre_y, half_width, half_depth = (np.interp(self.z, z[order], v[order]) for v in (x, y, a, b))
        inside = (self.z >= z.min()) & (self.z <= z.max())
        u = np.abs(self.x[None] - centre_x[:, None]) / half_width[:, None]
        depth = half_depth[:, None] * np.maximum(0.0, 1.0 - u**power) ** (1.0 / power)
        there = (u < 1.0) & inside[:, None]
        front = np.where(there, centre_y[:, None] - depth, np.inf)
        back = np.where(there, centre_y[:, None] + depth, -np.inf)
        return Column(front.astype(np.float64), back.astype(np.float64))


def outline(
    patient: Patient, skeleton: Skeleton, posed: np.ndarray, move: Deformation, grid: Grid, fat: float
) -> Column:
    """Union of trunk, head and limbs, smoothed so that the parts grow into each other."""
    parts = [
        _trunk(patient, move, grid, fat),
        _section(
            move, grid, NECK_HEAD, np.zeros(len(NECK_HEAD)), NECK_HEAD[:, 3], 0.15 * fat * np.ones(len(NECK_HEAD)), 2.0
        ),
    ]
    for side, _ in SIDES:
        here = np.array([name.endswith(side) for name in skeleton.names])[skeleton.bone]
        for table, bones, share in (
            (LEG, ("femur", "tibia", "fibula", "foot", "bofoot", "talus"), 0.45),
            (ARM, ("humerus", "ulna", "radius", "2", "3", "4"), 0.35),
        ):
            limb = posed[here & skeleton.of(*bones)]
            centre = [limb[np.abs(limb[:, 2] - z) < 3 * CENTRE_STEP_MM] for z in table[:, 0]]
            kept = [i for i, near in enumerate(centre) if len(near)]
            x = np.array([centre[i][:, 0].mean() for i in kept])
            y = np.array([centre[i][:, 1].mean() for i in kept])
            parts.append(_section(move, grid, table[kept], x, y, share * fat * np.ones(len(kept)), 2.0))
    body = grid.union(parts)
    inside = body.front < body.back
    front, back = np.where(inside, body.front, 0.0), np.where(inside, body.back, 0.0)
    # Smoothing thickness and middle separately lets the edges taper instead of ending in a step.
    thickness = gaussian_filter(back - front, 2.5)
    middle = gaussian_filter(0.5 * (back + front), 2.5) / (gaussian_filter(inside.astype(np.float64), 2.5) + 1e-6)
    there = thickness > 3.0
    front = np.where(there, middle - 0.5 * thickness, np.inf).astype(np.float64)
    return Column(front, np.where(there, middle + 0.5 * thickness, -np.inf).astype(np.float64))


def _trunk(patient: Patient, move: Deformation, grid: Grid, fat: float) -> Column:
    """Sections with front and back of their own, breasts, buttocks, and a furrow over the spine."""
    z, half_width, front, back = TRUNK.T
    belly = fat * np.interp(z, *BELLY)
    middle, nothing = 0.5 * (front + back), np.zeros(len(z))
    axis, side, before, behind = (
        move(np.stack([nothing + x, y, z], axis=1))
        for x, y in ((0.0, middle), (half_width, middle), (0.0, front), (0.0, back))
    )
    first, last = before[:, 1] - belly, behind[:, 1] + BACK_SHARE * belly
    width = np.abs(side[:, 0] - axis[:, 0]) + belly
    trunk = grid.tube(axis[:, 2], axis[:, 0], 0.5 * (first + last), width, 0.5 * (last - first), 2.4)
    order = np.argsort(axis[:, 2])
    spine = np.interp(grid.z, axis[order, 2], axis[order, 0])
    across = (grid.x[None] - spine[:, None]) / FURROW_HALF_WIDTH_MM
    new_back = trunk.back - FURROW_MM * np.exp(-0.5 * across**2)
    new_front = trunk.front.copy()
    for _, sign in SIDES:
        breast = _bump(move, grid, (sign * 82.0, 120.0, 1385.0), (62.0, 62.0))
        new_front -= (patient.breast_mm + 0.3 * fat * (patient.sex == "female")) * breast
        new_back += BUTTOCK_MM * _bump(move, grid, (sign * 72.0, 280.0, 950.0), (68.0, 85.0))
    return Column(new_front, np.where(np.isfinite(trunk.back), new_back, -np.inf))


def _bump(move: Deformation, grid: Grid, centre: tuple[float, float, float], half: tuple[float, float]) -> np.ndarray:
    """A paraboloid of height 1 in the frontal plane."""
    x, _, z = move(np.array([centre]))[0]
    squared = ((grid.x[None] - x) / half[0]) ** 2 + ((grid.z[:, None] - z) / half[1]) ** 2
    return np.asarray(np.maximum(1.0 - squared, 0.0))


def covering(body: Column, points: np.ndarray, row: np.ndarray, column: np.ndarray) -> Column:
    """`body` with skin over bones that a raised shoulder or a turned foot carries beyond it.

    Args:
      body: outline.
      points: `[m, 3]` mm of those bones.
      row: `[m]` their pixels.
      column: likewise.
    """
    front, back = np.full(body.front.shape, np.inf), np.full(body.back.shape, -np.inf)
    r, c = np.round(row).astype(int), np.round(column).astype(int)
    inside = (r >= 0) & (r < ROWS) & (c >= 0) & (c < COLUMNS)
    np.minimum.at(front, (r[inside], c[inside]), points[inside, 1] - SKIN_MM)
    np.maximum.at(back, (r[inside], c[inside]), points[inside, 1] + SKIN_MM)
    return Column(
        np.minimum(body.front, minimum_filter(front, SKIN_PX, mode="nearest")),
        np.maximum(body.back, maximum_filter(back, SKIN_PX, mode="nearest")),
    )


def _section(
    move: Deformation, grid: Grid, table: np.ndarray, x: np.ndarray, y: np.ndarray, fat: np.ndarray, power: float
) -> Column:
    """A tube whose axis follows the deformation; its half axes are scaled by it and padded with fat."""
    axis = move(np.stack([x, y, table[:, 0]], axis=1))
    side = move(np.stack([x + table[:, 1], y, table[:, 0]], axis=1))
    behind = move(np.stack([x, y + table[:, 2], table[:, 0]], axis=1))
    half_width = np.abs(side[:, 0] - axis[:, 0]) + fat
    half_depth = np.abs(behind[:, 1] - axis[:, 1]) + fat
    return grid.tube(axis[:, 2], axis[:, 0], axis[:, 1], half_width, half_depth, power)
