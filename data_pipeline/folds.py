"""The splits that a recipe asks for: the data set's own, a fold of a cross-validation over patients, or a subset.

In a cross-validation the patients that the set holds for training and testing form k groups. Fold f is tested on
group f and trained on the others. The set's validation patients stay what they are in every fold: recipes are tuned on
them, so they never count as test patients.

Subsets divide a large set for trainings that share no patient: each has its own training and validation patients, all
have the same test patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.datasets import load_split
from data_pipeline.errors import RequestError
from data_pipeline.features import BoneScans
from data_pipeline.grid import GridSplit, on_field
from data_pipeline.splits import SPLITS, check_disjoint, equal_groups, fold_patients


def load_splits(data: ConfigDict, data_dir: str) -> dict[str, GridSplit]:
    """Training, validation and test images of the recipe's `data` section, on the field's grid.

    Args:
      data: the recipe's section; `folds` and `subsets` are 0 for the set's own splits.
      data_dir: where sets are kept.

    Raises:
      RequestError: no such set, mask or fold, too few patients for that many folds, or a size that does not divide.
    """
    splits = {name: load_split(data.dataset, name, data_dir, data.field) for name in SPLITS}
    if "subsets" in data and data.subsets:  # recipes of earlier versions have none
        if data.folds:
            raise RequestError(f"data.folds={data.folds} and data.subsets={data.subsets}: set one of them to 0")
        splits = subset_splits(splits, subsets=data.subsets, subset=data.subset, seed=data.fold_seed)
    if data.folds:
        splits = fold_splits(splits, folds=data.folds, fold=data.fold, seed=data.fold_seed)
    return {name: on_field(scans, data) for name, scans in splits.items()}


def fold_splits(splits: Mapping[str, BoneScans], *, folds: int, fold: int, seed: int) -> dict[str, BoneScans]:
    """Fold `fold` (0 is the first) of `folds`, grouped by `seed` alone, so that every run of a study has the same.

    Raises:
      RequestError: no such fold, or too few patients.
    """
    if not 0 <= fold < folds:
        raise RequestError(f"data.fold={fold}: with data.folds={folds} there are the folds 0 to {folds - 1}")
    pool = _joined([splits["train"], splits["test"]])
    groups = fold_patients(sorted({row.patient for row in pool.rows}), folds=folds, seed=seed)
    tested = set(groups[fold])
    made = {
        "train": _of_patients(pool, {row.patient for row in pool.rows} - tested),
        "validation": splits["validation"],
        "test": _of_patients(pool, tested),
    }
    check_disjoint({name: sorted({row.patient for row in scans.rows}) for name, scans in made.items()})
    return made


def subset_splits(splits: Mapping[str, BoneScans], *, subsets: int, subset: int, seed: int) -> dict[str, BoneScans]:
    """Part `subset` (0 is the first) of the training and of the validation patients; the test patients are shared.

    Every part has equally many patients: those left over by the division are not used.

    Raises:
      RequestError: no such part, or too few patients.
    """
    if not 0 <= subset < subsets:
        raise RequestError(
            f"data.subset={subset}: with data.subsets={subsets} there are the subsets 0 to {subsets - 1}"
        )
    made = dict(splits)
    for name in ("train", "validation"):
        patients = sorted({row.patient for row in splits[name].rows})
        if subsets > len(patients):
            raise RequestError(f"data.subsets={subsets}: the split {name} has only {len(patients)} patients")
        made[name] = _of_patients(splits[name], set(equal_groups(patients, groups=subsets, seed=seed)[subset]))
    return made


def _joined(parts: Sequence[BoneScans]) -> BoneScans:
    return BoneScans(
        counts=np.concatenate([part.counts for part in parts]),
        masks={name: np.concatenate([part.masks[name] for part in parts]) for name in parts[0].masks},
        rows=[row for part in parts for row in part.rows],
        version=parts[0].version,
    )


def _of_patients(scans: BoneScans, patients: set[str]) -> BoneScans:
    kept = [number for number, row in enumerate(scans.rows) if row.patient in patients]
    return BoneScans(
        counts=scans.counts[kept],
        masks={name: mask[kept] for name, mask in scans.masks.items()},
        rows=[scans.rows[number] for number in kept],
        version=scans.version,
    )
