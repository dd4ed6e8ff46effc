"""An earlier results folder beside this one: lesions matched, new and gone, change in area and uptake."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.errors import RequestError
from msanet_jax.prediction.matching import FOLLOW_UP_TOLERANCE_MM, Record, match_times

RULE = (
    f"Two lesions of the same view are the same if their centres are at most {FOLLOW_UP_TOLERANCE_MM:g} mm apart, rows "
    "from the thorax field, columns from the body's midline; one to one. Change in area is (now - earlier) / earlier; "
    "uptake is mean counts over the body's ordinary level, so that dose and scan time cancel."
)
LIMITS = (
    "Posture, breathing, another camera and the threshold move outlines; neighbours closer than the tolerance can be "
    "confused; lesions that merge or split count as gone and new. A change is no finding."
)

_SAME_MODEL = ("config_sha256", "step", "checkpoint", "flips")


def read_results(folder: Path) -> dict[str, list[Record]]:
    """Patient -> records of a results folder.

    Raises:
      RequestError: no such folder, or none of its files is a record of this program.
    """
    if not folder.is_dir():
        raise RequestError(f"--compare={folder}: is not a folder of results")
    patients: dict[str, list[Record]] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and {"patient_pseudonym", "thorax_box_px", "lesions"} <= record.keys():
            patients.setdefault(record["patient_pseudonym"], []).append(record)
    if not patients:
        raise RequestError(f"--compare={folder}: holds no results of msanet predict")
    old = [r["source"] for records in patients.values() for r in records if "body_level_counts" not in r]
    if old:
        raise RequestError(f"--compare={folder}: made by an older version; predict its {len(old)} scan(s) again")
    return patients


def earlier_of(patient: str, patients: Mapping[str, Sequence[Record]], *, only: bool) -> tuple[Sequence[Record], str]:
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
    now: Sequence[Record], earlier: Sequence[Record], note: str = "", *, anonymous: bool = False
) -> dict[str, Any]:
    """Every view that both times have exactly once, lesion by lesion (docs/outputs.md).

    Args:
      now: records of a patient.
      earlier: records of the same patient in the earlier folder.
      note: what must be said about them.
      anonymous: the earlier file is called by its pseudonym, for its name may be its patient's.
    """
    notes = [note] if note else []
    views = []
    for view in sorted({record["view"] for record in now}) if earlier else []:
        current = [record for record in now if record["view"] == view]
        before = [record for record in earlier if record["view"] == view]
        if len(current) != 1 or len(before) != 1:
            notes.append(f"{view}: {len(current)} scan(s) now, {len(before)} earlier; one of each is compared")
            continue
        compared = _compare_view(current[0], before[0])
        views.append({**compared, "earlier_source": before[0]["patient_pseudonym"]} if anonymous else compared)
        notes += _doubts(current[0], before[0])
    return {"rule": RULE, "limits": LIMITS, "notes": notes, "views": views}


def _compare_view(now: Record, earlier: Record) -> dict[str, Any]:
    pairs = match_times(now, earlier)
    current = {lesion["id"]: lesion for lesion in now["lesions"]}
    before = {lesion["id"]: lesion for lesion in earlier["lesions"]}
    area = _area_mm2 if now["pixel_size_mm"] and earlier["pixel_size_mm"] else _area_share
    matched = [
        {
            "now": i,
            "earlier": j,
            "distance_mm": distance,
            "area_change": _change(area(current[i], now), area(before[j], earlier)),
            "uptake_mean_change": _change(current[i]["uptake_mean"], before[j]["uptake_mean"]),
            "uptake_max_change": _change(current[i]["uptake_max"], before[j]["uptake_max"]),
        }
        for i, j, distance in pairs
    ]
    return {
        "view": now["view"],
        "earlier_source": earlier["source"],
        "matched": matched,
        "new": sorted(current.keys() - {pair[0] for pair in pairs}),
        "gone": sorted(before.keys() - {pair[1] for pair in pairs}),
        "lesion_area_fraction_change": _change(now["lesion_area_fraction"], earlier["lesion_area_fraction"]),
    }


def _area_mm2(lesion: Mapping[str, Any], record: Record) -> float:
    return float(lesion["area_mm2"])


def _area_share(lesion: Mapping[str, Any], record: Record) -> float:
    """Of the thorax field, for scans of which one states no pixel size."""
    return lesion["area_px"] / record["thorax_box_px"]["size_px"] ** 2


def _change(now: float | None, earlier: float | None) -> float | None:
    return round((now - earlier) / earlier, 4) if now is not None and earlier else None


def _doubts(now: Record, earlier: Record) -> list[str]:
    doubts = []
    if now["counts_sha256"] == earlier["counts_sha256"]:
        doubts.append(f"{now['view']}: both times are the same scan")
    if any(now["provenance"].get(key) != earlier["provenance"].get(key) for key in _SAME_MODEL):
        doubts.append(f"{now['view']}: the earlier results are of another model, or of other averaging")
    if now["threshold"] != earlier["threshold"]:
        doubts.append(f"{now['view']}: the earlier results have threshold {earlier['threshold']:g}")
    if (now["pixel_size_mm"] is None) != (earlier["pixel_size_mm"] is None):
        doubts.append(f"{now['view']}: only one of the scans states a pixel size; areas are shares of the field")
    return doubts
