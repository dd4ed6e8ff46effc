"""The smooth map from the reference body to a patient's; bones, outline and organs all pass through it."""

from __future__ import annotations

import numpy as np

from data_pipeline.phantom.patients import Patient, stream

REFERENCE_HEIGHT_MM = 1690.0
HIP_Z, SHOULDER_Z = 930.0, 1490.0
MID_Y = 195.0
NECK_Z, HEAD_Z = 1505.0, 1600.0
NECK_Y = 240.0
NECK_HALF_WIDTH_MM = 95.0
KNEE_Z = 560.0
STRAIGHT_LEGS = 0.25
"""Share of the waves left in the legs, whose shafts stay straight."""

WAVES = 9
WAVELENGTHS_MM = (180.0, 600.0)


class Deformation:
    """Works on any points `[n, 3]`, mm: size, spine, neck, turns, and random smooth waves."""

    def __init__(self, patient: Patient, *, seed: int, index: int) -> None:
        self._p = patient
        random = stream(seed, index, "smooth shape")
        direction = random.standard_normal((WAVES, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        lengths = np.exp(random.uniform(np.log(WAVELENGTHS_MM[0]), np.log(WAVELENGTHS_MM[1]), WAVES))
        self._waves = direction * (2.0 * np.pi / lengths)[:, None]
        self._phases = random.uniform(0.0, 2.0 * np.pi, WAVES)
        # Long waves carry more of the displacement: the strain, not the displacement, is alike.
        share = lengths / np.sqrt((lengths**2).sum())
        self._amplitudes = (
            patient.smooth_deformation_mm * np.sqrt(2.0) * share[:, None] * random.standard_normal((WAVES, 3))
        )

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """The patient's points."""
        p, scale = self._p, self._p.height_mm / REFERENCE_HEIGHT_MM
        x, y, z = self._neck(points[:, 0], points[:, 1], points[:, 2])
        x, y = self._turned(x, y - MID_Y, z)
        x, y, z = self._waved(x, y, z)
        width = p.lateral_scale * np.interp(
            z, [700, HIP_Z, 1200, SHOULDER_Z, 1600], [1.0, p.hip_width_scale, 1.0, p.shoulder_width_scale, 1.0]
        )
        x = x * width * (1.0 + p.asymmetry * np.sign(x) * np.clip(np.abs(x) / 40.0, 0, 1))
        y = y * p.depth_scale
        spine = np.clip((z - HIP_Z) / (SHOULDER_Z - HIP_Z), 0.0, 1.0)
        x = x + p.scoliosis_mm[0] * np.sin(np.pi * spine) + p.scoliosis_mm[1] * np.sin(2 * np.pi * spine)
        y = y + p.kyphosis_mm * np.sin(np.pi * np.clip((z - 1150.0) / 450.0, 0, 1))
        y = y - p.lordosis_mm * np.sin(np.pi * np.clip((z - 1020.0) / 240.0, 0, 1))
        tilt = np.deg2rad(p.tilt_deg)
        dz = z - 1000.0
        x, z = x * np.cos(tilt) + dz * np.sin(tilt), dz * np.cos(tilt) - x * np.sin(tilt) + 1000.0
        return np.stack([x * scale, y * scale, z * scale], axis=1)

    def _neck(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Head nodded, turned and tilted; the neck follows, what lies beside it does not."""
        p = self._p
        weight = np.clip((z - NECK_Z) / (HEAD_Z - NECK_Z), 0.0, 1.0)
        weight = weight * np.clip((NECK_HALF_WIDTH_MM - np.abs(x)) / 20.0, 0.0, 1.0)
        pitch, turn, tilt = (
            np.deg2rad(angle) * weight for angle in (p.neck_pitch_deg, p.neck_turn_deg, p.neck_tilt_deg)
        )
        dy, dz = y - NECK_Y, z - NECK_Z
        dy, dz = dy * np.cos(pitch) + dz * np.sin(pitch), dz * np.cos(pitch) - dy * np.sin(pitch)
        x, dz = x * np.cos(tilt) + dz * np.sin(tilt), dz * np.cos(tilt) - x * np.sin(tilt)
        dy = dy + NECK_Y - MID_Y - 10.0
        x, dy = x * np.cos(turn) - dy * np.sin(turn), x * np.sin(turn) + dy * np.cos(turn)
        return x, dy + MID_Y + 10.0, dz + NECK_Z

    def _turned(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """About the body's long axis: the trunk as a whole, and the shoulders against the pelvis; legs less."""
        p = self._p
        whole = p.trunk_turn_deg * np.clip((z - 500.0) / 400.0, 0.0, 1.0)
        angle = np.deg2rad(whole + p.trunk_twist_deg * np.clip((z - 1000.0) / 450.0, 0.0, 1.0))
        return x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)

    def _waved(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        dx, dy, dz = np.zeros_like(x), np.zeros_like(y), np.zeros_like(z)
        for (a, b, c), phase, amplitude in zip(self._waves, self._phases, self._amplitudes, strict=True):
            wave = np.sin(a * x + b * y + c * z + phase)
            dx, dy, dz = dx + amplitude[0] * wave, dy + 0.5 * amplitude[1] * wave, dz + amplitude[2] * wave
        straight = STRAIGHT_LEGS + (1.0 - STRAIGHT_LEGS) * np.clip((z - KNEE_Z) / (HIP_Z - KNEE_Z), 0.0, 1.0)
        return x + straight * dx, y + straight * dy, z + straight * dz
