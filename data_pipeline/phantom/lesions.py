"""Metastases grown on bone.

A spot is a set of bone points with more activity than the bone around it, or less: it follows a rib, fills a part of a
vertebra or all of it, and can never leave the bone. `benign` grows what looks like a metastasis with the same means.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from data_pipeline.phantom.anatomy import Anatomy
from data_pipeline.phantom.patients import draw, draw_log_normal, stream
from data_pipeline.phantom.priors.lesions import LesionPriors
from data_pipeline.phantom.skeleton import Skeleton

ELONGATED = ("rib", "clavicle", "humerus", "femur", "tibia")
TANGENT_RADIUS_MM = 25.0
VERTEBRA = ("thoracic", "lumbar")
MIN_POINTS = 6
MAX_SPOTS = 250
"""Masks hold ids in one byte."""


@dataclasses.dataclass(frozen=True)
class _Named:
    """What a metastasis or a benign hot spot is.

    Attributes:
      id: 1, 2, ... within its kind.
      kind: `metastasis`, or what kind of benign spot.
      bone: name of the bone it sits on; `soft_tissue` of spots outside bone.
      size_mm: longest axis of what was grown.
      contrast: activity over that of the bone around it (for soft-tissue spots, over soft tissue); below 1 it is cold.
      cold_centre: whether its middle takes up less.
      cluster: number of the confluent cluster it belongs to, or None.
    """

    id: int
    kind: str
    bone: str
    size_mm: float
    contrast: float
    cold_centre: bool
    cluster: int | None


@dataclasses.dataclass(frozen=True)
class SpotFacts(_Named):
    """What patient.json has of a spot; `centre_mm` is the mean of its points."""

    centre_mm: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Spot(_Named):
    """A metastasis or a benign hot spot with its points.

    Attributes:
      position: `[m, 3]` mm of its points.
      row, column: `[m]` pixel coordinates of its points in the anterior view.
      activity: `[m]` activity added by the spot.
    """

    position: np.ndarray
    row: np.ndarray
    column: np.ndarray
    activity: np.ndarray

    def facts(self) -> SpotFacts:
        """Itself without its points."""
        named = {field.name: getattr(self, field.name) for field in dataclasses.fields(_Named)}
        return SpotFacts(**named, centre_mm=tuple(round(float(value), 1) for value in self.position.mean(axis=0)))


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
        cold: bool = False,
        cluster: int | None = None,
    ) -> Spot | None:
        """The points of one bone within a rough ellipsoid around `seed_point`; None where the bone ends too soon."""
        skeleton, points = self._skeleton, self._anatomy.points
        name = skeleton.names[skeleton.bone[seed_point]]
        near = np.flatnonzero(skeleton.bone == skeleton.bone[seed_point])
        offset = points[near] - points[seed_point]
        distance = np.linalg.norm(offset, axis=1)
        if name.startswith(ELONGATED):
            local = offset[distance < TANGENT_RADIUS_MM]
            tangent = main_axis(local)
            along = offset @ tangent
            across = np.linalg.norm(offset - along[:, None] * tangent, axis=1)
            radius = np.hypot(along / (0.5 * length_mm), across / min(0.5 * length_mm, 18.0))
        else:
            radius = distance / (0.5 * length_mm * self._random.uniform(0.75, 1.0))
        edge = 1.0 + 0.2 * self._roughness(offset, length_mm)
        inside = radius < edge
        if inside.sum() < MIN_POINTS:
            return None
        gain = np.full(inside.sum(), contrast - 1.0, np.float64)
        if cold:
            gain[radius[inside] < 0.45] = -0.6
        return self.spot(number, kind, near[inside], contrast, gain, cold=cold, cluster=cluster)

    def spot(
        self,
        number: int,
        kind: str,
        chosen: np.ndarray,
        contrast: float,
        gain: np.ndarray | float,
        *,
        cold: bool = False,
        cluster: int | None = None,
    ) -> Spot:
        """The spot of the points `chosen`, whose activity grows by `gain` times itself."""
        extent = self._anatomy.points[chosen]
        return Spot(
            id=number,
            kind=kind,
            bone=self._skeleton.names[self._skeleton.bone[chosen[0]]],
            size_mm=round(float(np.ptp(extent @ main_axis(extent))), 1),
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


@dataclasses.dataclass(frozen=True)
class Burden:
    """How ill a patient is.

    Attributes:
      lesions: how many metastases are drawn.
      superscan: whether they fill the axial skeleton and leave little tracer to soft tissue.
    """

    lesions: int
    superscan: bool


def draw_burden(priors: LesionPriors, *, seed: int, index: int) -> Burden:
    """Of the patient `index`."""
    return burden(stream(seed, index, "burden"), priors)


def burden(random: np.random.Generator, priors: LesionPriors) -> Burden:
    """None, one, 2 to 8, 9 to many (fewer patients the more), or a superscan."""
    if random.uniform() < priors.share_without:
        return Burden(0, False)
    kind = random.uniform()
    if kind < priors.share_solitary:
        return Burden(1, False)
    kind -= priors.share_solitary
    if kind < priors.share_multiple:
        return Burden(int(random.integers(2, 9)), False)
    if kind - priors.share_multiple < priors.share_superscan:
        return Burden(int(random.integers(*priors.superscan_lesions)), True)
    return Burden(int(np.exp(random.uniform(np.log(9.0), np.log(priors.most + 1.0)))), False)


def draw_metastases(
    skeleton: Skeleton,
    anatomy: Anatomy,
    activity: np.ndarray,
    priors: LesionPriors,
    *,
    seed: int,
    index: int,
) -> list[Spot]:
    """The patient's metastases; possibly none."""
    ill = draw_burden(priors, seed=seed, index=index)
    random = stream(seed, index, "metastases")
    grower = Grower(skeleton, anatomy, activity, random)
    sites, weights = list(priors.sites), np.array(list(priors.sites.values()))
    weights = weights / weights.sum()
    count = min(ill.lesions, MAX_SPOTS)
    cluster_left, cluster_centre = 0, None
    spots: list[Spot] = []
    for _ in range(20 * count):
        if len(spots) == count:
            break
        site = str(random.choice(sites, p=weights))
        if cluster_left:
            seed_point = grower.random_point("", near=cluster_centre, within_mm=priors.cluster_radius_mm)
        else:
            seed_point = grower.random_point(site)
        starts = not spots and count > 3 and random.uniform() < priors.cluster_probability
        if seed_point is None:
            continue
        cluster = 1 if cluster_left or starts else None
        spot = _metastasis(grower, skeleton, len(spots) + 1, seed_point, cluster, priors, random)
        if spot is None:
            continue
        spots.append(spot)
        if starts:
            cluster_left, cluster_centre = int(random.integers(2, min(6, count))), spot.position.mean(axis=0)
        elif cluster_left:
            cluster_left -= 1
    return spots


def _metastasis(
    grower: Grower,
    skeleton: Skeleton,
    number: int,
    seed_point: int,
    cluster: int | None,
    priors: LesionPriors,
    random: np.random.Generator,
) -> Spot | None:
    """Hot, hot with a cold centre, cold (lytic), or a whole vertebra."""
    length = draw_log_normal(random, priors.length_mm)
    contrast = draw_log_normal(random, priors.contrast)
    cold = length > priors.cold_centre_min_mm and random.uniform() < priors.cold_centre_probability
    lytic, whole = random.uniform() < priors.lytic_probability, random.uniform() < priors.whole_vertebra_probability
    if skeleton.names[skeleton.bone[seed_point]].startswith(VERTEBRA) and whole:
        chosen = np.flatnonzero(skeleton.bone == skeleton.bone[seed_point])
        return grower.spot(number, "metastasis", chosen, contrast, contrast - 1.0, cluster=cluster)
    if lytic:
        contrast, cold = draw(random, priors.lytic_contrast), False
    return grower.grow(
        number,
        kind="metastasis",
        seed_point=seed_point,
        length_mm=length,
        contrast=contrast,
        cold=cold,
        cluster=cluster,
    )


def main_axis(points: np.ndarray) -> np.ndarray:
    """Direction of the greatest extent."""
    offset = points - points.mean(axis=0)
    return np.asarray(np.linalg.eigh(offset.T @ offset)[1][:, -1])
