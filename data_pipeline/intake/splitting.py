"""The first split of an imported set: patients at random, those with and without lesions each in proportion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from data_pipeline.errors import RequestError
from data_pipeline.intake.folder import LEFT_OUT, ImageEntry
from data_pipeline.splits import split_patients

MIN_PATIENTS = 3
"""One for training, one for validation, one for the test."""


def draw_splits(
    entries: Sequence[ImageEntry],
    with_lesion: Iterable[str],
    *,
    validation_share: float,
    test_share: float,
    seed: int,
) -> dict[str, list[str]]:
    """Patients with a lesion mask into train, validation and test; the others are left out.

    Args:
      entries: of the set.
      with_lesion: patients with at least one lesion.
      validation_share: of the patients with masks; at least one of three or more patients.
      test_share: the same.
      seed: of the draw; the same patients and seed give the same splits.

    Raises:
      RequestError: shares that leave nothing for training.
    """
    if not (validation_share >= 0 and test_share >= 0 and validation_share + test_share < 1):
        raise RequestError("--validation-share and --test-share must be 0 or more and leave something for training")
    annotated = sorted({entry.patient for entry in entries if "lesions" in entry.masks})
    left_out = sorted({entry.patient for entry in entries} - set(annotated))
    if len(annotated) < MIN_PATIENTS:
        return {"train": annotated, "validation": [], "test": [], LEFT_OUT: left_out}
    total = {name: max(1, round(share * len(annotated))) for name, share in _shares(validation_share, test_share)}
    if sum(total.values()) >= len(annotated):
        total = dict.fromkeys(total, 1)
    ill = sorted(set(annotated) & set(with_lesion))
    healthy = sorted(set(annotated) - set(ill))
    sizes_ill = _apportion(total, len(ill), len(annotated))
    sizes_healthy = {name: total[name] - sizes_ill[name] for name in total}
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for group, sizes in ((ill, sizes_ill), (healthy, sizes_healthy)):
        whole = {**sizes, "train": len(group) - sum(sizes.values())}
        for name, patients in split_patients(group, sizes=whole, seed=seed).items():
            splits[name] = sorted([*splits[name], *patients])
    return {**splits, LEFT_OUT: left_out}


def _shares(validation: float, test: float) -> tuple[tuple[str, float], ...]:
    return ("test", test), ("validation", validation)


def _apportion(total: dict[str, int], ill: int, patients: int) -> dict[str, int]:
    """How many patients with lesions each split gets: in proportion, and so that the other group suffices too."""
    healthy = patients - ill
    sizes: dict[str, int] = {}
    for name, size in total.items():
        wanted = round(size * ill / patients) or min(1, ill)
        left_ill, left_healthy = ill - sum(sizes.values()), healthy - sum(total[n] - k for n, k in sizes.items())
        # One patient with lesions stays for training as long as there is one.
        sizes[name] = min(max(wanted, size - left_healthy), size, max(left_ill - 1, size - left_healthy, 0))
    return sizes
