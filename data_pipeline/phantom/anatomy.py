"""From a patient's parameters to bones in place and the outline of body and organs.

The outline is a pair of height maps: at every pixel of the frontal plane, where tissue begins (front) and ends (back).
That is all a planar camera needs of it, and it is quick. Frame as in `skeleton`: x left, y back, z up, mm.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.ndimage import gaussian_filter

from data_pipeline.phantom.patients import Patient, stream
from data_pipeline.phantom.skeleton import Skeleton

REFERENCE_HEIGHT_MM = 1690.0
HIP_Z, SHOULDER_Z, KNEE_Z, ANKLE_Z, TOP_Z = 930.0, 1490.0, 500.0, 115.0, 1752.0
MID_Y = 195.0
ROWS, COLUMNS = 1024, 256

TRUNK = np.array(
    [  # z, half width, half depth, centre y of the reference body without fat
        [1560, 52, 55, 232],
        [1530, 84, 60, 232],
        [1508, 134, 74, 228],
        [1485, 160, 92, 222],
        [1440, 168, 104, 212],
        [1380, 158, 110, 205],
        [1300, 152, 112, 198],
        [1220, 146, 108, 193],
        [1140, 142, 102, 190],
        [1070, 150, 102, 188],
        [1000, 164, 106, 187],
        [940, 172, 104, 188],
        [880, 168, 92, 186],
        [840, 150, 60, 184],
        [815, 120, 12, 184],
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
HAND = (
    *("capitate", "hamate", "lunate", "scaphoid", "pisiform", "triquetrum", "trapez", "thumb"),
    *("1m", "2", "3", "4", "5"),
)
"""First letters of the bones of hand and wrist."""

CENTRE_STEP_MM = 12.0


@dataclasses.dataclass(frozen=True)
class Column:
    """A tissue of the frontal plane: from `front` to `back` (mm, y) per pixel, NaN-free, empty where front >= back."""

    front: np.ndarray
    back: np.ndarray


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
    random = stream(seed, index, "anatomy")
    phases = random.uniform(0.0, 2.0 * np.pi, size=(3, 3))
    move = _Deformation(patient, phases)
    posed = _pose_limbs(patient, skeleton)
    points = move(posed)
    scale = patient.height_mm / REFERENCE_HEIGHT_MM
    top = (TOP_Z + 10.0) * scale
    row = (top - points[:, 2]) / patient.pixel_mm + patient.head_row
    column = (points[:, 0] + patient.column_shift_mm) / patient.pixel_mm + (COLUMNS - 1) / 2.0
    grid = _Grid(patient, top)
    body = _outline(patient, skeleton, posed, move, grid)
    lungs = grid.union([_ellipsoid(move, grid, (sign * 72.0, 190.0, 1385.0), (55.0, 82.0, 125.0)) for sign in (-1, 1)])
    return Anatomy(
        points=points,
        row=row.astype(np.float64),
        column=column.astype(np.float64),
        body=body,
        lungs=Column(np.maximum(lungs.front, body.front + 12.0), np.minimum(lungs.back, body.back - 12.0)),
        organs=_organs(patient, move, grid, body),
        front_mm=float(body.front[body.front < body.back].min()),
        back_mm=float(body.back[body.front < body.back].max()),
    )


class _Deformation:
    """The smooth map from the reference body to the patient's; works on any points."""

    def __init__(self, patient: Patient, phases: np.ndarray) -> None:
        self._p = patient
        self._phases = phases

    def __call__(self, points: np.ndarray) -> np.ndarray:
        p, scale = self._p, self._p.height_mm / REFERENCE_HEIGHT_MM
        x, y, z = points[:, 0], points[:, 1] - MID_Y, points[:, 2]
        up = np.clip((z - HIP_Z) / (SHOULDER_Z - HIP_Z), -1.0, 1.3)
        width = p.lateral_scale * np.interp(
            z, [700, HIP_Z, 1200, SHOULDER_Z, 1600], [1.0, p.hip_width_scale, 1.0, p.shoulder_width_scale, 1.0]
        )
        x = x * width * (1.0 + p.asymmetry * np.sign(x) * np.clip(np.abs(x) / 40.0, 0, 1))
        y = y * p.depth_scale
        spine = np.clip(up, 0.0, 1.0)
        x = x + p.scoliosis_mm[0] * np.sin(np.pi * spine) + p.scoliosis_mm[1] * np.sin(2 * np.pi * spine)
        y = y + p.kyphosis_mm * np.sin(np.pi * np.clip((z - 1150.0) / 450.0, 0, 1))
        for axis_wave, length in enumerate((310.0, 230.0, 170.0)):
            a, b, c = self._phases[axis_wave]
            x = x + p.wobble_mm * 0.5 * np.sin(2 * np.pi * z / length + a)
            y = y + p.wobble_mm * 0.5 * np.sin(2 * np.pi * z / length + b)
            z = z + p.wobble_mm * 0.5 * np.sin(2 * np.pi * x / length + c)
        tilt = np.deg2rad(p.tilt_deg)
        dz = z - 1000.0
        x, z = x * np.cos(tilt) + dz * np.sin(tilt), dz * np.cos(tilt) - x * np.sin(tilt) + 1000.0
        return np.stack([x * scale, y * scale, z * scale], axis=1).astype(np.float64)


def _pose_limbs(patient: Patient, skeleton: Skeleton) -> np.ndarray:
    """Arms and legs swung out in the frontal plane, feet dropped and turned as they are when lying down."""
    points = skeleton.points.astype(np.float64)
    for side, sign, arm, leg, elbow in (
        ("right", -1.0, patient.arm_abduction_deg[0], patient.leg_abduction_deg[0], patient.elbow_mm[0]),
        ("left", 1.0, patient.arm_abduction_deg[1], patient.leg_abduction_deg[1], patient.elbow_mm[1]),
    ):
        here = np.array([name.endswith(side) for name in skeleton.names])[skeleton.bone]
        arms = here & skeleton.of("humerus", "ulna", "radius", *HAND)
        _rotate(points, arms, (sign * 168.0, 1485.0), sign * arm, axes=(0, 2))
        points[arms, 1] += np.clip((1485.0 - points[arms, 2]) / 300.0, 0, 1) * elbow
        feet = here & skeleton.of("foot", "bofoot", "talus")
        ankle = points[here & skeleton.of("talus")].mean(axis=0)
        _rotate(points, feet, (ankle[1], ankle[2]), patient.foot_drop_deg, axes=(1, 2))
        _rotate(points, feet, (ankle[0], ankle[2]), sign * patient.foot_turn_deg, axes=(0, 2))
        legs = here & skeleton.of("femur", "tibia", "fibula", "patella", "foot", "bofoot", "talus")
        _rotate(points, legs, (sign * 85.0, HIP_Z), sign * leg, axes=(0, 2))
    return points


def _rotate(
    points: np.ndarray, chosen: np.ndarray, centre: tuple[float, float], degrees: float, *, axes: tuple[int, int]
) -> None:
    """Rotates in place in the plane of `axes`, so that what hangs below `centre` moves to larger first coordinates."""
    angle = np.deg2rad(degrees)
    first, second = points[chosen, axes[0]] - centre[0], points[chosen, axes[1]] - centre[1]
    points[chosen, axes[0]] = centre[0] + first * np.cos(angle) - second * np.sin(angle)
    points[chosen, axes[1]] = centre[1] + first * np.sin(angle) + second * np.cos(angle)


class _Grid:
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


def _outline(patient: Patient, skeleton: Skeleton, posed: np.ndarray, move: _Deformation, grid: _Grid) -> Column:
    """Union of trunk, head and limbs, smoothed so that the parts grow into each other."""
    fat = patient.girth_mm
    belly = np.interp(TRUNK[:, 0], [815, 900, 1080, 1200, 1400, 1530], [0.5, 1.0, 1.3, 1.1, 0.7, 0.3])
    parts = [
        _section(move, grid, TRUNK, np.zeros(len(TRUNK)), TRUNK[:, 3], fat * belly, 2.4),
        _section(
            move, grid, NECK_HEAD, np.zeros(len(NECK_HEAD)), NECK_HEAD[:, 3], 0.15 * fat * np.ones(len(NECK_HEAD)), 2.0
        ),
    ]
    for side in ("right", "left"):
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


def _section(
    move: _Deformation, grid: _Grid, table: np.ndarray, x: np.ndarray, y: np.ndarray, fat: np.ndarray, power: float
) -> Column:
    """A tube whose axis follows the deformation; its half axes are scaled by it and padded with fat."""
    axis = move(np.stack([x, y, table[:, 0]], axis=1))
    side = move(np.stack([x + table[:, 1], y, table[:, 0]], axis=1))
    behind = move(np.stack([x, y + table[:, 2], table[:, 0]], axis=1))
    half_width = np.abs(side[:, 0] - axis[:, 0]) + fat
    half_depth = np.abs(behind[:, 1] - axis[:, 1]) + fat
    return grid.tube(axis[:, 2], axis[:, 0], axis[:, 1], half_width, half_depth, power)


def _ellipsoid(
    move: _Deformation, grid: _Grid, centre: tuple[float, float, float], half: tuple[float, float, float]
) -> Column:
    """An ellipsoid carried along by the deformation."""
    middle = move(np.array([centre]))[0]
    ends = move(np.array([np.array(centre) + np.array(half) * axis for axis in np.eye(3)]))
    a, b, c = (abs(float(ends[i, i] - middle[i])) for i in range(3))
    inside = 1.0 - ((grid.x[None] - middle[0]) / a) ** 2 - ((grid.z[:, None] - middle[2]) / c) ** 2
    depth = b * np.sqrt(np.maximum(inside, 0.0))
    front = np.where(inside > 0, middle[1] - depth, np.inf).astype(np.float64)
    return Column(front, np.where(inside > 0, middle[1] + depth, -np.inf).astype(np.float64))


def _organs(patient: Patient, move: _Deformation, grid: _Grid, body: Column) -> dict[str, Column]:
    """Stylised MIRD organs in the skeleton's frame: kidneys beside T12-L3, bladder behind the symphysis, liver."""
    radius = (patient.bladder_volume_ml * 1000.0 * 3.0 / (4.0 * np.pi)) ** (1.0 / 3.0)
    shapes = {
        "kidney_right": ((-58.0, 238.0, 1165.0), (29.0, 20.0, 54.0)),
        "kidney_left": ((58.0, 238.0, 1180.0), (29.0, 20.0, 54.0)),
        "bladder": ((0.0, 160.0, 972.0), (1.25 * radius, 0.95 * radius, 0.85 * radius)),
        "liver": ((-60.0, 175.0, 1250.0), (75.0, 70.0, 60.0)),
    }
    organs = {}
    for name, (centre, half) in shapes.items():
        organ = _ellipsoid(move, grid, centre, half)
        organs[name] = Column(np.maximum(organ.front, body.front + 5.0), np.minimum(organ.back, body.back - 5.0))
    return organs
