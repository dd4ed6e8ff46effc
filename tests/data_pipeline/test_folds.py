"""Cross-validation: every patient is tested once, the validation patients never."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from configs.msanet import get_config
from data_pipeline.features import BoneScans, StoredScans
from data_pipeline.folds import fold_splits, load_splits, subset_splits
from tests.fakes import fake_scans, stored_scans


def _splits() -> dict[str, BoneScans]:
    def named(prefix: str, images: int, seed: int) -> BoneScans:
        scans = fake_scans(images, seed=seed)
        rows = [
            dataclasses.replace(row, patient=f"{prefix}-{row.patient}", image_id=f"{prefix}-{row.image_id}")
            for row in scans.rows
        ]
        return dataclasses.replace(scans, rows=rows, version="1.2.3")

    return {"train": named("a", 10, 0), "validation": named("b", 4, 1), "test": named("c", 6, 2)}


def _stored(splits: dict[str, BoneScans]) -> dict[str, StoredScans]:
    return {name: stored_scans(scans) for name, scans in splits.items()}


def _folded(splits: dict[str, BoneScans], **options: int) -> dict[str, StoredScans]:
    stored = _stored(splits)
    train, test = stored["train"], stored["test"]
    pool = dataclasses.replace(train, records=[*train.records, *test.records], numbers=np.arange(16))
    return fold_splits(pool, stored["validation"], **options)


def test_every_patient_is_tested_once_and_validation_never() -> None:
    splits = _splits()
    folds = [
        {name: scans.in_memory(()) for name, scans in _folded(splits, folds=3, fold=fold, seed=0).items()}
        for fold in range(3)
    ]
    tested = [row.image_id for fold in folds for row in fold["test"].rows]
    assert sorted(tested) == sorted(row.image_id for name in ("train", "test") for row in splits[name].rows)
    for fold in folds:
        assert fold["validation"].rows == splits["validation"].rows
        assert {scans.version for scans in fold.values()} == {"1.2.3"}
        patients = {name: {row.patient for row in scans.rows} for name, scans in fold.items()}
        assert len(patients["train"] | patients["test"]) == 8  # 5 + 3 patients of two images
        assert not patients["train"] & patients["test"]
        assert len(patients["test"]) in (2, 3)


def test_subsets_share_no_patient_but_those_of_the_test() -> None:
    splits = _stored(_splits())
    parts = [subset_splits(splits, subsets=2, subset=part, seed=0) for part in range(2)]
    for name, each in (("train", 2), ("validation", 1)):  # 5 and 2 patients: one of the 5 is left over
        first, second = (set(part[name].patients()) for part in parts)
        assert len(first) == len(second) == each and not first & second
        assert first | second <= set(splits[name].patients())
    assert all(part["test"] is splits["test"] for part in parts)
    again = subset_splits(splits, subsets=2, subset=1, seed=0)
    np.testing.assert_array_equal(again["train"].numbers, parts[1]["train"].numbers)


@pytest.mark.parametrize(
    ("subsets", "subset", "said"),
    [(2, 2, "subsets 0 to 1"), (2, -1, "data.subset=-1"), (3, 0, "data.subsets=3: the split validation has only 2")],
)
def test_impossible_subsets_are_refused(subsets: int, subset: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        subset_splits(_stored(_splits()), subsets=subsets, subset=subset, seed=0)


def test_folds_of_subsets_are_refused() -> None:
    data = get_config("smoke").data
    data.folds, data.subsets = 2, 2
    with pytest.raises(ValueError, match=r"data\.folds=2 and data\.subsets=2"):
        load_splits(data, "")


def test_pixels_stay_with_their_rows() -> None:
    splits = _splits()
    known = {
        row.image_id: (scans.counts[number], scans.masks["lesions"][number])
        for scans in splits.values()
        for number, row in enumerate(scans.rows)
    }
    for scans in (stored.in_memory() for stored in _folded(splits, folds=2, fold=1, seed=3).values()):
        for number, row in enumerate(scans.rows):
            np.testing.assert_array_equal(scans.counts[number], known[row.image_id][0])
            np.testing.assert_array_equal(scans.masks["lesions"][number], known[row.image_id][1])


def test_grouping_follows_the_seed() -> None:
    splits = _splits()

    def tested(seed: int) -> set[str]:
        return set(_folded(splits, folds=2, fold=0, seed=seed)["test"].patients())

    assert tested(0) == tested(0)
    assert len({frozenset(tested(seed)) for seed in range(6)}) > 1


@pytest.mark.parametrize(
    ("folds", "fold", "said"), [(3, 3, "folds 0 to 2"), (3, -1, "data.fold=-1"), (9, 0, "9 folds")]
)
def test_impossible_folds_are_refused(folds: int, fold: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _folded(_splits(), folds=folds, fold=fold, seed=0)
