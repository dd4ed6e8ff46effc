"""The page of a whole run: every patient and scan with a small picture, figures, warnings and links; sortable."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_pipeline.pages import render
from msanet_jax.prediction.patient import patient_label
from msanet_jax.prediction.records import PatientRecord, ScanRecord
from msanet_jax.prediction.run_file import Skipped

TEMPLATES = Path(__file__).with_name("templates")


@dataclasses.dataclass(frozen=True)
class IndexScan:
    """A scan of the index.

    Attributes:
      stem: of its files.
      view: which side.
      lesion_count: marks.
      warnings: of its record.
      files: names that are linked.
      picture: what the small picture leads to; empty for nothing.
      address: of the small picture; empty where it lies in the page itself.
      date: of the scan; empty where it is not shown, as in every page that is written.
    """

    stem: str
    view: str
    lesion_count: int
    warnings: tuple[str, ...]
    files: tuple[str, ...]
    picture: str
    address: str = ""
    date: str = ""


@dataclasses.dataclass(frozen=True)
class IndexPatient:
    """A row of the index.

    Attributes:
      name: pseudonym.
      page: of the patient.
      lesion_count: over the views, those seen twice counted once.
      lesion_area_fraction: over the views; None without a body.
      longest_mm: major axis of the longest lesion; None without a lesion or a pixel size.
      scans: of the patient.
      label: what the user calls the patient; empty where the pseudonym is the only name.
      archive: leads to everything of the patient as a zip; empty where there is none.
    """

    name: str
    page: str
    lesion_count: int
    lesion_area_fraction: float | None
    longest_mm: float | None
    scans: tuple[IndexScan, ...]
    label: str = ""
    archive: str = ""


def index_patient(
    patient: PatientRecord, scans: Sequence[tuple[str, ScanRecord]], page: str, *, archive: str = ""
) -> IndexPatient:
    """A row from a patient's record and those of the scans.

    Args:
      patient: of `patient_record`.
      scans: (stem, record) of every scan.
      page: of the patient.
      archive: see `IndexPatient`; scans without files of their own lead to the page.
    """
    lengths = [length for _, record in scans if (length := record.largest("major_axis_mm")) is not None]
    return IndexPatient(
        patient.patient_pseudonym,
        page,
        patient.lesion_count,
        patient.lesion_area_fraction,
        max(lengths, default=None),
        tuple(
            IndexScan(
                stem,
                record.view,
                record.lesion_count,
                record.warnings,
                files := record.files or (),
                next((name for name in files if name.endswith("_overlay.png")), page),
            )
            for stem, record in scans
        ),
        patient_label(patient.patient_pseudonym, scans),
        archive,
    )


def index_page(
    patients: Sequence[IndexPatient],
    pictures: Mapping[str, bytes],
    *,
    notice: str,
    facts: str,
    failures: Sequence[Skipped],
    run_files: Sequence[str],
) -> str:
    """HTML of a run.

    Args:
      patients: rows.
      pictures: PNG by stem (`contact_sheet.thumbnail`).
      notice: of the model.
      facts: one line on model and threshold.
      failures: `file` and `reason` of what was skipped.
      run_files: tables and pictures of the whole run, linked at the end.
    """
    return render(
        TEMPLATES / "index.html.jinja",
        patients=patients,
        pictures=pictures,
        notice=notice,
        facts=facts,
        failures=failures,
        run_files=run_files,
    )
