"""The page of one patient: pictures, lesions, change; one HTML file that needs nothing else, one A4 page in print."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.pages import percent, render
from msanet_jax.prediction.patient import patient_label
from msanet_jax.prediction.records import FollowUp, LesionRecord, PatientRecord, ScanRecord

_ROWS_MAX = 18
_TEMPLATE = Path(__file__).with_name("templates") / "patient.html.jinja"


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table of lesions.

    Attributes:
      stem: of its scan.
      view: of its scan.
      lesion: its figures.
      partner: the same lesion in the other view, as `3 posterior`; empty if it was seen once.
      change: number at the earlier time (`new` if there was none), change of area and of mean uptake.
    """

    stem: str
    view: str
    lesion: LesionRecord
    partner: str
    change: tuple[str, str, str]


def patient_sheet(
    patient: PatientRecord, scans: Sequence[tuple[str, ScanRecord]], pictures: Mapping[str, bytes]
) -> str:
    """HTML of a patient.

    Args:
      patient: of `patient_record`.
      scans: (stem, record) of every scan.
      pictures: PNG by stem.
    """
    return render(_TEMPLATE, pictures=pictures, **sheet_values(patient, scans))


def sheet_values(
    patient: PatientRecord, scans: Sequence[tuple[str, ScanRecord]], *, rows: int = _ROWS_MAX
) -> dict[str, Any]:
    """What the templates of a patient's page need besides pictures; `rows` lesions are shown at most."""
    return {
        "patient": patient,
        "label": patient_label(patient.patient_pseudonym, scans),
        "more_notice": patient.notice.partition("diagnosis.")[2].strip(),
        "scans": scans,
        "rows": _rows(patient, scans, rows),
        "lesions": sum(len(record.lesions) for _, record in scans),
        "warnings": dict.fromkeys(f"{record.view}: {warning}" for _, record in scans for warning in record.warnings),
        "record": scans[0][1],
    }


def _rows(patient: PatientRecord, scans: Sequence[tuple[str, ScanRecord]], number: int) -> list[Row]:
    """The largest lesions that fit on the page, in the order of scans and numbers."""
    partners = {
        (getattr(pair, side), getattr(match, side)): f"{getattr(match, other)} {other}"
        for pair in patient.view_pairs
        for match in pair.matched
        for side, other in (("anterior", "posterior"), ("posterior", "anterior"))
    }
    changes = _changes(patient.comparison)
    found = [(stem, record.view, lesion) for stem, record in scans for lesion in record.lesions]
    largest = sorted(found, key=lambda row: -row[2].area_px)[:number]
    return [
        Row(stem, view, lesion, partners.get((stem, lesion.id), ""), changes.get((view, lesion.id), ("", "", "")))
        for stem, view, lesion in sorted(largest, key=lambda row: (row[0], row[2].id))
    ]


def _changes(comparison: FollowUp | None) -> dict[tuple[str, int], tuple[str, str, str]]:
    """(view, number) -> number earlier, change of area, change of mean uptake."""
    found: dict[tuple[str, int], tuple[str, str, str]] = {}
    for view in comparison.views if comparison else []:
        found |= {(view.view, number): ("new", "", "") for number in view.new}
        for match in view.matched:
            changes = (percent(match.area_change), percent(match.uptake_mean_change))
            found[view.view, match.now] = (str(match.earlier), *changes)
    return found
