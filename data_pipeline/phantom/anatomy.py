"""From a patient's parameters to bones in place and the outline of body and organs.

The outline is a pair of height maps: at every pixel of the frontal plane, where tissue begins (front) and ends (back).
That is all a planar camera needs of it, and it is quick. Frame as in `skeleton`: x left, y back, z up, mm.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from data_pipeline.phantom.deformation import REFERENCE_HEIGHT_MM, Deformation
from data_pipeline.phantom.outline import COVERED, Column, Grid, covering, girth_mm, outline
from data_pipeline.phantom.patients import COLUMNS, Patient, stream
from data_pipeline.phantom.posture import pose
from data_pipeline.phantom.skeleton import Skeleton

TOP_Z = 1752.0


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """A patient's bones and outlines on the camera's pixel grid.

    Attributes:
      points: `[n, 3]` mm.
      row, column: `[n]` float64 pixel coordinates of the points in the anterior view.
      body, lungs: columns `[rows, columns]`.
      organs: by name.
      front_mm: y of the foremost and backmost tissue.
      back_mm: likewise.
    """

    points: np.ndarray
    row: np.ndarray
    column: np.ndarray
    body: Column
    lungs: Column
    organs: dict[str, Column]
    front_mm: float
    back_mm: float


def build_anatomy(patient: Patient, skeleton: Skeleton, *, seed: int, index: int) -> Anatomy:
    """Deforms the skeleton and fits body and organs to it."""
    move = Deformation(patient, seed=seed, index=index)
    fat = girth_mm(patient)
    posed = pose(patient, skeleton, fat, seed=seed, index=index)
    points = move(posed)
    scale = patient.height_mm / REFERENCE_HEIGHT_MM
    top = (TOP_Z + 10.0) * scale
    row = (top - points[:, 2]) / patient.pixel_mm + patient.head_row
    column = (points[:, 0] + patient.column_shift_mm) / patient.pixel_mm + (COLUMNS - 1) / 2.0
    grid = Grid(patient, top)
    body = outline(patient, skeleton, posed, move, grid, fat)
    bare = skeleton.of(*COVERED)
    body = covering(body, points[bare], row[bare], column[bare])
    lungs = grid.union([_ellipsoid(move, grid, (sign * 72.0, 190.0, 1385.0), (55.0, 82.0, 125.0)) for sign in (-1, 1)])
    return Anatomy(
        points=points,
        row=row.astype(np.float64),
        column=column.astype(np.float64),
        body=body,
        lungs=Column(np.maximum(lungs.front, body.front + 12.0), np.minimum(lungs.back, body.back - 12.0)),
        organs=_organs(patient, move, grid, body, stream(seed, index, "organs")),
        front_mm=float(body.front[body.front < body.back].min()),
        back_mm=float(body.back[body.front < body.back].max()),
    )


def _ellipsoid(
    move: Deformation,
    grid: Grid,
    centre: tuple[float, float, float],
    half: tuple[float, float, float],
    power: float = 2.0,
) -> Column:
    """|x / a|^p + |y / b|^p + |z / c|^p <= 1 about a centre carried along by the deformation."""
    middle = move(np.array([centre]))[0]
    ends = move(np.array([np.array(centre) + np.array(half) * axis for axis in np.eye(3)]))
    a, b, c = (abs(float(ends[i, i] - middle[i])) for i in range(3))
    inside = 1.0 - np.abs((grid.x[None] - middle[0]) / a) ** power - np.abs((grid.z[:, None] - middle[2]) / c) ** power
    depth = b * np.maximum(inside, 0.0) ** (1.0 / power)
    front = np.where(inside > 0, middle[1] - depth, np.inf).astype(np.float64)
    return Column(front, np.where(inside > 0, middle[1] + depth, -np.inf).astype(np.float64))


def _organs(
    patient: Patient, move: Deformation, grid: Grid, body: Column, random: np.random.Generator
) -> dict[str, Column]:
    """Stylised MIRD organs in the skeleton's frame: kidneys beside T12-L3, bladder behind the symphysis, liver."""
    radius = (patient.bladder_volume_ml * 1000.0 * 3.0 / (4.0 * np.pi)) ** (1.0 / 3.0)
    flat = random.uniform(0.8, 1.25)  # a bladder between two full organs is not round
    shift = random.normal(0.0, (6.0, 4.0, 12.0), (3, 3))
    shapes = {
        "kidney_right": ((-58.0, 238.0, 1165.0), (29.0, 20.0, 54.0)),
        "kidney_left": ((58.0, 238.0, 1180.0), (29.0, 20.0, 54.0)),
        "bladder": ((0.0, 160.0, 972.0), (1.2 * radius * flat, 0.95 * radius, 0.88 * radius / flat)),
        "liver": ((-60.0, 175.0, 1250.0), (75.0, 70.0, 60.0)),
    }
    organs = {}
    for number, (name, (centre, half)) in enumerate(shapes.items()):
        moved = tuple(float(value) for value in np.array(centre) + (shift[number] if number < 3 else 0.0))
        organ = _ellipsoid(move, grid, (moved[0], moved[1], moved[2]), half, 2.6 if name == "bladder" else 2.0)
        organs[name] = Column(np.maximum(organ.front, body.front + 5.0), np.minimum(organ.back, body.back - 5.0))
    return organs
