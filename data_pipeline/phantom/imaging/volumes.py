"""Activity and attenuation of one patient in slabs from front to back, from which the camera's images are computed."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from data_pipeline.phantom.anatomy import Anatomy
from data_pipeline.phantom.imaging.camera import on_the_cpu, tissue_volume
from data_pipeline.phantom.lesions import Spot
from data_pipeline.phantom.outline import ROWS
from data_pipeline.phantom.patients import COLUMNS, Patient
from data_pipeline.phantom.priors.uptake import MU_BONE_EXTRA_PER_MM, MU_LUNG_PER_MM, MU_SOFT_PER_MM
from data_pipeline.phantom.uptake import Uptake

SLABS = 44
SLAB_MM = 9.0
BONE_LAYER_MM = 4.0
"""Thickness of mineral that a surface point stands for in the attenuation."""

SOFT_LENGTHS_MM = (350.0, 150.0)
"""Wavelengths of the unevenness of soft tissue."""


def soft_texture(patient: Patient, random: np.random.Generator) -> np.ndarray:
    """`[rows, columns]` factors around 1: muscle, fat and gut take up unevenly, and slowly so."""
    field = np.zeros((ROWS, COLUMNS))
    for length_mm in SOFT_LENGTHS_MM:
        sigma = length_mm / patient.pixel_mm / (2.0 * np.pi)
        wave = gaussian_filter(random.standard_normal((ROWS // 8, COLUMNS // 8)), sigma / 8.0)
        field += zoom(wave / wave.std(), 8, order=1)
    return np.asarray(np.exp(patient.soft_texture * field / np.sqrt(len(SOFT_LENGTHS_MM))))


class Volumes:
    """Activity and attenuation of the patient in slabs from front to back."""

    def __init__(
        self,
        patient: Patient,
        anatomy: Anatomy,
        uptake: Uptake,
        area_mm2: np.ndarray,
        spots: list[Spot],
        muscles: np.ndarray,
    ) -> None:
        self.first_mm = anatomy.front_mm - 0.5 * (SLABS * SLAB_MM - (anatomy.back_mm - anatomy.front_mm))
        self.front_gap_mm = anatomy.front_mm - self.first_mm
        self.back_gap_mm = self.first_mm + SLABS * SLAB_MM - anatomy.back_mm
        voxel = patient.pixel_mm**2 * SLAB_MM
        organs = [anatomy.organs[name] for name in uptake.organs]
        columns = [anatomy.body, anatomy.lungs, *organs]
        front = np.stack([column.front for column in columns])
        back = np.stack([column.back for column in columns])
        values = [
            uptake.soft,
            uptake.lung - uptake.soft,
            *(uptake.organs[name] - uptake.soft for name in uptake.organs),
        ]
        mu_values = np.array([MU_SOFT_PER_MM, MU_LUNG_PER_MM - MU_SOFT_PER_MM])
        with on_the_cpu():
            activity = np.array(
                tissue_volume(front, back, np.array(values) * voxel, self.first_mm, SLAB_MM, slabs=SLABS)
            )
            mu = np.array(tissue_volume(front[:2], back[:2], mu_values, self.first_mm, SLAB_MM, slabs=SLABS))
        activity *= muscles
        slab = self.slab_of(anatomy.points[:, 1])
        deposit3(activity, slab, anatomy.row, anatomy.column, uptake.points)
        mineral = (MU_BONE_EXTRA_PER_MM * BONE_LAYER_MM / voxel) * area_mm2
        deposit3(mu, slab, anatomy.row, anatomy.column, mineral)
        for spot in spots:
            deposit3(activity, self.slab_of(spot.position[:, 1]), spot.row, spot.column, spot.activity)
        if any((spot.activity < 0).any() for spot in spots):  # two cold spots in one place
            np.maximum(activity, 0.0, out=activity)
        self.activity, self.mu = activity, mu

    def slab_of(self, y: np.ndarray) -> np.ndarray:
        """Fractional slab index of depths in mm."""
        return (y - self.first_mm) / SLAB_MM - 0.5


def deposit3(volume: np.ndarray, slab: np.ndarray, row: np.ndarray, column: np.ndarray, weight: np.ndarray) -> None:
    """Adds `weight` at fractional voxels of `[slabs, rows, columns]`, shared trilinearly; the rest is lost."""
    flat = volume.reshape(-1)
    floors = [np.floor(coordinate).astype(np.int32) for coordinate in (slab, row, column)]
    shares = [coordinate - low for coordinate, low in zip((slab, row, column), floors, strict=True)]
    inside = np.ones(len(weight), bool)
    for low, size in zip(floors, volume.shape, strict=True):
        inside &= (low >= 0) & (low < size - 1)
    (k, r, c), (fk, fr, fc) = ([a[inside] for a in arrays] for arrays in (floors, shares))
    base = (k.astype(np.int64) * volume.shape[1] + r) * volume.shape[2] + c
    amount = weight[inside]
    plane, line = volume.shape[1] * volume.shape[2], volume.shape[2]
    for dk, wk in ((0, 1 - fk), (1, fk)):
        for dr, wr in ((0, 1 - fr), (1, fr)):
            part = amount * wk * wr
            np.add.at(flat, base + dk * plane + dr * line, part * (1 - fc))
            np.add.at(flat, base + dk * plane + dr * line + 1, part * fc)
