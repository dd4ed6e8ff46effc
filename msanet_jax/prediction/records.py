"""What STEM.json and patient_KEY.json hold (docs/outputs.md): records of a scan, of a patient and of a comparison.

`--compare` reads those of an earlier run, so what is wrong in them is found here.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from data_pipeline.reading import Count, Finite, Share
from data_pipeline.windows import ThoraxBox

Positive = Annotated[float, Meta(gt=0, le=1e6)]


@dataclasses.dataclass(frozen=True)
class LesionRecord:
    """A connected region of a mask.

    Attributes:
      id: from 1 on, from the top of the scan down.
      centre_row_px, centre_column_px: in pixels of the scan; pixel centres are whole numbers.
      area_px: its pixels.
      area_mm2, equivalent_diameter_mm, major_axis_mm: None where the scan states no pixel size.
      counts_mean, counts_max, probability_mean, probability_max: over its pixels.
      uptake_mean, uptake_max: counts over the body's level; None where that is unknown.
    """

    id: Annotated[int, Meta(ge=1, le=1 << 24)]
    centre_row_px: Finite
    centre_column_px: Finite
    area_px: Count
    area_mm2: Finite | None
    equivalent_diameter_mm: Finite | None
    major_axis_mm: Finite | None
    counts_mean: Finite
    counts_max: Count
    probability_mean: Share
    probability_max: Share
    uptake_mean: Finite | None
    uptake_max: Finite | None


@dataclasses.dataclass(frozen=True)
class ScanRecord:
    """A segmented scan: no date, and nothing that names the patient.

    Attributes:
      notice: what must be said beside it.
      source: name of the file.
      view, patient_pseudonym, shape_px, pixel_size_mm, counts_total, counts_sha256, warnings: of the scan.
      field: what the model sees.
      thorax_box_px: landmark of every record.
      body_midline_column_px: None without a body.
      body_level_counts: counts of the body's ordinary level; None where it is unknown.
      threshold: of the mask.
      lesion_count, lesion_area_px, body_area_px: within the field.
      lesion_area_fraction: None without a body.
      lesions: regions of the mask.
      provenance: of the model, with versions.
      files: names of the result's files; UNSET before they are written.
      not_written: format -> why it was not written.
    """

    notice: str
    source: str
    view: str
    patient_pseudonym: str
    shape_px: tuple[Count, Count]
    pixel_size_mm: tuple[Positive, Positive] | None
    counts_total: Count
    counts_sha256: str
    warnings: tuple[str, ...]
    field: str
    thorax_box_px: ThoraxBox
    body_midline_column_px: Finite | None
    body_level_counts: Finite | None
    threshold: Share
    lesion_count: Count
    lesion_area_px: Count
    body_area_px: Count
    lesion_area_fraction: Share | None
    lesions: tuple[LesionRecord, ...]
    provenance: dict[str, Any]
    files: tuple[str, ...] | UnsetType = UNSET
    not_written: dict[str, str] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.thorax_box_px.size_px < 1 or self.lesion_count != len(self.lesions):
            raise ValueError("the thorax box has no size, or there are not `lesion_count` lesions")

    def largest(self, figure: str) -> float | None:
        """The largest figure of the lesions; None if there is none."""
        values = (getattr(lesion, figure) for lesion in self.lesions)
        return max((value for value in values if value is not None), default=None)


@dataclasses.dataclass(frozen=True)
class ViewMatch:
    """Numbers of one lesion in both views, and the distance of its centres."""

    anterior: int
    posterior: int
    distance_mm: float


@dataclasses.dataclass(frozen=True)
class ViewPair:
    """Two scans of one acquisition, by their stems, and the lesions that both show."""

    anterior: str
    posterior: str
    matched: tuple[ViewMatch, ...]


@dataclasses.dataclass(frozen=True)
class Change:
    """Numbers of one lesion now and earlier; changes are (now - earlier) / earlier, None where undefined."""

    now: int
    earlier: int
    distance_mm: float
    area_change: float | None
    uptake_mean_change: float | None
    uptake_max_change: float | None


@dataclasses.dataclass(frozen=True)
class ViewChange:
    """A view at both times: lesions matched, new and gone, by their numbers."""

    view: str
    earlier_source: str
    matched: tuple[Change, ...]
    new: tuple[int, ...]
    gone: tuple[int, ...]
    lesion_area_fraction_change: float | None


@dataclasses.dataclass(frozen=True)
class FollowUp:
    """Comparison with an earlier time: by which rule, within which limits, with which doubts."""

    rule: str
    limits: str
    notes: tuple[str, ...]
    views: tuple[ViewChange, ...]


@dataclasses.dataclass(frozen=True)
class PatientRecord:
    """All views of a patient together.

    Attributes:
      notice: what must be said beside it.
      patient_pseudonym: of all scans.
      scans, views: stems and views.
      view_pairs, view_rule: which lesions are seen twice, and how that is decided.
      mark_count: regions of all masks.
      lesion_count: those seen twice counted once.
      lesion_area_fraction: over the views; None without a body.
      burden_note: what that is not.
      comparison: None without an earlier time.
    """

    notice: str
    patient_pseudonym: str
    scans: tuple[str, ...]
    views: tuple[str, ...]
    view_pairs: tuple[ViewPair, ...]
    view_rule: str
    mark_count: int
    lesion_count: int
    lesion_area_fraction: float | None
    burden_note: str
    comparison: FollowUp | None
