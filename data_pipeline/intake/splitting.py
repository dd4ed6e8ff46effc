"""The splits of an imported set: a keyed hash of each patient decides, so that no patient's place depends on others."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from data_pipeline.errors import RequestError
from data_pipeline.intake.folder import LEFT_OUT, SPLITS
from data_pipeline.intake.manifest import ImageEntry
from data_pipeline.scan import View

MIN_PATIENTS = 3
"""One for training, one for validation, one for the test."""

_VIEWS = (View.ANTERIOR, View.POSTERIOR)


def place_of(identity: str, seed: int) -> float:
    """Where a patient lies between 0 and 1: the first 53 bits of HMAC-SHA256 of `identity` under the seed.

    Not of the pseudonym, which another key changes: the same source gives the same splits, whatever the key.
    """
    digest = hmac.new(f"msanet splits {seed}".encode(), identity.encode(), hashlib.sha256).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def one_patient(entries: Sequence[ImageEntry]) -> str:
    """The line for files whose patient number was replaced by the same word for everybody: they cannot be split."""
    if len(entries) <= len(_VIEWS) or len({entry.patient for entry in entries}) > 1:
        return ""
    return (
        f"all {len(entries)} scans carry the same patient; if they were anonymised so, say --patient-from=folder or "
        "--patient-from=file"
    )


def check_shares(validation_share: float, test_share: float) -> None:
    """Refuses shares that leave nothing for training.

    Raises:
      RequestError: they do.
    """
    if not (validation_share >= 0 and test_share >= 0 and validation_share + test_share < 1):
        raise RequestError("--validation-share and --test-share must be 0 or more and leave something for training")


def draw_splits(
    entries: Sequence[ImageEntry],
    places: Mapping[str, float],
    *,
    validation_share: float,
    test_share: float,
    old: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, list[str]]:
    """Patients with a lesion mask into train, validation and test; the others are left out.

    A place below `test_share` is in the test, the next `validation_share` in validation, the rest in training. A split
    that gets nobody of three or more takes the patient next to its border from the largest; that is the only case in
    which one patient's place depends on others.

    Args:
      entries: of the set.
      places: patient -> place between 0 and 1.
      validation_share: of the patients with masks, on average.
      test_share: the same.
      old: splits of another set; its patients stay where they are.

    Raises:
      RequestError: shares that leave nothing for training, or an old set of other patients.
    """
    check_shares(validation_share, test_share)
    annotated = sorted({entry.patient for entry in entries if "lesions" in entry.masks})
    left_out = sorted({entry.patient for entry in entries} - set(annotated))
    known = {patient: name for name in SPLITS for patient in (old or {}).get(name, ())}
    if old and not set(known) & set(annotated):
        raise RequestError("--splits-from: has none of these patients; pseudonyms agree only under one key: --key-file")
    splits: dict[str, list[str]] = {name: [] for name in SPLITS}
    for patient in annotated:
        place = places[patient]
        drawn = "test" if place < test_share else "validation" if place < test_share + validation_share else "train"
        splits[known.get(patient, drawn)].append(patient)
    if len(annotated) >= MIN_PATIENTS:
        for name in ("train", "test", "validation"):
            if not splits[name]:
                _take_one(splits, name, places)
    elif not known:
        splits = {"train": annotated, "validation": [], "test": []}
    return {**{name: sorted(splits[name]) for name in SPLITS}, LEFT_OUT: left_out}


def _take_one(splits: dict[str, list[str]], name: str, places: Mapping[str, float]) -> None:
    """Moves the patient of the largest split that lies nearest to the empty one."""
    largest = max(SPLITS, key=lambda other: len(splits[other]))
    nearest = min if largest == "train" else max
    moved = nearest(splits[largest], key=lambda patient: places[patient])
    splits[largest].remove(moved)
    splits[name].append(moved)
