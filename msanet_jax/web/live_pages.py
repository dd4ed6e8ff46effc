"""The pages of a visit, from the templates of the pages that `msanet predict` writes."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from pathlib import Path
from typing import Any

from data_pipeline.normalize import black_level
from data_pipeline.pages import render
from data_pipeline.readers.formats.dicom_file import EntryError, entry
from msanet_jax.prediction.files import model_facts
from msanet_jax.prediction.index_page import TEMPLATES, index_patient
from msanet_jax.prediction.patient_page import sheet_values
from msanet_jax.prediction.records import ScanRecord
from msanet_jax.runs.notices import model_notice
from msanet_jax.web.desk import Desk
from msanet_jax.web.downloads import KINDS
from msanet_jax.web.visit import Study, Visit

_LIVE = Path(__file__).with_name("templates")
_LESIONS_MAX = 500


def home_page(desk: Desk) -> str:
    """The page on which scans are dropped; its list is that of `msanet predict`."""
    model = desk.models.loaded
    return render(
        _LIVE / "home.html.jinja",
        TEMPLATES,
        **_rows(desk.visit),
        models=desk.models.names,
        limit=desk.limit,
        facts=model_facts(model.provenance, model.threshold),
        notice=model_notice(model.provenance),
    )


def home_rows(visit: Visit) -> str:
    """The rows of its list."""
    return render(TEMPLATES / "index_rows.html.jinja", **_rows(visit))


def patient_view(visit: Visit, study: Study, threshold: float | None) -> str:
    """The page of a patient: views to move and to window, sliders, lesions, downloads."""
    own = visit.patients()[study.key][0].record.threshold
    views = [_view(visit, stem, record, earlier=earlier) for stem, record, earlier in _side_by_side(study)]
    return render(
        _LIVE / "viewer.html.jinja",
        TEMPLATES,
        **_findings(study),
        key=study.key,
        kinds={kind: label for kind, (label, _) in KINDS.items()},
        viewer={"key": study.key, "own": own, "threshold": own if threshold is None else threshold, "views": views},
    )


def findings(study: Study) -> str:
    """Figures and lesions of a patient, the part of the page that the threshold changes."""
    return render(_LIVE / "findings.html.jinja", TEMPLATES, **_findings(study))


def _findings(study: Study) -> dict[str, Any]:
    return sheet_values(study.record, study.scans, rows=_LESIONS_MAX)


def _rows(visit: Visit) -> dict[str, Any]:
    patients = []
    for key in visit.patients():
        study = visit.study(key)
        scans = [(stem, dataclasses.replace(record, files=())) for stem, record in study.scans]
        row = index_patient(study.record, scans, f"patients/{key}", archive=f"patients/{key}/files/zip")
        shown = tuple(
            dataclasses.replace(scan, address=f"scans/{scan.stem}/picture", date=_date(visit, scan.stem))
            for scan in row.scans
        )
        patients.append(dataclasses.replace(row, scans=shown))
    return {"patients": patients, "pictures": {}}


def _date(visit: Visit, stem: str) -> str:
    """Date of the scan in its DICOM file, as 2026-11-27; empty where none is stated. No page that is written has it."""
    if (header := visit.kept(stem).header) is None:
        return ""
    stated = ""
    for keyword in ("StudyDate", "AcquisitionDate"):
        with contextlib.suppress(EntryError):
            stated = entry(header, keyword, str, stated)
    return f"{stated[:4]}-{stated[4:6]}-{stated[6:]}" if re.fullmatch(r"\d{8}", stated, re.ASCII) else ""


def _side_by_side(study: Study) -> list[tuple[str, ScanRecord, bool]]:
    """Every scan, with the earlier one of the same view next to it; anterior first."""
    scans = [(*entry, False) for entry in study.scans] + [(*entry, True) for entry in study.earlier]
    return sorted(scans, key=lambda entry: (entry[1].view, entry[2]))


def _view(visit: Visit, stem: str, record: ScanRecord, *, earlier: bool) -> dict[str, Any]:
    rows, columns = record.shape_px
    counts = visit.load(visit.kept(stem)).scan.counts
    return {
        "stem": stem,
        "view": record.view,
        "date": _date(visit, stem),
        "earlier": earlier,
        "rows": rows,
        "columns": columns,
        "box": dataclasses.asdict(record.thorax_box_px),
        "black": black_level(counts),
        "pixel_mm": record.pixel_size_mm,
    }
