"""Parts of the reference skeleton that take up tracer on their own: joints, parts of bones, by weight per point.

A part has a name such as `knee_left`, the points it covers and how much of it each point is, from 0 to 1. Priors of the
parts are in `priors.PARTS`, by the name without side and number.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from scipy.spatial import cKDTree

from data_pipeline.phantom.skeleton import Skeleton, load_skeleton

SIDES = (("right", -1.0), ("left", 1.0))
HAND = (
    *("capitate", "hamate", "lunate", "scaphoid", "pisiform", "triquetrum", "trapez", "thumb"),
    *("1m", "2", "3", "4", "5"),
)
"""First letters of the bones of hand and wrist."""

LEAST_WEIGHT = 0.02
VERTEBRAE = ("thoracic", "lumbar")
SACROILIAC_MM = 16.0


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the skeleton.

    Attributes:
      name: kind, then number and side where there are several.
      kind: key of `priors.PARTS`.
      index: `[m]` of its points.
      weight: `[m]` in (0, 1].
    """

    name: str
    kind: str
    index: np.ndarray
    weight: np.ndarray


@functools.cache
def load_parts() -> tuple[Part, ...]:
    """All parts of the reference skeleton, always in the same order."""
    skeleton = load_skeleton()
    return tuple(
        part
        for part in (
            *_joints(skeleton),
            *_spine(skeleton),
            *_chest(skeleton),
            *_pelvis_and_legs(skeleton),
            *_head(skeleton),
        )
        if len(part.index)
    )


def _part(kind: str, suffix: str, chosen: np.ndarray, weight: np.ndarray) -> Part:
    """`weight` is given for all points; only `chosen` ones with enough of it are kept."""
    index = np.flatnonzero(chosen & (weight > LEAST_WEIGHT))
    return Part(f"{kind}{suffix}", kind, index, weight[index])


def _ball(skeleton: Skeleton, centre: np.ndarray, radius_mm: float) -> np.ndarray:
    return np.exp(-((np.linalg.norm(skeleton.points - centre, axis=1) / radius_mm) ** 2))


def _between(values: np.ndarray, low: float, high: float, soft: float) -> np.ndarray:
    """1 between two levels, falling smoothly over `soft` outside."""
    below, above = (low - values) / soft, (values - high) / soft
    return np.exp(-np.square(np.maximum(np.maximum(below, above), 0.0)))


def _end(skeleton: Skeleton, bone: str, axis: int, sign: float, length_mm: float) -> np.ndarray:
    """Middle of the last `length_mm` of a bone in a direction."""
    points = skeleton.points[skeleton.bone == skeleton.names.index(bone)]
    along = sign * points[:, axis]
    return np.asarray(points[along > along.max() - length_mm].mean(axis=0))


def _joints(skeleton: Skeleton) -> list[Part]:
    parts = []
    for side, sign in SIDES:
        here = np.array([name.endswith(side) for name in skeleton.names])[skeleton.bone]
        here |= skeleton.of("sternum")
        rules = (
            ("shoulder", f"humerus_{side}", 2, 1.0, 45.0, 27.0, ("humerus", "scapula")),
            ("acromioclavicular", f"clavicle_{side}", 0, sign, 12.0, 15.0, ("clavicle", "scapula")),
            ("sternoclavicular", f"clavicle_{side}", 0, -sign, 12.0, 17.0, ("clavicle", "sternum", "rib_1_")),
            ("elbow", f"humerus_{side}", 2, -1.0, 20.0, 26.0, ("humerus", "ulna", "radius")),
            ("wrist", f"radius_{side}", 2, -1.0, 12.0, 26.0, ("radius", "ulna", *HAND)),
            ("hip_joint", f"femur_{side}", 2, 1.0, 30.0, 30.0, ("femur", "hip")),
            ("knee", f"tibia_{side}", 2, 1.0, 12.0, 36.0, ("femur", "tibia", "patella")),
            ("ankle", f"tibia_{side}", 2, -1.0, 12.0, 26.0, ("tibia", "talus", "fibula")),
            ("tarsus", f"foot_{side}", 1, -1.0, 60.0, 30.0, ("foot", "talus")),
            ("toe", f"bofoot_{side}", 0, -sign, 16.0, 20.0, ("bofoot", "foot")),
        )
        for kind, bone, axis, direction, length, radius, bones in rules:
            centre = _end(skeleton, bone, axis, direction, length)
            parts.append(_part(kind, f"_{side}", here & skeleton.of(*bones), _ball(skeleton, centre, radius)))
    return parts


def _spine(skeleton: Skeleton) -> list[Part]:
    """Of every vertebra: body, both facets, both endplates, spinous process."""
    parts = []
    for number, name in enumerate(skeleton.names):
        if not name.startswith(VERTEBRAE):
            continue
        own = skeleton.bone == number
        x, y, z = skeleton.points.T
        front, back = y[own].min(), y[own].max()
        share = (y - front) / (back - front)
        body = _between(share, -1.0, 0.50, 0.06)
        level = z - np.median(z[own & (share < 0.5)])
        half = np.ptp(z[own & (share < 0.4)]) / 2.0
        suffix = f"_{name}"
        parts += [
            _part("body", suffix, own, body),
            _part("endplate", f"{suffix}_upper", own, body * _between(level, 0.55 * half, 99.0, 2.5)),
            _part("endplate", f"{suffix}_lower", own, body * _between(level, -99.0, -0.55 * half, 2.5)),
            _part("spinous", suffix, own, _between(share, 0.72, 2.0, 0.05) * _between(np.abs(x), 0.0, 7.0, 3.0)),
        ]
        for side, sign in SIDES:
            lateral = _between(sign * x, 9.0, 24.0, 4.0) * _between(share, 0.52, 0.85, 0.06)
            parts.append(_part("facet", f"{suffix}_{side}", own, lateral))
    return parts


def _chest(skeleton: Skeleton) -> list[Part]:
    """Parts of the sternum, thirds of each rib and their front ends, spine and tip of the shoulder blades."""
    _, y, z = skeleton.points.T
    own = skeleton.of("sternum")
    share = (z[own].max() - z) / np.ptp(z[own])
    parts = [
        _part("manubrium", "", own, _between(share, 0.0, 0.24, 0.03)),
        _part("manubriosternal", "", own, np.exp(-(((share - 0.27) / 0.05) ** 2))),
        _part("sternum_body", "", own, _between(share, 0.30, 0.72, 0.06)),
        _part("xiphoid", "", own, _between(share, 0.80, 1.0, 0.06)),
    ]
    for number, name in enumerate(skeleton.names):
        rib = skeleton.bone == number
        if name.startswith("rib_"):
            along = (y[rib].max() - y) / np.ptp(y[rib])
            suffix = name.removeprefix("rib")
            parts += [
                _part("rib_back", suffix, rib, _between(along, 0.0, 0.25, 0.1)),
                _part("rib_side", suffix, rib, _between(along, 0.35, 0.65, 0.1)),
                _part("rib_front", suffix, rib, _between(along, 0.75, 1.0, 0.1)),
                _part("costochondral", suffix, rib, _between(along, 0.96, 1.0, 0.03)),
                _part(
                    "costovertebral", suffix, rib, _ball(skeleton, _end(skeleton, name, 0, _inward(name), 8.0), 11.0)
                ),
            ]
        if name.startswith("scapula"):
            low, high = z[rib].min(), z[rib].max()
            parts += [
                _part("scapular_spine", name[7:], rib, _between(z, high - 45.0, high, 8.0)),
                _part("scapular_tip", name[7:], rib, _between(z, low, low + 18.0, 8.0)),
            ]
    return parts


def _inward(name: str) -> float:
    return 1.0 if name.endswith("right") else -1.0


def _pelvis_and_legs(skeleton: Skeleton) -> list[Part]:
    parts = []
    x, y, z = skeleton.points.T
    sacrum = skeleton.of("sacrum")
    for side, sign in SIDES:
        own = skeleton.bone == skeleton.names.index(f"hip_{side}")
        near = np.full(len(x), np.inf)
        for these, others in ((own, sacrum & (sign * x > 5.0)), (sacrum & (sign * x > 5.0), own)):
            near[these] = cKDTree(skeleton.points[others]).query(skeleton.points[these])[0]
        parts += [
            _part("sacroiliac", f"_{side}", own | sacrum, np.exp(-((near / SACROILIAC_MM) ** 2))),
            _part("iliac_crest", f"_{side}", own, _between(z, 1055.0, 1090.0, 12.0)),
            _part("ischium", f"_{side}", own, _between(z, 860.0, 905.0, 12.0)),
            _part("pubis", f"_{side}", own, _between(np.abs(x), 0.0, 35.0, 10.0) * _between(y, 90.0, 150.0, 15.0)),
        ]
        femur = skeleton.bone == skeleton.names.index(f"femur_{side}")
        parts += [
            _part(
                "trochanter", f"_{side}", femur, _ball(skeleton, _end(skeleton, f"femur_{side}", 0, sign, 12.0), 26.0)
            ),
            _part("upper_shaft", f"_{side}", femur, _between(z, 720.0, 840.0, 30.0)),
            _part("lower_shaft", f"_{side}", femur, _between(z, 560.0, 680.0, 30.0)),
        ]
        tibia = skeleton.bone == skeleton.names.index(f"tibia_{side}")
        parts.append(_part("tibial_shaft", f"_{side}", tibia, _between(z, 220.0, 400.0, 30.0)))
        humerus = skeleton.bone == skeleton.names.index(f"humerus_{side}")
        parts.append(_part("deltoid", f"_{side}", humerus, _between(z, 1340.0, 1390.0, 20.0)))
    return parts


def _head(skeleton: Skeleton) -> list[Part]:
    """Face, nose, orbits, teeth of both jaws, base and parts of the vault."""
    _, y, z = skeleton.points.T
    skull, jaw = skeleton.of("skull"), skeleton.of("jaw")
    face = _between(y, 115.0, 165.0, 12.0) * _between(z, 1590.0, 1660.0, 10.0)
    front = np.array([0.0, 135.0, 1612.0])
    parts = [
        _part("face", "", skull, face),
        _part("nose", "", skull, _ball(skeleton, np.array([0.0, 135.0, 1640.0]), 20.0)),
        _part("teeth", "_upper", skull, _ball(skeleton, front, 26.0)),
        _part("teeth", "_lower", jaw, _ball(skeleton, front - np.array([0.0, 0.0, 18.0]), 26.0)),
        _part("skull_base", "", skull, _between(y, 190.0, 260.0, 15.0) * _between(z, 1600.0, 1640.0, 12.0)),
        _part("occiput", "", skull, _between(y, 262.0, 300.0, 12.0)),
        _part("forehead", "", skull, _between(y, 110.0, 150.0, 12.0) * _between(z, 1675.0, 1730.0, 12.0)),
    ]
    for side, sign in SIDES:
        parts += [
            _part("orbit", f"_{side}", skull, _ball(skeleton, np.array([sign * 32.0, 140.0, 1660.0]), 16.0)),
            _part("temple", f"_{side}", skull, _ball(skeleton, np.array([sign * 66.0, 210.0, 1650.0]), 26.0)),
            _part("jaw_angle", f"_{side}", jaw, _ball(skeleton, np.array([sign * 48.0, 195.0, 1600.0]), 28.0)),
        ]
    return parts
