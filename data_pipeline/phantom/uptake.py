"""Tracer activity of bones, soft tissue and organs, relative to soft tissue = 1 per mm3.

The logarithm of a bone point's uptake is a sum: its bone (reference, group, both sides, this bone alone), the parts
that it belongs to (kind, this part alone), and a smooth texture. Neighbouring vertebrae follow each other.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from data_pipeline.phantom.parts import load_parts
from data_pipeline.phantom.patients import Patient, stream
from data_pipeline.phantom.priors.lesions import SUPERSCAN_SOFT_SHARE
from data_pipeline.phantom.priors.uptake import (
    BONE_GROUPS,
    BONE_TO_SOFT,
    BONE_UPTAKE,
    OTHER_BONE_UPTAKE,
    PARTS,
    SPINE_MEMORY,
    SURFACE_MM,
    UptakeSpreads,
)
from data_pipeline.phantom.skeleton import Skeleton

STERNUM_HALF_WIDTH_MM = ([0.0, 0.08, 0.28, 0.36, 0.65, 0.8, 0.9, 1.0], [20.0, 27.0, 15.0, 13.0, 17.0, 14.0, 6.0, 3.0])
"""Half width of manubrium, body and xiphoid against the share of the length from the top: adult textbook breadths."""

STERNUM_EDGE_MM = 1.5
TEXTURE_LENGTHS_MM = (260.0, 140.0, 80.0, 45.0)
WAVES_PER_LENGTH = 3


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


def assign_uptake(patient: Patient, skeleton: Skeleton, *, seed: int, index: int, superscan: bool = False) -> Uptake:
    """Uptake of every bone, vertebra, joint, side and part on its own; concentrations elsewhere.

    Args:
      patient: whose scales are used.
      skeleton: its points.
      seed: of the population.
      index: of the patient.
      superscan: bone has taken nearly all tracer: soft tissue and kidneys are faint.
    """
    bones, parts = stream(seed, index, "bone uptake"), stream(seed, index, "part uptake")
    spreads = UptakeSpreads()
    log = _bone_logs(skeleton, bones, spreads, patient.uptake_spread)[skeleton.bone]
    kinds = {kind: parts.standard_normal() for kind in PARTS}
    for part in load_parts():
        prior = PARTS[part.kind]
        wear = prior.age_power * np.log(patient.age_years / 60.0)
        value = np.log(prior.ratio) + wear + np.log(prior.common) * kinds[part.kind]
        value += np.log(prior.own) * parts.standard_normal()
        log[part.index] += value * part.weight
    log += _texture(skeleton, stream(seed, index, "bone texture"), patient.texture)
    concentration = np.exp(log) * _sternum_shape(skeleton)
    soft = patient.soft_tissue_scale * (SUPERSCAN_SOFT_SHARE if superscan else 1.0)
    kidney = patient.kidney_ratio * (SUPERSCAN_SOFT_SHARE if superscan else 1.0)
    return Uptake(
        points=BONE_TO_SOFT * patient.bone_share * concentration * skeleton.area_mm2 * SURFACE_MM,
        soft=soft,
        lung=0.35 * soft,
        organs={
            "kidney_right": max(kidney * (1.0 + patient.kidney_side), soft),
            "kidney_left": max(kidney * (1.0 - patient.kidney_side), soft),
            "bladder": patient.bladder_ratio,
            "liver": patient.liver_ratio * soft,
        },
    )


def bone_factor(name: str) -> float:
    """Reference uptake of a bone."""
    return next((value for prefix, value in BONE_UPTAKE.items() if name.startswith(prefix)), OTHER_BONE_UPTAKE)


def _bone_logs(skeleton: Skeleton, random: np.random.Generator, spreads: UptakeSpreads, scale: float) -> np.ndarray:
    """`[bones]`: logarithm of each bone's uptake; `scale` widens or narrows all variation of this patient."""
    names = skeleton.names
    log = np.zeros(len(names))
    for group in BONE_GROUPS:
        chosen = [i for i, name in enumerate(names) if name.startswith(group)]
        log[chosen] += spreads.group * random.standard_normal()
    stems = sorted({name.removesuffix("_left").removesuffix("_right") for name in names})
    pairs = {stem: spreads.pair * random.standard_normal() for stem in stems}
    for i, name in enumerate(names):
        log[i] += pairs[name.removesuffix("_left").removesuffix("_right")] + spreads.bone * random.standard_normal()
    walk = 0.0
    spine = [f"thoracic_{i}" for i in range(1, 13)] + [f"lumbar_{i}" for i in range(1, 6)]
    for name in spine:
        walk = SPINE_MEMORY * walk + np.sqrt(1.0 - SPINE_MEMORY**2) * random.standard_normal()
        log[names.index(name)] += spreads.spine * walk
    sides = {side: spreads.side * random.standard_normal() for side in ("left", "right")}
    log += np.array([sides.get(name.rsplit("_", 1)[-1], 0.0) for name in names])
    return scale * log + np.log([bone_factor(name) for name in names])


def _sternum_shape(skeleton: Skeleton) -> np.ndarray:
    """1, falling to cartilage beside the sternum: the mesh holds both in one piece, cut straight at its sides."""
    share = np.ones(len(skeleton.points), np.float64)
    chosen = skeleton.of("sternum")
    x, z = np.abs(skeleton.points[chosen, 0]), skeleton.points[chosen, 2]
    width = np.interp((z.max() - z) / np.ptp(z), *STERNUM_HALF_WIDTH_MM)
    cartilage = BONE_UPTAKE["costal_cartilage"] / BONE_UPTAKE["sternum"]
    share[chosen] = cartilage + (1.0 - cartilage) / (1.0 + np.exp((x - width) / STERNUM_EDGE_MM))
    return share


def _texture(skeleton: Skeleton, random: np.random.Generator, amount: float) -> np.ndarray:
    """A sum of random plane waves of standard deviation `amount`, so that uptake varies smoothly along every bone."""
    count = WAVES_PER_LENGTH * len(TEXTURE_LENGTHS_MM)
    directions = random.standard_normal((count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions *= 2.0 * np.pi / np.repeat(TEXTURE_LENGTHS_MM, WAVES_PER_LENGTH)[:, None]
    phases = random.uniform(0.0, 2.0 * np.pi, count)
    value = np.zeros(len(skeleton.points))
    x, y, z = skeleton.points.T
    for (a, b, c), phase in zip(directions, phases, strict=True):
        value += np.sin(a * x + b * y + c * z + phase)
    return amount * value / np.sqrt(0.5 * count)
