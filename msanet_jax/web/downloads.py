"""Results of a visit as files: those that `msanet predict` writes, at the threshold that the page shows."""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from data_pipeline.errors import RequestError
from msanet_jax.prediction.files import FORMATS, OutputNames, model_facts, save_prediction
from msanet_jax.prediction.run_file import RUN_FILES, Result
from msanet_jax.prediction.saving import save_scan
from msanet_jax.prediction.summary import Collector
from msanet_jax.web.visit import Kept, Visit

KINDS = {
    "png": ("PNG", ("overlay",)),
    "csv": ("CSV", ("csv",)),
    "seg": ("DICOM SEG", ("seg",)),
    "sc": ("DICOM picture", ("sc",)),
    "nifti": ("NIfTI", ("nifti",)),
    "zip": ("all as zip", tuple(FORMATS)),
}
"""Name in the address -> name on the page, and formats of `files.FORMATS`."""


def patient_file(visit: Visit, scans: Sequence[Kept], kind: str, threshold: float | None, out: Path) -> Path:
    """One file with what was asked for of a patient; a zip where it is several.

    Args:
      visit: has the scans.
      scans: of the patient.
      kind: of `KINDS`.
      threshold: None for the model's.
      out: an empty folder.

    Raises:
      RequestError: there is nothing of this kind, with the reason.
    """
    name = scans[0].record.patient_pseudonym
    if kind == "zip":
        return write_archive(visit, {"": scans}, threshold, out, name)
    files: list[Path] = []
    reasons: list[str] = []
    for kept in scans:
        result = visit.load(kept, threshold)
        names, _ = save_prediction(out, kept.stem, result, formats=KINDS[kind][1], header=kept.header)
        files += [out / file for file in names if file != f"{kept.stem}.json"]
        if len(names) == 1:
            reasons.append(f"{kept.stem}: no {KINDS[kind][0]}, since {_why_not(out / names[0])}")
    if not files:
        raise RequestError("; ".join(reasons))
    return files[0] if len(files) == 1 else _zipped(files, out, out / f"{name}_{kind}.zip")


def write_archive(
    visit: Visit, groups: Mapping[str, Sequence[Kept]], threshold: float | None, out: Path, name: str
) -> Path:
    """A zip of everything: what `msanet predict` writes of these scans, with DICOM SEG and NIfTI.

    Args:
      visit: has the scans.
      groups: folder in the zip -> its scans.
      threshold: None for each model's.
      out: an empty folder.
      name: of the zip, without its ending.
    """
    content = out / "content"
    for folder, scans in groups.items():
        _write_group(visit, scans, threshold, content / folder)
    return _zipped(sorted(path for path in content.rglob("*") if path.is_file()), content, out / f"{name}.zip")


def _write_group(visit: Visit, scans: Sequence[Kept], threshold: float | None, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    with Collector(folder, tuple(FORMATS)) as collector:
        for kept in scans:
            result = visit.load(kept, threshold)
            saved = save_scan(collector.job(kept.stem, result, kept.header))
            collector.add(saved)
            results.append(Result(kept.stem, result.scan.patient, result.scan.view.value, saved.files))
        record = result.record
        collector.write_all(
            results,
            OutputNames(reserved=RUN_FILES),
            visit.earlier_records(threshold),
            lambda line: None,
            failures=[],
            notice=record.notice,
            facts=model_facts(record.provenance, record.threshold),
        )


def _why_not(record: Path) -> str:
    import json

    return next(iter(json.loads(record.read_text(encoding="utf-8"))["not_written"].values()), "it is empty")


def _zipped(files: Sequence[Path], root: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in files:
            archive.write(file, file.relative_to(root).as_posix())
    return path


@contextlib.contextmanager
def scratch(visit: Visit) -> Iterator[Path]:
    """An empty folder within the visit's; it goes at the end."""
    with tempfile.TemporaryDirectory(prefix="download-", dir=visit.folder) as folder:
        yield Path(folder)
