"""An earlier results folder beside this one: lesions matched, new and gone, change in area and uptake."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.errors import RequestError
from data_pipeline.reading import as_record, read_json
from msanet_jax.prediction.matching import FOLLOW_UP_TOLERANCE_MM, match_times
from msanet_jax.prediction.records import Change, FollowUp, LesionRecord, ScanRecord, ViewChange
from msanet_jax.prediction.run_file import RUN_NAME, RunFile

RULE = (
    f"Two lesions of the same view are the same if their centres are at most {FOLLOW_UP_TOLERANCE_MM:g} mm apart, rows "
    "from the thorax field, columns from the body's midline; one to one. Change in area is (now - earlier) / earlier; "
    "uptake is mean counts over the body's ordinary level, so that dose and scan time cancel."
)
LIMITS = (
    "Posture, breathing, another camera and the threshold move outlines; neighbours closer than the tolerance can be "
    "confused; lesions that merge or split count as gone and new. A change is no finding."
)

_OF_A_SCAN = {"thorax_box_px", "counts_sha256", "lesions"}
"""Keys that no other file of a results folder has."""
_SAME_MODEL = ("config_sha256", "step", "checkpoint", "flips")


def read_results(folder: Path) -> dict[str, list[ScanRecord]]:
    """Patient -> records of a results folder.

    Raises:
      RequestError: no such folder, none of its files is a record of this program, or one is damaged or of an older
        version.
    """
    if not folder.is_dir():
        raise RequestError(f"--compare={folder}: is not a folder of results")
    patients: dict[str, list[ScanRecord]] = {}
    remedy = "predict its scan again, or take the file out of the folder"
    stems = set()
    for path in sorted(folder.glob("*.json")):
        content = read_json(path, Any, remedy=remedy)
        if isinstance(content, dict) and _OF_A_SCAN & content.keys():
            record: ScanRecord = as_record(content, ScanRecord, where=str(path), remedy=remedy)
            patients.setdefault(record.patient_pseudonym, []).append(record)
            stems.add(path.stem)
    if not patients:
        raise RequestError(f"--compare={folder}: holds no results of msanet predict")
    if (folder / RUN_NAME).exists():
        for result in read_json(folder / RUN_NAME, RunFile, remedy="predict the scans again").scans:
            if result.stem not in stems:
                raise RequestError(f"{folder / result.stem}.json: is no record any more; {remedy}")
    return patients


def earlier_of(
    patient: str, patients: Mapping[str, Sequence[ScanRecord]], *, only: bool
) -> tuple[Sequence[ScanRecord], str]:
    """The patient's earlier records, and what must be said about them.

    Args:
      patient: pseudonym now.
      patients: of the earlier folder.
      only: whether this run has one patient; if the earlier folder has one too, they are taken for the same.
    """
    if patient in patients:
        return patients[patient], ""
    if only and len(patients) == 1:
        (records,) = patients.values()
        return records, "the pseudonyms differ; taken for the same patient, since each folder holds one"
    return [], "not in the earlier folder (pseudonyms depend on the patient's number and the site's key)"


def compare(
    now: Sequence[ScanRecord], earlier: Sequence[ScanRecord], note: str = "", *, anonymous: bool = False
) -> FollowUp:
    """Every view that both times have exactly once, lesion by lesion (docs/outputs.md).

    Args:
      now: records of a patient.
      earlier: records of the same patient in the earlier folder.
      note: what must be said about them.
      anonymous: the earlier file is called by its pseudonym, for its name may be its patient's.
    """
    notes = [note] if note else []
    views = []
    for view in sorted({record.view for record in now}) if earlier else []:
        current = [record for record in now if record.view == view]
        before = [record for record in earlier if record.view == view]
        if len(current) != 1 or len(before) != 1:
            notes.append(f"{view}: {len(current)} scan(s) now, {len(before)} earlier; one of each is compared")
            continue
        compared = _compare_view(current[0], before[0])
        views.append(
            dataclasses.replace(compared, earlier_source=before[0].patient_pseudonym) if anonymous else compared
        )
        notes += _doubts(current[0], before[0])
    return FollowUp(RULE, LIMITS, tuple(notes), tuple(views))


def _compare_view(now: ScanRecord, earlier: ScanRecord) -> ViewChange:
    pairs = match_times(now, earlier)
    current = {lesion.id: lesion for lesion in now.lesions}
    before = {lesion.id: lesion for lesion in earlier.lesions}
    in_mm = bool(now.pixel_size_mm and earlier.pixel_size_mm)
    matched = tuple(
        Change(
            now=i,
            earlier=j,
            distance_mm=distance,
            area_change=_change(_area(current[i], now, in_mm), _area(before[j], earlier, in_mm)),
            uptake_mean_change=_change(current[i].uptake_mean, before[j].uptake_mean),
            uptake_max_change=_change(current[i].uptake_max, before[j].uptake_max),
        )
        for i, j, distance in pairs
    )
    return ViewChange(
        view=now.view,
        earlier_source=earlier.source,
        matched=matched,
        new=tuple(sorted(current.keys() - {pair[0] for pair in pairs})),
        gone=tuple(sorted(before.keys() - {pair[1] for pair in pairs})),
        lesion_area_fraction_change=_change(now.lesion_area_fraction, earlier.lesion_area_fraction),
    )


def _area(lesion: LesionRecord, record: ScanRecord, in_mm: bool) -> float | None:
    """In mm^2, or as share of the thorax field where one of the scans states no pixel size."""
    return lesion.area_mm2 if in_mm else lesion.area_px / record.thorax_box_px.size_px**2


def _change(now: float | None, earlier: float | None) -> float | None:
    return round((now - earlier) / earlier, 4) if now is not None and earlier else None


def _doubts(now: ScanRecord, earlier: ScanRecord) -> list[str]:
    doubts = []
    if now.counts_sha256 == earlier.counts_sha256:
        doubts.append(f"{now.view}: both times are the same scan")
    if any(now.provenance.get(key) != earlier.provenance.get(key) for key in _SAME_MODEL):
        doubts.append(f"{now.view}: the earlier results are of another model, or of other averaging")
    if now.threshold != earlier.threshold:
        doubts.append(f"{now.view}: the earlier results have threshold {earlier.threshold:g}")
    if (now.pixel_size_mm is None) != (earlier.pixel_size_mm is None):
        doubts.append(f"{now.view}: only one of the scans states a pixel size; areas are shares of the field")
    return doubts
