"""Tracer activity of bones, soft tissue and organs, relative to soft tissue = 1 per mm3."""

from __future__ import annotations

import dataclasses

import numpy as np

from data_pipeline.phantom.patients import Patient, stream
from data_pipeline.phantom.priors import BONE_TO_SOFT, BONE_UPTAKE, JOINTS, OTHER_BONE_UPTAKE
from data_pipeline.phantom.skeleton import Skeleton

SURFACE_MM = 2.0
"""Thickness of the layer that takes up tracer on bone surfaces (80 % of it; the rest lies deeper)."""

INNER_SHARE = 0.2
STERNUM_HALF_WIDTH_MM = ([0.0, 0.08, 0.28, 0.36, 0.65, 0.8, 0.9, 1.0], [20.0, 27.0, 15.0, 13.0, 17.0, 14.0, 6.0, 3.0])
"""Half width of manubrium, body and xiphoid against the share of the length from the top: adult textbook breadths."""

STERNUM_EDGE_MM = 1.5
TEXTURE_LENGTHS_MM = (140.0, 80.0, 45.0)


@dataclasses.dataclass(frozen=True)
class Uptake:
    """Activity of a patient.

    Attributes:
      points: `[n]` activity of each bone point (concentration x mm3).
      soft: concentration in soft tissue.
      lung: concentration in lung.
      organs: concentration in each organ, by name.
    """

    points: np.ndarray
    soft: float
    lung: float
    organs: dict[str, float]


def assign_uptake(patient: Patient, skeleton: Skeleton, *, seed: int, index: int) -> Uptake:
    """Region factors (log-normal), joints and a smooth texture on bone; concentrations elsewhere."""
    random = stream(seed, index, "uptake")
    factor = np.array([_bone_factor(name) for name in skeleton.names])
    factor *= np.exp(patient.region_spread * 0.5 * random.standard_normal(len(factor)))
    # Neighbouring vertebrae, and all ribs, share most of their variation.
    for group in ("rib", "thoracic", "lumbar", "hip", "sternum", "skull"):
        chosen = [i for i, name in enumerate(skeleton.names) if name.startswith(group)]
        factor[chosen] *= np.exp(patient.region_spread * random.standard_normal())
    factor_of_point = factor[skeleton.bone] * _sternum_shape(skeleton)
    concentration = factor_of_point * _joints(patient, skeleton) * _texture(patient, skeleton, random)
    soft = patient.soft_tissue_scale
    return Uptake(
        points=(BONE_TO_SOFT * patient.bone_share * concentration * skeleton.area_mm2 * SURFACE_MM).astype(np.float64),
        soft=soft,
        lung=0.35 * soft,
        organs={
            "kidney_right": patient.kidney_ratio * (1.0 + patient.kidney_side),
            "kidney_left": patient.kidney_ratio * (1.0 - patient.kidney_side),
            "bladder": patient.bladder_ratio,
            "liver": patient.liver_ratio * soft,
        },
    )


def _bone_factor(name: str) -> float:
    for prefix, value in BONE_UPTAKE.items():
        if name.startswith(prefix):
            return value
    return OTHER_BONE_UPTAKE


def _sternum_shape(skeleton: Skeleton) -> np.ndarray:
    """1, falling to cartilage beside the sternum: the mesh holds both in one piece, cut straight at its sides."""
    share = np.ones(len(skeleton.points), np.float64)
    chosen = skeleton.of("sternum")
    x, z = np.abs(skeleton.points[chosen, 0]), skeleton.points[chosen, 2]
    width = np.interp((z.max() - z) / np.ptp(z), *STERNUM_HALF_WIDTH_MM)
    cartilage = BONE_UPTAKE["costal_cartilage"] / BONE_UPTAKE["sternum"]
    share[chosen] = cartilage + (1.0 - cartilage) / (1.0 + np.exp((x - width) / STERNUM_EDGE_MM))
    return share


def _joints(patient: Patient, skeleton: Skeleton) -> np.ndarray:
    """Higher uptake towards the ends of bones that carry joints, and at the manubriosternal junction."""
    factor = np.ones(len(skeleton.points), np.float64)
    for number, name in enumerate(skeleton.names):
        ratio = next((value for prefix, value in JOINTS.items() if name.startswith(prefix)), 1.0)
        chosen = skeleton.bone == number
        points = skeleton.points[chosen]
        if ratio > 1.0:
            axis = np.argmax(np.ptp(points, axis=0))
            along = (points[:, axis] - points[:, axis].min()) / np.ptp(points[:, axis])
            if name.startswith("scapula"):  # the glenoid is its lateral end
                along = np.abs(points[:, 0]) / np.abs(points[:, 0]).max()
            # Only the upper end of the humerus lies in a joint that matters here; the elbow is fainter.
            other = 0.1 if name.startswith("humerus") else 0.5
            end = np.maximum(np.exp(-(((1.0 - along) / 0.1) ** 2)), other * np.exp(-((along / 0.1) ** 2)))
            factor[chosen] += (ratio - 1.0) * patient.joint_scale * end
        if name == "sternum":
            top = points[:, 2].max()
            factor[chosen] += 0.5 * np.exp(-(((points[:, 2] - top + 25.0) / 25.0) ** 2))
    return factor


def _texture(patient: Patient, skeleton: Skeleton, random: np.random.Generator) -> np.ndarray:
    """Exp of a sum of random plane waves, so that uptake varies smoothly along every bone."""
    value = np.zeros(len(skeleton.points), np.float64)
    for length in TEXTURE_LENGTHS_MM:
        for _ in range(4):
            direction = random.standard_normal(3)
            direction /= np.linalg.norm(direction)
            phase = random.uniform(0.0, 2.0 * np.pi)
            value += np.sin(skeleton.points @ (direction * 2.0 * np.pi / length).astype(np.float64) + phase)
    return np.exp(patient.texture * value / np.sqrt(0.5 * 4 * len(TEXTURE_LENGTHS_MM)))
