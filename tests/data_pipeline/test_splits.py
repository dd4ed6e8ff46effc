"""Patients are split, never images."""

from __future__ import annotations

import itertools

import pytest

from data_pipeline.phantom_bone import PhantomBone, planned_views
from data_pipeline.splits import check_disjoint, fold_patients, split_patients

PATIENTS = [f"p{number:03d}" for number in range(20)]


def test_split_sizes_and_repeatability() -> None:
    sizes = {"train": 12, "validation": 3, "test": 5}
    first = split_patients(PATIENTS, sizes=sizes, seed=1)
    assert {name: len(group) for name, group in first.items()} == sizes
    assert sorted(itertools.chain.from_iterable(first.values())) == PATIENTS
    assert first == split_patients(PATIENTS[::-1], sizes=sizes, seed=1)
    assert first != split_patients(PATIENTS, sizes=sizes, seed=2)


def test_folds_cover_everyone_once() -> None:
    folds = fold_patients(PATIENTS, folds=3, seed=0)
    assert sorted(len(fold) for fold in folds) == [6, 7, 7]
    assert sorted(itertools.chain.from_iterable(folds)) == PATIENTS
    for number in (1, 21):
        with pytest.raises(ValueError, match=f"cannot make {number} folds"):
            fold_patients(PATIENTS, folds=number, seed=0)


def test_overlap_and_repetition_are_named() -> None:
    with pytest.raises(ValueError, match="patient b is in both train and test"):
        check_disjoint({"train": ["a", "b"], "test": ["b"]})
    with pytest.raises(ValueError, match="more than once: a"):
        split_patients(["a", "a"], sizes={"train": 2}, seed=0)
    with pytest.raises(ValueError, match="add up to 3"):
        split_patients(["a", "b"], sizes={"train": 3}, seed=0)


@pytest.mark.parametrize(
    ("name", "images", "patients"), [("full", 286, (100, 18, 53)), ("cpu", 170, (70, 10, 26)), ("tiny", 16, (5, 2, 3))]
)
def test_planned_sets(name: str, images: int, patients: tuple[int, int, int]) -> None:
    config = next(entry for entry in PhantomBone.BUILDER_CONFIGS if entry.name == name)
    plan = planned_views(config)
    assert tuple(len(plan[split]) for split in ("train", "validation", "test")) == patients
    assert sum(len(views) for split in plan.values() for views in split.values()) == images
    check_disjoint({split: [str(index) for index in group] for split, group in plan.items()})
