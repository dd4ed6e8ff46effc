"""Draws the parameters of one virtual patient from the priors."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from data_pipeline.phantom.priors.distributions import LogNormal, Normal, Prior
from data_pipeline.phantom.priors.patient import (
    ACQUISITION,
    ARM_SIDE_DEG,
    BREAST_MM,
    COUNTS_PER_VIEW,
    EDGE_COLUMNS,
    HEAD_ROW,
    HEIGHT_MM,
    HIP_SCALE,
    MOTION_MM,
    MOTION_PROBABILITY,
    PHYSIOLOGY,
    POSTURE,
    SHAPE,
    SHOULDER_SCALE,
    SIDED,
)

COLUMNS = 256


def stream(seed: int, index: int, name: str) -> np.random.Generator:
    """Random numbers of a named purpose for one patient; independent of every other stream."""
    return np.random.default_rng([seed, index, zlib.crc32(name.encode())])


def draw_log_normal(random: np.random.Generator, prior: LogNormal) -> float:
    """One value, cut to the prior's limits."""
    return float(np.clip(prior.median * prior.spread ** random.standard_normal(), prior.low, prior.high))


def draw(random: np.random.Generator, prior: Prior) -> float:
    """One value of any prior, within its limits."""
    if isinstance(prior, LogNormal):
        return draw_log_normal(random, prior)
    if isinstance(prior, Normal):
        return float(np.clip(prior.mean + prior.spread * random.standard_normal(), prior.low, prior.high))
    return float(random.uniform(prior.low, prior.high))


@dataclasses.dataclass(frozen=True)
class Patient:
    """Shape, uptake and acquisition of one virtual patient; lengths in mm, angles in degrees, factors without unit.

    Pairs are right and left; `scoliosis_mm` are two waves along the spine, `field_of_view` the first column with counts
    and the first without. `priors` says what each is.
    """

    sex: str
    age_years: float
    height_mm: float
    bmi: float
    lateral_scale: float
    depth_scale: float
    kyphosis_mm: float
    lordosis_mm: float
    scoliosis_mm: tuple[float, float]
    tilt_deg: float
    asymmetry: float
    rib_slope_deg: float
    bone_deformation: float
    smooth_deformation_mm: float
    breast_mm: float
    shoulder_width_scale: float
    hip_width_scale: float
    arm_abduction_deg: tuple[float, float]
    elbow_flexion_share: tuple[float, float]
    elbow_mm: tuple[float, float]
    shoulder_raise_mm: tuple[float, float]
    shoulder_forward_mm: tuple[float, float]
    leg_abduction_deg: tuple[float, float]
    foot_drop_deg: float
    foot_turn_deg: float
    neck_pitch_deg: float
    neck_turn_deg: float
    neck_tilt_deg: float
    trunk_turn_deg: float
    trunk_twist_deg: float
    bone_share: float
    soft_tissue_scale: float
    soft_texture: float
    kidney_ratio: float
    kidney_side: float
    bladder_ratio: float
    bladder_volume_ml: float
    liver_ratio: float
    uptake_spread: float
    texture: float
    camera: str
    pixel_mm: float
    counts_per_view: float
    gap_anterior_mm: float
    gap_posterior_mm: float
    head_row: int
    column_shift_mm: float
    field_of_view: tuple[int, int]
    uniformity: float
    motion_mm: float
    scatter_scale: float = 1.0

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return dataclasses.asdict(self)


def redrawn(patient: Patient, priors: Mapping[str, Prior], *, seed: int, index: int) -> Patient:
    """The patient with some attributes drawn from other priors; of a pair each side by itself, all else as it was."""
    random = stream(seed, index, "redrawn")
    changed: dict[str, Any] = {}
    for name, prior in priors.items():
        pair = isinstance(getattr(patient, name), tuple)
        changed[name] = (draw(random, prior), draw(random, prior)) if pair else draw(random, prior)
    return dataclasses.replace(patient, **changed)


def draw_patient(seed: int, index: int, *, camera: str | None = None, counts: float | None = None) -> Patient:
    """The patient `index` of `seed`; `camera` and `counts` override what would be drawn."""
    random = stream(seed, index, "patient")
    sex = "male" if random.uniform() < 0.6 else "female"
    drawn_camera = "ge" if random.uniform() < 0.5 else "siemens"
    drawn_counts = float(np.exp(random.uniform(*np.log(COUNTS_PER_VIEW))))
    moves = random.uniform() < MOTION_PROBABILITY
    motion = draw(random, MOTION_MM)
    posture = stream(seed, index, "posture")
    held: dict[str, Any] = {name: draw(posture, prior) for name, prior in POSTURE.items()}
    arms = held.pop("arm_abduction_deg")
    limits = POSTURE["arm_abduction_deg"]
    right, left = np.clip(arms + ARM_SIDE_DEG * posture.standard_normal(2), limits.low, limits.high)
    for name, (prior, own) in SIDED.items():
        both = draw(posture, prior)
        sides = np.clip(both + own * posture.standard_normal(2), prior.low, prior.high)
        held[name] = (float(sides[0]), float(sides[1]))
    edges = random.integers(*EDGE_COLUMNS, size=2, endpoint=True)
    drawn: dict[str, Any] = {
        name: draw(random, prior) for priors in (SHAPE, PHYSIOLOGY, ACQUISITION) for name, prior in priors.items()
    }
    return Patient(
        sex=sex,
        height_mm=draw(random, HEIGHT_MM[sex]),
        scoliosis_mm=(float(6.0 * random.standard_normal()), float(4.0 * random.standard_normal())),
        breast_mm=draw(random, BREAST_MM[sex]),
        shoulder_width_scale=draw(random, SHOULDER_SCALE[sex]),
        hip_width_scale=draw(random, HIP_SCALE[sex]),
        arm_abduction_deg=(float(right), float(left)),
        camera=camera or drawn_camera,
        counts_per_view=float(counts or drawn_counts),
        head_row=int(random.integers(*HEAD_ROW)),
        field_of_view=(int(edges[0]), COLUMNS - int(edges[1])),
        motion_mm=motion if moves else 0.0,
        **held,
        **drawn,
    )
