"""Small scans whose lesions are known by construction."""

from __future__ import annotations

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.features import BoneScans, ImageRow
from data_pipeline.grid import GridSplit, on_field, on_network
from data_pipeline.phantom.simulate import SimulatedPatient, SimulatedView
from data_pipeline.phantom.truth import MASKS
from data_pipeline.scan import Scan, View
from msanet_jax.trained.model import Model

HOT_MODEL = Model(
    lambda fields: np.where(fields > 20, 0.9, 0.1).astype(np.float32),
    "thorax",
    256,
    0.5,
    4,
    {"checkpoint": "fake", "step": 7, "dataset": "phantom_bone/tiny", "config_sha256": "0"},
)
"""Marks fields where counts exceed 20."""


def fake_scans(images: int, *, side: int = 16, seed: int = 0, per_patient: int = 2) -> BoneScans:
    """Poisson images of a bright square on a body, the square being lesion 1; every fourth image has none."""
    random = np.random.default_rng(seed)
    expected = np.full((images, side, side), 20.0)
    ids = np.zeros((images, side, side), np.uint8)
    for number in range(images):
        if number % 4 == 3:
            continue
        r, c = random.integers(2, side - 6, size=2)
        ids[number, r : r + 4, c : c + 4] = 1
        expected[number, r : r + 4, c : c + 4] = 120.0
    rows = [
        ImageRow(
            image_id=f"image-{number}",
            patient=f"patient-{number // per_patient}",
            view="anterior",
            pixel_size_mm=(2.0, 2.0),
            lesion_rows=[{"id": 1, "size_mm": 8.0, "bone": "rib_5_left", "visible": True}],
        )
        for number in range(images)
    ]
    return BoneScans(
        counts=random.poisson(expected).astype(np.int32), masks={name: ids.copy() for name in MASKS}, rows=rows
    )


def lesion_split(scans: BoneScans, size_px: int = 16) -> GridSplit:
    """Scans and their mask `lesions` binned to a grid of `size_px` columns."""
    return on_network(on_field(scans, ConfigDict({"scored_mask": "lesions", "image_size_px": size_px})), size_px)


def fake_split(images: int, *, size_px: int = 16, **options: Any) -> GridSplit:
    """`fake_scans` binned to a grid of `size_px` columns."""
    return lesion_split(fake_scans(images, **options), size_px)


def quick_patient(*, seed: int, index: int, views: tuple[View, ...]) -> SimulatedPatient:
    """A body-shaped image that depends on its arguments only."""
    made = {}
    for view in views:
        random = np.random.default_rng([seed, index, len(view)])
        expected = np.full((1024, 256), 0.1, np.float32)
        expected[90:185, 95:160] = 30.0
        expected[185:450, 40:215] = 30.0
        expected[450:850, 60:195] = 20.0
        ids = np.zeros((1024, 256), np.uint8)
        ids[250:256, 100:106] = 7
        scan = Scan(random.poisson(expected).astype(np.int32), (2.2, 2.2), view, f"phantom-{seed}-{index:05d}", "fake")
        rows = [{"id": 7, "size_mm": 13.0}, {"id": 8, "size_mm": 9.0}]
        made[view] = SimulatedView(scan, expected, *(ids for _ in range(5)), rows, ids)
    return SimulatedPatient(f"phantom-{seed}-{index:05d}", {}, made)


def level_split(*, lesion: float, other: float, place: int = 2, images: int = 4, side: int = 16) -> GridSplit:
    """Scans without noise, body at uptake 1: a lesion and another hot square of 4 x 4 pixels at the given uptakes.

    Uptake is the root of counts over that of the body, whose 16 counts make it exact. Squares at 3 or more do not count
    as body. The lesion begins at row and column `place`, the other square at 11 - `place`: 2 and 9, or 9 and 2.
    """
    counts = np.full((images, side, side), 16, np.int32)
    ids = np.zeros(counts.shape, np.uint8)
    for first, uptake in ((place, lesion), (11 - place, other)):
        counts[:, first : first + 4, first : first + 4] = round(16 * uptake**2)
    ids[:, place : place + 4, place : place + 4] = 1
    rows = [
        ImageRow(f"image-{n}", f"patient-{n}", "anterior", (2.0, 2.0), [{"id": 1, "size_mm": 8.0}])
        for n in range(images)
    ]
    return lesion_split(BoneScans(counts=counts, masks={"lesions": ids}, rows=rows), side)
