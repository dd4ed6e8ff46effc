"""One scan through a model: thorax field in, probability back on the whole scan, lesions measured, one record."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
from typing import Any

import numpy as np
from scipy import ndimage

from data_pipeline.normalize import body_level
from data_pipeline.scan import THORAX_SIZE_PX, Scan
from data_pipeline.thorax import ThoraxBox, body_outline, crop, paste, resample_counts
from msanet_jax.lesion_list import list_lesions
from msanet_jax.model import Model, notice

PACKAGES = ("msanet-jax", "jax", "flax", "numpy", "pydicom")
"""Versions written into every record."""


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """A segmented scan.

    Attributes:
      scan: as read.
      box: its thorax field.
      probability: of lesion, [rows, columns] float32 of the scan; 0 outside the thorax field.
      mask: [rows, columns] bool: probability above the threshold.
      lesions: a row of figures for each connected region of the mask (docs/outputs.md).
      record: everything JSON-able about it (docs/outputs.md); no date and nothing that names the patient.
    """

    scan: Scan
    box: ThoraxBox
    probability: np.ndarray
    mask: np.ndarray
    lesions: list[dict[str, Any]]
    record: dict[str, Any]


def thorax_field(scan: Scan, box: ThoraxBox) -> np.ndarray:
    """Counts of the thorax as models take them: [256, 256] float32; every count is kept."""
    field = crop(scan.counts, box)
    return resample_counts(field, THORAX_SIZE_PX) if box.size_px != THORAX_SIZE_PX else field.astype(np.float32)


def onto_scan(probability: np.ndarray, box: ThoraxBox, shape: tuple[int, int]) -> np.ndarray:
    """Probability [size, size] of the network -> [rows, columns] float32 of the scan; 0 outside the thorax box."""
    enlarged = ndimage.zoom(
        probability.astype(np.float64), box.size_px / len(probability), order=1, mode="nearest", grid_mode=True
    )
    return paste(np.clip(enlarged, 0.0, 1.0).astype(np.float32), box, shape)


def segmentation(
    scan: Scan, box: ThoraxBox, probability: np.ndarray, *, threshold: float, model: Model, source: str | None = None
) -> Segmentation:
    """Lays a model's output on its scan and measures what exceeds the threshold.

    Args:
      scan: the scan.
      box: its thorax field.
      probability: [size, size] of the model.
      threshold: lesion is above it.
      model: for the record.
      source: the file's name in the record; default the scan's own.
    """
    whole = onto_scan(probability, box, scan.counts.shape)
    mask = whole > threshold
    level = _body_level_counts(scan, box)
    lesions = [
        {**row, "uptake_mean": round(row["counts_mean"] / level, 3), "uptake_max": round(row["counts_max"] / level, 3)}
        for row in list_lesions(mask, whole, scan.counts, scan.pixel_size_mm)
    ]
    body = crop(body_outline(scan), box)
    area, outline = int(mask.sum()), int((body | crop(mask, box)).sum())
    record = {
        "notice": notice(model.provenance),
        "source": scan.source if source is None else source,
        "view": scan.view.value,
        "patient_pseudonym": scan.patient,
        "shape_px": list(scan.counts.shape),
        "pixel_size_mm": None if scan.pixel_size_mm is None else list(scan.pixel_size_mm),
        "counts_total": int(scan.counts.sum(dtype=np.int64)),
        "counts_sha256": counts_digest(scan.counts),
        "warnings": list(scan.warnings),
        "thorax_box_px": dataclasses.asdict(box),
        "body_midline_column_px": _midline(body, box),
        "body_level_counts": round(level, 3),
        "threshold": threshold,
        "lesion_count": len(lesions),
        "lesion_area_px": area,
        "body_area_px": outline,
        "lesion_area_fraction": round(area / outline, 6) if outline else None,
        "lesions": lesions,
        "provenance": {**model.provenance, "versions": versions()},
    }
    return Segmentation(scan, box, whole, mask, lesions, record)


def counts_digest(counts: np.ndarray) -> str:
    """SHA-256 of the counts as little-endian int32, rows first: tells which pixels were segmented, not whose."""
    return hashlib.sha256(np.ascontiguousarray(counts, "<i4").tobytes()).hexdigest()


def versions() -> dict[str, str | None]:
    """Installed versions of `PACKAGES`; None for what is not installed."""

    def version(package: str) -> str | None:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a source tree that is not installed
            return None

    return {package: version(package) for package in PACKAGES}


def _body_level_counts(scan: Scan, box: ThoraxBox) -> float:
    """Counts per pixel of ordinary tissue in the field: the square of `normalize.body_level`, at least 1e-6."""
    root = np.sqrt(crop(scan.counts, box).astype(np.float64))
    return max(float(body_level(root, np).item()) ** 2, 1e-6)


def _midline(body: np.ndarray, box: ThoraxBox) -> float | None:
    """Column of the scan half-way between the body's edges, the median over the field's rows; None without body."""
    occupied = body.any(axis=1)
    if not occupied.any():
        return None
    rows = body[occupied]
    first, last = rows.argmax(axis=1), rows.shape[1] - 1 - rows[:, ::-1].argmax(axis=1)
    return round(float(np.median((first + last) / 2.0)) + box.column, 2)
