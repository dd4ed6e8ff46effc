"""Cross-validation: every patient is tested once, the validation patients never."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from data_pipeline.features import BoneScans
from data_pipeline.folds import fold_splits
from tests.fakes import fake_scans


def _splits() -> dict[str, BoneScans]:
    def named(prefix: str, images: int, seed: int) -> BoneScans:
        scans = fake_scans(images, seed=seed)
        rows = [
            dataclasses.replace(row, patient=f"{prefix}-{row.patient}", image_id=f"{prefix}-{row.image_id}")
            for row in scans.rows
        ]
        return dataclasses.replace(scans, rows=rows, version="1.2.3")

    return {"train": named("a", 10, 0), "validation": named("b", 4, 1), "test": named("c", 6, 2)}


def test_every_patient_is_tested_once_and_validation_never() -> None:
    splits = _splits()
    folds = [fold_splits(splits, folds=3, fold=fold, seed=0) for fold in range(3)]
    tested = [row.image_id for fold in folds for row in fold["test"].rows]
    assert sorted(tested) == sorted(row.image_id for name in ("train", "test") for row in splits[name].rows)
    for fold in folds:
        assert fold["validation"] is splits["validation"]
        assert {scans.version for scans in fold.values()} == {"1.2.3"}
        patients = {name: {row.patient for row in scans.rows} for name, scans in fold.items()}
        assert len(patients["train"] | patients["test"]) == 8  # 5 + 3 patients of two images
        assert not patients["train"] & patients["test"]
        assert len(patients["test"]) in (2, 3)


def test_pixels_stay_with_their_rows() -> None:
    splits = _splits()
    known = {
        row.image_id: (scans.counts[number], scans.masks["lesions"][number])
        for scans in splits.values()
        for number, row in enumerate(scans.rows)
    }
    for scans in fold_splits(splits, folds=2, fold=1, seed=3).values():
        for number, row in enumerate(scans.rows):
            np.testing.assert_array_equal(scans.counts[number], known[row.image_id][0])
            np.testing.assert_array_equal(scans.masks["lesions"][number], known[row.image_id][1])


def test_grouping_follows_the_seed() -> None:
    splits = _splits()

    def tested(seed: int) -> set[str]:
        return {row.patient for row in fold_splits(splits, folds=2, fold=0, seed=seed)["test"].rows}

    assert tested(0) == tested(0)
    assert len({frozenset(tested(seed)) for seed in range(6)}) > 1


@pytest.mark.parametrize(
    ("folds", "fold", "said"), [(3, 3, "folds 0 to 2"), (3, -1, "data.fold=-1"), (9, 0, "9 folds")]
)
def test_impossible_folds_are_refused(folds: int, fold: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fold_splits(_splits(), folds=folds, fold=fold, seed=0)
