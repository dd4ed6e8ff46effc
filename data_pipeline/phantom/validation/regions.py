"""Regions that can be found on the real scan and on simulated ones: hand-placed boxes there, bones here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import binary_erosion

from data_pipeline.phantom.anatomy import Anatomy, build_anatomy
from data_pipeline.phantom.imaging.acquisition import Faults
from data_pipeline.phantom.patients import draw_patient
from data_pipeline.phantom.simulate import simulate_patient
from data_pipeline.phantom.skeleton import Skeleton, load_skeleton
from data_pipeline.scan import View

SEED = 2024
REAL_COLUMNS = (13, 243)
REAL_ROWS = {"chin": 174, "ischium": 470}
REAL_BOXES: dict[str, tuple[int, int, int, int]] = {
    "manubrium": (198, 230, 128, 142),
    "sternum body": (242, 288, 130, 140),
    "thoraco-lumbar spine": (312, 345, 134, 148),
    "lateral ribs": (260, 310, 80, 94),
    "shoulder": (200, 218, 56, 78),
    "skull": (96, 126, 112, 158),
    "mandible and teeth": (140, 172, 120, 152),
    "abdomen beside the spine": (330, 366, 92, 114),
    "femur shaft": (510, 560, 78, 86),
    "bladder": (412, 428, 126, 152),
}
REAL_THIGH = (510, 560, 96, 108)
"""Rows and columns, half open, on the real scan; soft tissue of the thigh is the reference of all ratios."""


class Person:
    """A simulated patient on a GE camera at the real scan's count level, without and with noise."""

    def __init__(self, index: int) -> None:
        skeleton = load_skeleton()
        self.made = simulate_patient(
            seed=SEED, index=index, camera="ge", counts=3.6e6, faults=Faults(), field_of_view=REAL_COLUMNS
        ).views
        self.expected = self.made[View.ANTERIOR].expected
        self.patient = draw_patient(SEED, index, camera="ge", counts=3.6e6)
        self.anatomy = build_anatomy(self.patient, skeleton, seed=SEED, index=index)
        # Lesions and benign spots are not part of the regions.
        self.clean = (self.made[View.ANTERIOR].lesions == 0) & (self.made[View.ANTERIOR].benign == 0)
        self.rows = {
            "chin": int(self.anatomy.row[skeleton.of("jaw")].max()),
            "ischium": int(self.anatomy.row[skeleton.of("hip")].max()),
        }

    def mean(self, mask: np.ndarray) -> float:
        """Mean expected counts of the healthy pixels of a mask; NaN if there are none."""
        chosen = mask & self.clean
        return float(self.expected[chosen].mean()) if chosen.any() else float("nan")

    def at_points(self, chosen: np.ndarray) -> np.ndarray:
        """Pixels hit by bone points."""
        mask: np.ndarray = np.zeros(self.expected.shape, bool)
        row, column = (np.round(axis[chosen]).astype(int) for axis in (self.anatomy.row, self.anatomy.column))
        inside = (row >= 0) & (row < mask.shape[0]) & (column >= 0) & (column < mask.shape[1])
        mask[row[inside], column[inside]] = True
        return mask

    def box(self, r0: int, r1: int, c0: int, c1: int) -> np.ndarray:
        """A rectangle."""
        mask = np.zeros(self.expected.shape, bool)
        mask[max(r0, 0) : r1, max(c0, 0) : c1] = True
        return mask


def _part(skeleton: Skeleton, prefix: str, axis: int, low: float, high: float) -> np.ndarray:
    """Points of a bone between two shares of its extent along an axis."""
    chosen, values = skeleton.of(prefix), skeleton.points.T[axis]
    begin, end = values[chosen].min(), values[chosen].max()
    return chosen & (values >= begin + low * (end - begin)) & (values <= begin + high * (end - begin))


def regions() -> dict[str, Callable[[Person], np.ndarray]]:
    """How each region of the real scan is found on a simulated one."""
    skeleton = load_skeleton()
    sternum_middle = skeleton.of("sternum") & (np.abs(skeleton.points[:, 0]) < 12.0)
    lateral_ribs = skeleton.of("rib_4_right", "rib_5_right", "rib_6_right", "rib_7_right")
    lateral_ribs &= skeleton.points[:, 0] < np.quantile(skeleton.points[lateral_ribs, 0], 0.3)
    calvaria = _part(skeleton, "skull", 2, 0.55, 0.9) & (np.abs(skeleton.points[:, 0]) < 45.0)
    return {
        "manubrium": lambda p: p.at_points(sternum_middle & _part(skeleton, "sternum", 2, 0.7, 0.95)),
        "sternum body": lambda p: p.at_points(sternum_middle & _part(skeleton, "sternum", 2, 0.2, 0.6)),
        "thoraco-lumbar spine": lambda p: p.at_points(skeleton.of("thoracic_12", "lumbar_1", "lumbar_2")),
        "lateral ribs": lambda p: p.at_points(lateral_ribs),
        "shoulder": lambda p: p.at_points(_part(skeleton, "humerus_right", 2, 0.85, 1.0)),
        "skull": lambda p: p.at_points(calvaria),
        "mandible and teeth": lambda p: p.at_points(skeleton.of("jaw")),
        "abdomen beside the spine": _abdomen,
        "femur shaft": lambda p: p.at_points(_part(skeleton, "femur_right", 2, 0.45, 0.65)),
        "bladder": lambda p: _core(p.anatomy, "bladder"),
    }


def _abdomen(person: Person) -> np.ndarray:
    chosen = load_skeleton().of("lumbar_2", "lumbar_3")
    row, column = person.anatomy.row[chosen], float(person.anatomy.column[chosen].mean())
    return person.box(int(row.min()), int(row.max()), int(column) - 50, int(column) - 28)


def thigh(person: Person) -> np.ndarray:
    """Between the shafts: as far inwards from the bone as the box on the real scan."""
    chosen = _part(load_skeleton(), "femur_right", 2, 0.45, 0.65)
    row, column = person.anatomy.row[chosen], float(person.anatomy.column[chosen].mean())
    return person.box(int(row.min()), int(row.max()), int(column) + 14, int(column) + 26)


def _core(anatomy: Anatomy, organ: str) -> np.ndarray:
    column = anatomy.organs[organ]
    return binary_erosion(column.front < column.back, iterations=3)
