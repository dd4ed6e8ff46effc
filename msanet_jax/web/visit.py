"""Everything that a visit leaves in its folder: segmented scans, kept so that any threshold can be laid on them."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.scan import Scan
from data_pipeline.windows import ThoraxBox, Window
from msanet_jax.evaluation.field_maps import marks
from msanet_jax.prediction.contact_sheet import thumbnail
from msanet_jax.prediction.follow_up import compare, earlier_of
from msanet_jax.prediction.patient import patient_record
from msanet_jax.prediction.records import PatientRecord, ScanRecord
from msanet_jax.prediction.segmentation import Segmentation, at_threshold


@dataclasses.dataclass(frozen=True)
class Kept:
    """A segmented scan whose pixels lie on the disk.

    Attributes:
      stem: of its files, its name within the visit.
      model: number of the model.
      pixels: hash of view and counts: dropped twice, a scan is kept once.
      patient: key of the patient's page: of the same patient and model.
      earlier: whether it is of an earlier time.
      facts: of the scan, but for the counts.
      box: thorax field.
      window: the model's field.
      record: at the model's threshold.
      header: of its DICOM file, for DICOM results.
    """

    stem: str
    model: int
    pixels: str
    patient: str
    earlier: bool
    facts: dict[str, Any]
    box: ThoraxBox
    window: Window
    record: ScanRecord
    header: Any


@dataclasses.dataclass(frozen=True)
class Study:
    """A patient of the visit at a threshold.

    Attributes:
      key: of the page.
      record: of `patient_record`.
      scans: (stem, record) of now.
      earlier: (stem, record) of an earlier time.
    """

    key: str
    record: PatientRecord
    scans: list[tuple[str, ScanRecord]]
    earlier: list[tuple[str, ScanRecord]]


class Visit:
    """The scans of a visit.

    Args:
      folder: where their pixels go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = 0
        self._pixels = folder / "pixels"
        self._kept: dict[str, Kept] = {}
        self._lock = threading.Lock()

    def keep(self, stem: str, result: Segmentation, header: Any, *, model: int, earlier: bool) -> None:
        """Takes a scan; its pixels are written, nothing of them stays in memory."""
        self._pixels.mkdir(exist_ok=True)
        np.savez_compressed(self._pixels / f"{stem}.npz", counts=result.scan.counts, probability=result.probability)
        (self._pixels / f"{stem}.png").write_bytes(thumbnail(result))
        facts = {field.name: getattr(result.scan, field.name) for field in dataclasses.fields(Scan)}
        del facts["counts"]
        pixels, patient = _pixels(result.scan), _patient(result.scan, model)
        kept = Kept(stem, model, pixels, patient, earlier, facts, result.box, result.window, result.record, header)
        with self._lock:
            self._kept[stem] = kept
            self.version += 1

    def clear(self) -> None:
        """Forgets every scan."""
        with self._lock:
            gone, self._kept = list(self._kept), {}
            self.version += 1
        for stem in gone:
            for ending in (".npz", ".png"):
                (self._pixels / f"{stem}{ending}").unlink(missing_ok=True)

    def kept(self, stem: str) -> Kept:
        """A scan by its name; KeyError if there is none."""
        with self._lock:
            return self._kept[stem]

    def twin(self, scan: Scan, *, model: int, earlier: bool) -> str | None:
        """The name of a scan with the same pixels of the same patient, model and time; None if there is none."""
        wanted = (_pixels(scan), _patient(scan, model), earlier)
        with self._lock:
            kept = list(self._kept.values())
        return next((one.stem for one in kept if (one.pixels, one.patient, one.earlier) == wanted), None)

    def picture(self, stem: str) -> bytes:
        """The small picture of a scan, PNG."""
        return (self._pixels / f"{stem}.png").read_bytes()

    def load(self, kept: Kept, threshold: float | None = None) -> Segmentation:
        """A scan with its pixels, at the threshold or its model's own."""
        with np.load(self._pixels / f"{kept.stem}.npz") as stored:
            scan = Scan(counts=stored["counts"], **kept.facts)
            probability = stored["probability"]
        own = kept.record.threshold
        result = Segmentation(scan, kept.box, kept.window, probability, marks(probability, own), kept.record)
        return at_threshold(result, own if threshold is None else threshold)

    def patients(self) -> dict[str, list[Kept]]:
        """Key -> scans of now, in the order in which they came; patients with earlier scans alone have none."""
        with self._lock:
            scans = list(self._kept.values())
        found: dict[str, list[Kept]] = {}
        for kept in scans:
            if not kept.earlier:
                found.setdefault(kept.patient, []).append(kept)
        return found

    def study(self, key: str, threshold: float | None = None) -> Study:
        """A patient's page in facts; KeyError if there is no such patient."""
        patients = self.patients()
        own = patients[key]
        scans = [(kept.stem, self._record(kept, threshold)) for kept in own]
        before = self._earlier(threshold)
        records, note = earlier_of(own[0].record.patient_pseudonym, _by_patient(before), only=len(patients) == 1)
        comparison = compare([record for _, record in scans], records, note) if before else None
        return Study(
            key,
            patient_record(own[0].record.patient_pseudonym, scans, comparison),
            scans,
            [(stem, record) for stem, record in before if any(record is other for other in records)],
        )

    def earlier_records(self, threshold: float | None = None) -> dict[str, list[ScanRecord]] | None:
        """Patient -> records of earlier scans; None where there are none."""
        return _by_patient(self._earlier(threshold)) or None

    def _earlier(self, threshold: float | None) -> list[tuple[str, ScanRecord]]:
        with self._lock:
            scans = [kept for kept in self._kept.values() if kept.earlier]
        return [(kept.stem, self._record(kept, threshold)) for kept in scans]

    def _record(self, kept: Kept, threshold: float | None) -> ScanRecord:
        if threshold is None or threshold == kept.record.threshold:
            return kept.record
        return self.load(kept, threshold).record


def _pixels(scan: Scan) -> str:
    return hashlib.sha256(scan.view.encode() + scan.counts.tobytes()).hexdigest()


def _patient(scan: Scan, model: int) -> str:
    return scan.patient if model == 0 else f"{scan.patient}-model{model}"


def _by_patient(scans: Sequence[tuple[str, ScanRecord]]) -> dict[str, list[ScanRecord]]:
    found: dict[str, list[ScanRecord]] = {}
    for _, record in scans:
        found.setdefault(record.patient_pseudonym, []).append(record)
    return found
