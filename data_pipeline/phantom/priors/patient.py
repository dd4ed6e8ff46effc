"""Of body, posture, physiology and acquisition; `patients` draws from them. Our choice where no source is named."""

from __future__ import annotations

from collections.abc import Mapping

from data_pipeline.phantom.priors.distributions import LogNormal, Normal, Prior, Uniform

HEIGHT_MM: Mapping[str, Normal] = {
    "male": Normal(1735.0, 65.0, 1520.0, 1930.0),
    "female": Normal(1615.0, 62.0, 1450.0, 1800.0),
}
"""Adult means and spreads."""

SHOULDER_SCALE: Mapping[str, Normal] = {
    "male": Normal(1.03, 0.035, 0.93, 1.13),
    "female": Normal(0.97, 0.035, 0.87, 1.07),
}
HIP_SCALE: Mapping[str, Normal] = {"male": Normal(0.97, 0.03, 0.88, 1.06), "female": Normal(1.05, 0.035, 0.95, 1.15)}
BREAST_MM: Mapping[str, Uniform] = {"male": Uniform(0.0, 8.0), "female": Uniform(6.0, 45.0)}
"""How far the breast stands out in front of the ribs."""

SHAPE: Mapping[str, Prior] = {
    "age_years": Normal(64.0, 11.0, 30.0, 90.0),
    "bmi": LogNormal(26.5, 1.22, 17.0, 40.0),
    "lateral_scale": Normal(1.04, 0.06, 0.90, 1.20),
    "depth_scale": Normal(1.0, 0.07, 0.84, 1.18),
    "kyphosis_mm": Normal(4.0, 14.0, -25.0, 50.0),
    "lordosis_mm": Normal(6.0, 10.0, -15.0, 30.0),
    "tilt_deg": Normal(0.0, 1.5, -4.0, 4.0),
    "asymmetry": Normal(0.0, 0.025, -0.06, 0.06),
    "rib_slope_deg": Normal(0.0, 5.0, -10.0, 12.0),
    "bone_deformation": Uniform(0.5, 2.2),
    "smooth_deformation_mm": Uniform(3.0, 13.0),
    "foot_drop_deg": Uniform(25.0, 60.0),
    "foot_turn_deg": Uniform(-22.0, 8.0),
}
"""Of the body; BMI 17 to 40 spans clinical patients, the rest is our choice."""

POSTURE: Mapping[str, Prior] = {
    "arm_abduction_deg": Uniform(0.0, 30.0),
    "neck_pitch_deg": Normal(0.0, 8.0, -18.0, 22.0),
    "neck_turn_deg": Normal(0.0, 8.0, -25.0, 25.0),
    "neck_tilt_deg": Normal(0.0, 4.0, -12.0, 12.0),
    "trunk_turn_deg": Normal(0.0, 4.0, -10.0, 10.0),
    "trunk_twist_deg": Normal(0.0, 3.0, -8.0, 8.0),
}
"""Turn of the whole trunk about the body's axis, and of the shoulders against the pelvis; arms about 25 on the scan."""

SIDED: Mapping[str, tuple[Prior, float]] = {
    "shoulder_raise_mm": (Normal(0.0, 12.0, -20.0, 30.0), 6.0),
    "shoulder_forward_mm": (Normal(0.0, 8.0, -15.0, 20.0), 4.0),
    "elbow_mm": (Normal(0.0, 10.0, -25.0, 25.0), 6.0),
    "leg_abduction_deg": (Uniform(-2.0, 6.0), 1.0),
    "elbow_flexion_share": (Uniform(0.5, 1.8), 0.2),
}
"""Of both sides together, and the standard deviation of a side's own part; flexion is a share of the abduction."""

ARM_SIDE_DEG = 4.0
"""Standard deviation of one arm's abduction around that of both."""

PHYSIOLOGY: Mapping[str, Prior] = {
    "bone_share": LogNormal(1.0, 1.3, 0.5, 2.0),
    "soft_tissue_scale": LogNormal(1.0, 1.2, 0.6, 1.7),
    "soft_texture": Uniform(0.08, 0.38),
    "kidney_ratio": LogNormal(4.5, 1.8, 1.2, 18.0),
    "kidney_side": Normal(0.0, 0.2, -0.5, 0.5),
    "bladder_ratio": LogNormal(20.0, 1.9, 2.0, 90.0),
    "bladder_volume_ml": LogNormal(90.0, 1.7, 25.0, 400.0),
    "liver_ratio": LogNormal(1.3, 1.35, 0.8, 3.0),
    "uptake_spread": Uniform(0.6, 1.4),
    "texture": Uniform(0.08, 0.24),
}

ACQUISITION: Mapping[str, Prior] = {
    "pixel_mm": Uniform(2.1, 2.4),
    "gap_anterior_mm": Uniform(15.0, 70.0),
    "gap_posterior_mm": Uniform(25.0, 55.0),
    "column_shift_mm": Normal(0.0, 14.0, -36.0, 36.0),
    "uniformity": Uniform(0.0, 0.02),
}
COUNTS_PER_VIEW = (1.2e6, 3.6e6)
"""Even in the logarithm; a measured scan has 3.6 M."""

HEAD_ROW = (40, 115)
EDGE_COLUMNS = (0, 22)
"""Columns that the detector leaves out on each side, on the real scan 13."""

MOTION_PROBABILITY = 0.12
MOTION_MM = Uniform(3.0, 13.0)
