"""Metastases grown on bone, and benign hot spots that look like them.

A spot is a set of bone points with more activity than the bone around it: it follows a rib, fills a part of a vertebra,
and can never leave the bone. Benign spots outside bone (injection site, contamination) are balls of their own points.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from data_pipeline.phantom.anatomy import Anatomy
from data_pipeline.phantom.patients import draw_log_normal, stream
from data_pipeline.phantom.priors import LesionPriors
from data_pipeline.phantom.skeleton import Skeleton

ELONGATED = ("rib", "clavicle", "humerus", "femur", "tibia")
TANGENT_RADIUS_MM = 25.0
MIN_POINTS = 6
MAX_SPOTS = 250
"""Masks hold ids in one byte."""


@dataclasses.dataclass(frozen=True)
class Spot:
    """A metastasis or a benign hot spot.

    Attributes:
      id: 1, 2, ... within its kind.
      kind: `metastasis`, or what kind of benign spot.
      bone: name of the bone it sits on; `soft_tissue` for injection site and contamination.
      size_mm: longest axis of what was grown.
      contrast: activity over that of the bone around it (for soft-tissue spots, over soft tissue).
      cold_centre: whether its middle takes up less.
      cluster: number of the confluent cluster it belongs to, or None.
      position: `[m, 3]` mm of its points.
      row, column: `[m]` pixel coordinates of its points in the anterior view.
      activity: `[m]` activity added by the spot.
    """

    id: int
    kind: str
    bone: str
    size_mm: float
    contrast: float
    cold_centre: bool
    cluster: int | None
    position: np.ndarray
    row: np.ndarray
    column: np.ndarray
    activity: np.ndarray

    def as_dict(self) -> dict[str, Any]:
        """What patient.json holds of it."""
        keys = ("id", "kind", "bone", "size_mm", "contrast", "cold_centre", "cluster")
        return {key: getattr(self, key) for key in keys} | {
            "centre_mm": [round(float(value), 1) for value in self.position.mean(axis=0)]
        }


class Grower:
    """Grows spots on one patient's bones."""

    def __init__(self, skeleton: Skeleton, anatomy: Anatomy, activity: np.ndarray, random: np.random.Generator) -> None:
        self._skeleton = skeleton
        self._anatomy = anatomy
        self._activity = activity
        self._random = random

    def grow(
        self,
        number: int,
        *,
        kind: str,
        seed_point: int,
        length_mm: float,
        contrast: float,
        cold: bool,
        cluster: int | None,
    ) -> Spot | None:
        """The points of one bone within a rough ellipsoid around `seed_point`; None where the bone ends too soon."""
        skeleton, points = self._skeleton, self._anatomy.points
        name = skeleton.names[skeleton.bone[seed_point]]
        near = np.flatnonzero(skeleton.bone == skeleton.bone[seed_point])
        offset = points[near] - points[seed_point]
        distance = np.linalg.norm(offset, axis=1)
        if name.startswith(ELONGATED):
            local = offset[distance < TANGENT_RADIUS_MM]
            tangent = np.linalg.svd(local - local.mean(axis=0), full_matrices=False)[2][0]
            along = offset @ tangent
            across = np.linalg.norm(offset - along[:, None] * tangent, axis=1)
            radius = np.hypot(along / (0.5 * length_mm), across / min(0.5 * length_mm, 18.0))
        else:
            radius = distance / (0.5 * length_mm * self._random.uniform(0.75, 1.0))
        edge = 1.0 + 0.2 * self._roughness(offset, length_mm)
        inside = radius < edge
        if inside.sum() < MIN_POINTS:
            return None
        chosen = near[inside]
        gain = np.full(len(chosen), contrast - 1.0, np.float64)
        if cold:
            gain[radius[inside] < 0.45] = -0.6
        extent = points[chosen]
        return Spot(
            id=number,
            kind=kind,
            bone=name,
            size_mm=round(float(np.ptp(extent @ _main_axis(extent))), 1),
            contrast=round(contrast, 3),
            cold_centre=cold,
            cluster=cluster,
            position=extent,
            row=self._anatomy.row[chosen],
            column=self._anatomy.column[chosen],
            activity=gain * self._activity[chosen],
        )

    def random_point(self, prefix: str, *, near: np.ndarray | None = None, within_mm: float = 0.0) -> int | None:
        """A point of a bone whose name begins with `prefix`, drawn by area; optionally close to `near`."""
        chosen = self._skeleton.of(prefix) if prefix else ~self._skeleton.of("costal_cartilage")
        if near is not None:
            chosen &= np.linalg.norm(self._anatomy.points - near, axis=1) < within_mm
        candidates = np.flatnonzero(chosen)
        if not len(candidates):
            return None
        area = self._skeleton.area_mm2[candidates]
        return int(self._random.choice(candidates, p=area / area.sum()))

    def _roughness(self, offset: np.ndarray, length_mm: float) -> np.ndarray:
        waves = self._random.standard_normal((3, 3)) * 2.0 / length_mm
        return np.sin(offset @ waves.T + self._random.uniform(0, 2 * np.pi, 3)).sum(axis=1) / np.sqrt(3)


def draw_metastases(
    skeleton: Skeleton, anatomy: Anatomy, activity: np.ndarray, priors: LesionPriors, *, seed: int, index: int
) -> list[Spot]:
    """The patient's metastases; possibly none."""
    random = stream(seed, index, "metastases")
    grower = Grower(skeleton, anatomy, activity, random)
    sites, weights = list(priors.sites), np.array(list(priors.sites.values()))
    count = _lesion_count(random, priors)
    cluster_left, cluster_centre = 0, None
    spots: list[Spot] = []
    for _ in range(20 * count):
        if len(spots) == min(count, MAX_SPOTS):
            break
        site = str(random.choice(sites, p=weights / weights.sum()))
        if cluster_left:
            seed_point = grower.random_point("", near=cluster_centre, within_mm=priors.cluster_radius_mm)
        else:
            seed_point = grower.random_point(site)
        length = draw_log_normal(random, priors.length_mm)
        cold = length > priors.cold_centre_min_mm and random.uniform() < priors.cold_centre_probability
        contrast = draw_log_normal(random, priors.contrast)
        starts = not spots and count > 3 and random.uniform() < priors.cluster_probability
        if seed_point is None:
            continue
        spot = grower.grow(
            len(spots) + 1,
            kind="metastasis",
            seed_point=seed_point,
            length_mm=length,
            contrast=contrast,
            cold=cold,
            cluster=1 if cluster_left or starts else None,
        )
        if spot is None:
            continue
        spots.append(spot)
        if starts:
            cluster_left, cluster_centre = int(random.integers(2, min(6, count))), spot.position.mean(axis=0)
        elif cluster_left:
            cluster_left -= 1
    return spots


def draw_benign(
    skeleton: Skeleton,
    anatomy: Anatomy,
    activity: np.ndarray,
    soft: float,
    priors: LesionPriors,
    *,
    seed: int,
    index: int,
) -> list[Spot]:
    """Degeneration, joints, costochondral junctions, aligned rib fractures, injection site, contamination."""
    random = stream(seed, index, "benign")
    grower = Grower(skeleton, anatomy, activity, random)
    kinds = {
        "degeneration": ("thoracic", "lumbar", "cervical_spine"),
        "joint": ("humerus", "clavicle", "scapula", "sternum", "hip", "patella", "foot"),
        "costochondral": ("rib",),
        "skull": ("skull", "jaw"),
    }
    spots: list[Spot] = []

    def add(kind: str, seed_point: int | None, contrast: float, length: float) -> None:
        if seed_point is None:
            return
        spot = grower.grow(
            len(spots) + 1,
            kind=kind,
            seed_point=seed_point,
            length_mm=length,
            contrast=contrast,
            cold=False,
            cluster=None,
        )
        if spot is not None:
            spots.append(spot)

    for _ in range(int(random.poisson(priors.benign_per_patient))):
        kind = str(random.choice(list(kinds), p=[0.4, 0.35, 0.17, 0.08]))
        point = grower.random_point(str(random.choice(kinds[kind])))
        if kind == "costochondral" and point is not None:
            rib = skeleton.bone == skeleton.bone[point]
            point = int(np.flatnonzero(rib)[anatomy.points[rib, 1].argmin()])  # its front end
        add(
            kind,
            point,
            draw_log_normal(random, priors.benign_contrast),
            draw_log_normal(random, priors.benign_length_mm),
        )
    if random.uniform() < 0.12:
        for point in _aligned_ribs(skeleton, anatomy, random):
            add("rib_fracture", point, draw_log_normal(random, priors.benign_contrast) * 1.4, random.uniform(8.0, 16.0))
    for kind, chance in (("injection_site", 0.35), ("contamination", 0.15)):
        if random.uniform() < chance:
            spots.append(_soft_spot(len(spots) + 1, kind, skeleton, anatomy, soft, random))
    return spots


def _lesion_count(random: np.random.Generator, priors: LesionPriors) -> int:
    if random.uniform() < priors.share_without:
        return 0
    kind = random.uniform()
    if kind < priors.share_solitary:
        return 1
    if kind < priors.share_solitary + priors.share_multiple:
        return int(random.integers(2, 9))
    return int(random.integers(9, 17))


def _aligned_ribs(skeleton: Skeleton, anatomy: Anatomy, random: np.random.Generator) -> list[int]:
    """Points of 2 to 4 neighbouring ribs under each other, as a fall breaks them."""
    side = str(random.choice(["left", "right"]))
    first, count = int(random.integers(3, 8)), int(random.integers(2, 5))
    depth = random.uniform(0.15, 0.85)
    points = []
    for number in range(first, first + count):
        rib = np.flatnonzero(skeleton.bone == skeleton.names.index(f"rib_{number}_{side}"))
        y = anatomy.points[rib, 1]
        points.append(int(rib[np.abs(y - (y.min() + depth * np.ptp(y))).argmin()]))
    return points


def _soft_spot(
    number: int, kind: str, skeleton: Skeleton, anatomy: Anatomy, soft: float, random: np.random.Generator
) -> Spot:
    """A ball of activity at the bend of an arm or wrist, or on the skin of the thigh."""
    side = str(random.choice(["left", "right"]))
    name, end = ("ulna", random.choice([0.1, 0.95])) if kind == "injection_site" else ("femur", 0.3)
    bone = skeleton.bone == skeleton.names.index(f"{name}_{side}")
    z = anatomy.points[bone, 2]
    centre_index = np.flatnonzero(bone)[np.abs(z - (z.max() - end * np.ptp(z))).argmin()]
    radius = random.uniform(4.0, 12.0)
    offset = random.uniform(-1.0, 1.0, size=(400, 3))
    offset = (offset[np.linalg.norm(offset, axis=1) < 1.0] * radius).astype(np.float64)
    offset[:, 1] -= 18.0  # in front of the bone
    contrast = float(np.exp(random.uniform(np.log(8.0), np.log(60.0))))
    volume = 4.0 / 3.0 * np.pi * radius**3
    pixel = _pixel_mm(anatomy)
    return Spot(
        id=number,
        kind=kind,
        bone="soft_tissue",
        size_mm=round(2.0 * radius, 1),
        contrast=round(contrast, 3),
        cold_centre=False,
        cluster=None,
        position=anatomy.points[centre_index] + offset,
        row=anatomy.row[centre_index] - offset[:, 2] / pixel,
        column=anatomy.column[centre_index] + offset[:, 0] / pixel,
        activity=np.full(len(offset), contrast * soft * volume / len(offset), np.float64),
    )


def _pixel_mm(anatomy: Anatomy) -> float:
    """From the points themselves: millimetres per pixel along the columns."""
    return float(np.ptp(anatomy.points[:, 0]) / np.ptp(anatomy.column))


def _main_axis(points: np.ndarray) -> np.ndarray:
    return np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2][0]
