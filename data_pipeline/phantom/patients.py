"""Draws the parameters of one virtual patient."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any

import numpy as np

from data_pipeline.phantom.priors import LogNormal


def stream(seed: int, index: int, name: str) -> np.random.Generator:
    """Random numbers of a named purpose for one patient; independent of every other stream."""
    return np.random.default_rng([seed, index, zlib.crc32(name.encode())])


def draw_log_normal(random: np.random.Generator, prior: LogNormal) -> float:
    """One value, cut to the prior's limits."""
    return float(np.clip(prior.median * prior.spread ** random.standard_normal(), prior.low, prior.high))


@dataclasses.dataclass(frozen=True)
class Patient:
    """Shape, uptake and acquisition of one virtual patient; lengths in mm, angles in degrees, factors without unit."""

    sex: str
    height_mm: float
    lateral_scale: float
    depth_scale: float
    girth_mm: float
    kyphosis_mm: float
    scoliosis_mm: tuple[float, float]
    tilt_deg: float
    asymmetry: float
    arm_abduction_deg: tuple[float, float]
    elbow_mm: tuple[float, float]
    leg_abduction_deg: tuple[float, float]
    foot_drop_deg: float
    foot_turn_deg: float
    wobble_mm: float
    shoulder_width_scale: float
    hip_width_scale: float
    bone_share: float
    soft_tissue_scale: float
    kidney_ratio: float
    kidney_side: float
    bladder_ratio: float
    bladder_volume_ml: float
    liver_ratio: float
    joint_scale: float
    region_spread: float
    texture: float
    camera: str
    pixel_mm: float
    counts_per_view: float
    gap_anterior_mm: float
    gap_posterior_mm: float
    head_row: int
    column_shift_mm: float

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return dataclasses.asdict(self)


def draw_patient(seed: int, index: int, *, camera: str | None = None, counts: float | None = None) -> Patient:
    """The patient `index` of `seed`; `camera` and `counts` override what would be drawn."""
    random = stream(seed, index, "patient")
    normal, uniform = random.standard_normal, random.uniform
    sex = "male" if uniform() < 0.6 else "female"
    # Adult means and spreads of height; breadth of shoulders and hips relative to height differ by sex.
    height = float(np.clip((1735.0 if sex == "male" else 1615.0) + 65.0 * normal(), 1480.0, 1930.0))
    drawn_camera = "ge" if uniform() < 0.5 else "siemens"
    drawn_counts = float(np.exp(uniform(np.log(1.2e6), np.log(3.6e6))))
    return Patient(
        sex=sex,
        height_mm=height,
        lateral_scale=float(np.clip(1.04 + 0.05 * normal(), 0.92, 1.16)),
        depth_scale=float(np.clip(1.0 + 0.06 * normal(), 0.86, 1.16)),
        girth_mm=float(np.clip(15.0 * 1.7 ** normal(), 5.0, 60.0)),
        kyphosis_mm=float(12.0 * normal()),
        scoliosis_mm=(float(5.0 * normal()), float(3.0 * normal())),
        tilt_deg=float(np.clip(1.2 * normal(), -3.0, 3.0)),
        asymmetry=float(0.02 * normal()),
        arm_abduction_deg=(float(uniform(0.0, 8.0)), float(uniform(0.0, 8.0))),
        elbow_mm=(float(10.0 * normal()), float(10.0 * normal())),
        leg_abduction_deg=(float(uniform(-1.5, 3.0)), float(uniform(-1.5, 3.0))),
        foot_drop_deg=float(uniform(30.0, 55.0)),
        foot_turn_deg=float(uniform(-22.0, 4.0)),
        wobble_mm=float(uniform(1.0, 4.0)),
        shoulder_width_scale=float((1.02 if sex == "male" else 0.97) + 0.02 * normal()),
        hip_width_scale=float((0.99 if sex == "male" else 1.04) + 0.02 * normal()),
        bone_share=float(1.25 ** normal()),
        soft_tissue_scale=float(1.15 ** normal()),
        kidney_ratio=float(7.0 * 1.5 ** normal()),
        kidney_side=float(0.15 * normal()),
        bladder_ratio=float(np.clip(22.0 * 1.8 ** normal(), 3.0, 90.0)),
        bladder_volume_ml=float(np.clip(90.0 * 1.7 ** normal(), 25.0, 350.0)),
        liver_ratio=float(1.25 * 1.15 ** normal()),
        joint_scale=float(1.3 ** normal()),
        region_spread=0.2,
        texture=float(uniform(0.05, 0.15)),
        camera=camera or drawn_camera,
        pixel_mm=float(uniform(2.1, 2.4)),
        counts_per_view=float(counts or drawn_counts),
        gap_anterior_mm=float(uniform(20.0, 60.0)),
        gap_posterior_mm=float(uniform(30.0, 50.0)),
        head_row=int(random.integers(60, 110)),
        column_shift_mm=float(8.0 * normal()),
    )
