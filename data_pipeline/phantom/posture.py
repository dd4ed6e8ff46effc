"""How a patient lies: arms, shoulders, ribs, legs and feet of the reference skeleton moved before the body is deformed.

Frame as in `skeleton`: x left, y back, z up, mm. Bones also get a size and a direction of their own here.
"""

from __future__ import annotations

import numpy as np

from data_pipeline.phantom.parts import HAND, SIDES
from data_pipeline.phantom.patients import Patient, stream
from data_pipeline.phantom.skeleton import Skeleton

SHOULDER, HIP = (168.0, 1485.0), (85.0, 930.0)
CLAVICLE_MM = (25.0, 148.0)
RIB_PIVOT_Y = 250.0
LEG = ("femur", "tibia", "fibula", "patella", "foot", "bofoot", "talus")
SCALE_SPREAD, TURN_SPREAD_DEG, SHIFT_SPREAD_MM = 0.035, 1.3, 0.8
"""Of one bone, times `Patient.bone_deformation`."""

ARM_OUT_SHARE = 0.6
"""Of the girth beyond that of a lean body, by which the arms lie farther out."""

LEAN_GIRTH_MM = 15.0


def pose(patient: Patient, skeleton: Skeleton, girth_mm: float, *, seed: int, index: int) -> np.ndarray:
    """`[n, 3]`: the reference points with bones deformed one by one, limbs swung, shoulders raised, ribs sloped."""
    points = _deform_bones(patient, skeleton, seed=seed, index=index)
    thorax = skeleton.of("rib_", "sternum", "costal_cartilage")
    drop = np.tan(np.deg2rad(patient.rib_slope_deg))
    points[thorax, 2] -= drop * (RIB_PIVOT_Y - points[thorax, 1])
    for number, (side, sign) in enumerate(SIDES):
        here = np.array([name.endswith(side) for name in skeleton.names])[skeleton.bone]
        _pose_arm(patient, skeleton, points, here, sign, number, girth_mm)
        clavicle = here & skeleton.of("clavicle")
        outward = np.clip((np.abs(skeleton.points[clavicle, 0]) - CLAVICLE_MM[0]) / np.ptp(CLAVICLE_MM), 0.0, 1.0)
        points[clavicle, 2] -= (1.0 - outward) * drop * 60.0
        points[clavicle, 2] += outward * patient.shoulder_raise_mm[number]
        points[clavicle, 1] -= outward * patient.shoulder_forward_mm[number]
        feet = here & skeleton.of("foot", "bofoot", "talus")
        ankle = points[here & skeleton.of("talus")].mean(axis=0)
        _rotate(points, feet, (ankle[1], ankle[2]), patient.foot_drop_deg, axes=(1, 2))
        _rotate(points, feet, (ankle[0], ankle[2]), sign * patient.foot_turn_deg, axes=(0, 2))
        legs = here & skeleton.of(*LEG)
        _rotate(points, legs, (sign * HIP[0], HIP[1]), sign * patient.leg_abduction_deg[number], axes=(0, 2))
    return points


def _pose_arm(
    patient: Patient,
    skeleton: Skeleton,
    points: np.ndarray,
    here: np.ndarray,
    sign: float,
    number: int,
    girth_mm: float,
) -> None:
    """The forearm bends inwards at the elbow, the arm swings out at the shoulder, the shoulder rises with it."""
    arm = here & skeleton.of("humerus", "ulna", "radius", *HAND)
    forearm = here & skeleton.of("ulna", "radius", *HAND)
    abduction = patient.arm_abduction_deg[number]
    lower = here & skeleton.of("humerus")
    elbow = points[lower & (points[:, 2] < points[lower, 2].min() + 25.0)].mean(axis=0)
    bend = patient.elbow_flexion_share[number] * abduction
    _rotate(points, forearm, (elbow[0], elbow[2]), -sign * bend, axes=(0, 2))
    _rotate(points, arm, (sign * SHOULDER[0], SHOULDER[1]), sign * abduction, axes=(0, 2))
    down = np.clip((SHOULDER[1] - points[arm, 2]) / 300.0, 0.0, 1.0)
    points[arm, 1] += down * patient.elbow_mm[number]
    points[arm, 0] += sign * ARM_OUT_SHARE * max(girth_mm - LEAN_GIRTH_MM, 0.0) * (0.2 + 0.8 * down)
    blade = here & skeleton.of("scapula")
    _rotate(points, blade, (sign * 100.0, 1480.0), sign * 0.25 * abduction, axes=(0, 2))
    shoulder = arm | blade
    points[shoulder, 2] += patient.shoulder_raise_mm[number]
    points[shoulder, 1] -= patient.shoulder_forward_mm[number]


def _deform_bones(patient: Patient, skeleton: Skeleton, *, seed: int, index: int) -> np.ndarray:
    """Every bone stretched, turned and shifted a little on its own about its middle, ribs about their back end."""
    random = stream(seed, index, "bone shapes")
    count = len(skeleton.names)
    amount = patient.bone_deformation
    stretch = 1.0 + amount * SCALE_SPREAD * random.standard_normal((count, 3))
    turn = np.deg2rad(amount * TURN_SPREAD_DEG) * random.standard_normal((count, 3))
    shift = amount * SHIFT_SPREAD_MM * random.standard_normal((count, 3))
    matrices = np.zeros((count, 3, 3))
    pivots = np.zeros((count, 3))
    for number, name in enumerate(skeleton.names):
        own = skeleton.points[skeleton.bone == number]
        pivots[number] = own[own[:, 1] > own[:, 1].max() - 12.0].mean(axis=0) if "rib_" in name else own.mean(axis=0)
        a, b, c = turn[number]
        # Small turns: the product of the three is their sum.
        matrices[number] = np.array([[1.0, -c, b], [c, 1.0, -a], [-b, a, 1.0]]) * stretch[number]
    offset = skeleton.points - pivots[skeleton.bone]
    moved = np.empty_like(offset)
    for axis in range(3):
        rows = matrices[skeleton.bone, axis]
        moved[:, axis] = rows[:, 0] * offset[:, 0] + rows[:, 1] * offset[:, 1] + rows[:, 2] * offset[:, 2]
    return moved + (pivots + shift)[skeleton.bone]


def _rotate(
    points: np.ndarray, chosen: np.ndarray, centre: tuple[float, float], degrees: float, *, axes: tuple[int, int]
) -> None:
    """In place, in the plane of two axes."""
    angle = np.deg2rad(degrees)
    first, second = points[chosen, axes[0]] - centre[0], points[chosen, axes[1]] - centre[1]
    points[chosen, axes[0]] = centre[0] + first * np.cos(angle) - second * np.sin(angle)
    points[chosen, axes[1]] = centre[1] + first * np.sin(angle) + second * np.cos(angle)
