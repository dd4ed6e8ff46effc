"""One scan through a model: thorax field in, probability back on the whole scan, lesions measured, one record."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from typing import Any

import numpy as np
from scipy import ndimage

from data_pipeline.annotations.lesion_shape import lesion_shapes
from data_pipeline.fields import field_counts, find_window
from data_pipeline.normalize import body_level
from data_pipeline.scan import Scan
from data_pipeline.thorax import FIELD_MM, body_mask, field_size_px, find_thorax
from data_pipeline.windows import ThoraxBox, Window, crop, cut, paste
from msanet_jax.evaluation.field_maps import marks, resample
from msanet_jax.prediction.records import LesionRecord, ScanRecord
from msanet_jax.runs.notices import model_notice
from msanet_jax.runtime.versions import versions
from msanet_jax.trained.model import Model

CONNECTIVITY = np.ones((3, 3), int)
"""Pixels that touch at an edge or a corner are one lesion."""


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """A segmented scan.

    Attributes:
      scan: as read.
      box: its thorax field.
      window: what of it the model saw.
      probability: of lesion, [rows, columns] float32 of the scan; 0 outside the thorax field.
      mask: [rows, columns] bool: probability above the threshold.
      record: all figures, as STEM.json holds them (docs/outputs.md).
    """

    scan: Scan
    box: ThoraxBox
    window: Window
    probability: np.ndarray
    mask: np.ndarray
    record: ScanRecord

    @property
    def lesions(self) -> tuple[LesionRecord, ...]:
        """Figures of every connected region of the mask."""
        return self.record.lesions


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


def segmentation(scan: Scan, place: Place, probability: np.ndarray, *, threshold: float, model: Model) -> Segmentation:
    """Lays a model's output on its scan and measures what exceeds the threshold.

    Args:
      scan: the scan.
      place: where the model looked.
      probability: the model's output for it, on the field's grid.
      threshold: of `field_maps.marks`.
      model: for the record.
    """
    facts = _Facts(
        notice=model_notice(model.provenance),
        source=scan.source,
        field=model.field,
        provenance={**model.provenance, "versions": versions()},
    )
    return _measured(scan, place, onto_scan(probability, place.window, scan.counts.shape), threshold, facts)


def at_threshold(result: Segmentation, threshold: float) -> Segmentation:
    """The same scan and probability, marked and measured at another threshold."""
    record = result.record
    if threshold == record.threshold:
        return result
    facts = _Facts(record.notice, record.source, record.field, record.provenance)
    return _measured(result.scan, Place(result.box, result.window), result.probability, threshold, facts)


@dataclasses.dataclass(frozen=True)
class _Facts:
    """What a record has of its model and file."""

    notice: str
    source: str
    field: str
    provenance: dict[str, Any]


def _measured(scan: Scan, place: Place, on_scan: np.ndarray, threshold: float, facts: _Facts) -> Segmentation:
    box = place.box
    mask = marks(on_scan, threshold)
    level = float(body_level(np.sqrt(cut(scan.counts, place.window).astype(np.float64)), np).item()) ** 2
    lesions = list_lesions(mask, on_scan, scan.counts, scan.pixel_size_mm, body_level=level)
    body = body_mask(scan.counts, pixel_mm=FIELD_MM / field_size_px(scan))
    area, outline = int(mask.sum()), int(cut(body | mask, place.window).sum())
    record = ScanRecord(
        notice=facts.notice,
        source=facts.source,
        view=scan.view.value,
        patient_pseudonym=scan.patient,
        shape_px=(scan.counts.shape[0], scan.counts.shape[1]),
        pixel_size_mm=scan.pixel_size_mm,
        counts_total=int(scan.counts.sum(dtype=np.int64)),
        counts_sha256=counts_digest(scan.counts),
        warnings=tuple(scan.warnings),
        field=facts.field,
        thorax_box_px=box,
        body_midline_column_px=_midline(crop(body, box), box),
        body_level_counts=round(level, 3) if level else None,
        threshold=threshold,
        lesion_count=len(lesions),
        lesion_area_px=area,
        body_area_px=outline,
        lesion_area_fraction=round(area / outline, 6) if outline else None,
        lesions=lesions,
        provenance=facts.provenance,
    )
    return Segmentation(scan, box, place.window, on_scan, mask, record)


def list_lesions(
    mask: np.ndarray,
    probability: np.ndarray,
    counts: np.ndarray,
    pixel_size_mm: tuple[float, float] | None,
    *,
    body_level: float = 0.0,
) -> tuple[LesionRecord, ...]:
    """Measures every connected region of a mask, from the top of the scan down.

    The equivalent diameter is that of the disc of the same area, 2 sqrt(area / pi); the major axis is
    `LesionShape.length_mm`.

    Args:
      mask: [rows, columns] bool.
      probability: [rows, columns] float.
      counts: [rows, columns] of the scan.
      pixel_size_mm: (row spacing, column spacing) or None: lengths and areas in mm are then None.
      body_level: counts of the body's ordinary level; 0 where it cannot be told, as in a picture with nothing between
        air and hot spots: uptake is then None.
    """
    labels, _ = ndimage.label(mask, CONNECTIVITY)
    known = pixel_size_mm is not None
    spacing = pixel_size_mm or (1.0, 1.0)
    rows = []
    for shape in lesion_shapes(labels, spacing, counts, probability):
        area_mm2 = shape.pixels * spacing[0] * spacing[1]
        counts_mean, counts_max = round(shape.means[0], 2), int(shape.maxima[0])
        rows.append(
            LesionRecord(
                id=shape.id,
                centre_row_px=round(shape.centre_px[0], 2),
                centre_column_px=round(shape.centre_px[1], 2),
                area_px=shape.pixels,
                area_mm2=round(area_mm2, 2) if known else None,
                equivalent_diameter_mm=round(2.0 * math.sqrt(area_mm2 / math.pi), 2) if known else None,
                major_axis_mm=round(shape.length_mm, 2) if known else None,
                counts_mean=counts_mean,
                counts_max=counts_max,
                probability_mean=round(shape.means[1], 4),
                probability_max=round(shape.maxima[1], 4),
                uptake_mean=round(counts_mean / body_level, 3) if body_level else None,
                uptake_max=round(counts_max / body_level, 3) if body_level else None,
            )
        )
    return tuple(rows)


def counts_digest(counts: np.ndarray) -> str:
    """SHA-256 of the counts as little-endian int32, rows first: tells which pixels were segmented, not whose."""
    return hashlib.sha256(np.ascontiguousarray(counts, "<i4").tobytes()).hexdigest()


def _midline(body: np.ndarray, box: ThoraxBox) -> float | None:
    """Column of the scan half-way between the body's edges, the median over the field's rows; None without body."""
    occupied = body.any(axis=1)
    if not occupied.any():
        return None
    rows = body[occupied]
    first, last = rows.argmax(axis=1), rows.shape[1] - 1 - rows[:, ::-1].argmax(axis=1)
    return round(float(np.median((first + last) / 2.0)) + box.column, 2)
