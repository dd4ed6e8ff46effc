"""One scan through a model: thorax field in, probability back on the whole scan, lesions measured, one record."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np

from data_pipeline.fields import field_counts, find_window
from data_pipeline.normalize import body_level
from data_pipeline.scan import Scan
from data_pipeline.thorax import FIELD_MM, body_mask, field_size_px, find_thorax
from data_pipeline.windows import ThoraxBox, Window, crop, cut, paste
from msanet_jax.evaluation.field_maps import marks, resample
from msanet_jax.prediction.lesion_list import list_lesions
from msanet_jax.runs.notices import model_notice
from msanet_jax.runtime.versions import versions
from msanet_jax.trained.model import Model


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


@dataclasses.dataclass(frozen=True)
class Place:
    """Where on a scan a model looks.

    Attributes:
      box: the thorax field, the landmark of every record.
      window: the model's field; the box itself for models of the thorax.
    """

    box: ThoraxBox
    window: Window


def find_place(scan: Scan, field: str) -> Place:
    """Thorax and field of a scan."""
    box = find_thorax(scan)
    return Place(box, find_window(scan, field, box))


def model_input(scan: Scan, place: Place, field: str) -> np.ndarray:
    """Counts of the field as models take them: [rows, columns] float32."""
    return field_counts(scan.counts, place.window, field).astype(np.float32)


def onto_scan(probability: np.ndarray, window: Window, shape: tuple[int, int]) -> np.ndarray:
    """Probability on the field's grid -> [rows, columns] float32 of the scan; 0 outside the window.

    Where the scan has the field's pixels nothing changes; elsewhere the map is interpolated linearly.
    """
    resampled = resample(probability, (window.rows, window.columns))
    return paste(resampled.astype(np.float32, copy=False), window, shape)


def segmentation(
    scan: Scan, place: Place, probability: np.ndarray, *, threshold: float, model: Model, source: str | None = None
) -> Segmentation:
    """Lays a model's output on its scan and measures what exceeds the threshold.

    Args:
      scan: the scan.
      place: where the model looked.
      probability: the model's output for it, on the field's grid.
      threshold: of `field_maps.marks`.
      model: for the record.
      source: the file's name in the record; default the scan's own.
    """
    box = place.box
    whole = onto_scan(probability, place.window, scan.counts.shape)
    mask = marks(whole, threshold)
    level = float(body_level(np.sqrt(cut(scan.counts, place.window).astype(np.float64)), np).item()) ** 2
    lesions = [
        {**row, "uptake_mean": _over(row["counts_mean"], level), "uptake_max": _over(row["counts_max"], level)}
        for row in list_lesions(mask, whole, scan.counts, scan.pixel_size_mm)
    ]
    body = body_mask(scan.counts, pixel_mm=FIELD_MM / field_size_px(scan))
    area, outline = int(mask.sum()), int(cut(body | mask, place.window).sum())
    record = {
        "notice": model_notice(model.provenance),
        "source": scan.source if source is None else source,
        "view": scan.view.value,
        "patient_pseudonym": scan.patient,
        "shape_px": list(scan.counts.shape),
        "pixel_size_mm": None if scan.pixel_size_mm is None else list(scan.pixel_size_mm),
        "counts_total": int(scan.counts.sum(dtype=np.int64)),
        "counts_sha256": counts_digest(scan.counts),
        "warnings": list(scan.warnings),
        "field": model.field,
        "thorax_box_px": dataclasses.asdict(box),
        "body_midline_column_px": _midline(crop(body, box), box),
        "body_level_counts": round(level, 3) if level else None,
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


def _over(counts: float, level: float) -> float | None:
    """Uptake; unknown where the body's level cannot be told, as in a picture with nothing between air and hot spots."""
    return round(counts / level, 3) if level else None


def _midline(body: np.ndarray, box: ThoraxBox) -> float | None:
    """Column of the scan half-way between the body's edges, the median over the field's rows; None without body."""
    occupied = body.any(axis=1)
    if not occupied.any():
        return None
    rows = body[occupied]
    first, last = rows.argmax(axis=1), rows.shape[1] - 1 - rows[:, ::-1].argmax(axis=1)
    return round(float(np.median((first + last) / 2.0)) + box.column, 2)
