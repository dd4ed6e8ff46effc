"""The splits that a recipe asks for: the data set's own, a fold of a cross-validation over patients, or a subset.

In a cross-validation the patients that the set holds for training and testing form k groups. Fold f is tested on
group f and trained on the others. The set's validation patients stay what they are in every fold: recipes are tuned on
them, so they never count as test patients.

Subsets divide a large set for trainings that share no patient: each has its own training and validation patients, all
have the same test patients.
"""

from __future__ import annotations

from collections.abc import Mapping

from ml_collections import ConfigDict

from data_pipeline.datasets import open_split
from data_pipeline.errors import RequestError
from data_pipeline.features import StoredScans
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

    def stored(name: str) -> StoredScans:
        return open_split(data.dataset, name, data_dir, data.field)

    subsets = data.subsets if "subsets" in data else 0  # recipes of earlier versions have none
    if subsets and data.folds:
        raise RequestError(f"data.folds={data.folds} and data.subsets={data.subsets}: set one of them to 0")
    if data.folds:
        splits = fold_splits(
            stored("train+test"), stored("validation"), folds=data.folds, fold=data.fold, seed=data.fold_seed
        )
    else:
        splits = {name: stored(name) for name in SPLITS}
    if subsets:
        splits = subset_splits(splits, subsets=subsets, subset=data.subset, seed=data.fold_seed)
    return {name: on_field(scans, data) for name, scans in splits.items()}


def fold_splits(
    pool: StoredScans, validation: StoredScans, *, folds: int, fold: int, seed: int
) -> dict[str, StoredScans]:
    """Fold `fold` (0 is the first) of `folds`, grouped by `seed` alone, so that every run of a study has the same.

    Args:
      pool: images to train and test on.
      validation: images of other patients.
      folds: number of groups.
      fold: which group is tested.
      seed: of the grouping.

    Raises:
      RequestError: no such fold, or too few patients.
    """
    if not 0 <= fold < folds:
        raise RequestError(f"data.fold={fold}: with data.folds={folds} there are the folds 0 to {folds - 1}")
    patients = pool.patients()
    groups = fold_patients(sorted(set(patients)), folds=folds, seed=seed)
    tested = set(groups[fold])
    made = {
        "train": pool.part([number for number, patient in enumerate(patients) if patient not in tested]),
        "validation": validation,
        "test": pool.part([number for number, patient in enumerate(patients) if patient in tested]),
    }
    check_disjoint({name: scans.patients() for name, scans in made.items()})
    return made


def subset_splits(splits: Mapping[str, StoredScans], *, subsets: int, subset: int, seed: int) -> dict[str, StoredScans]:
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
        owners = splits[name].patients()
        patients = sorted(set(owners))
        if subsets > len(patients):
            raise RequestError(f"data.subsets={subsets}: the split {name} has only {len(patients)} patients")
        kept = set(equal_groups(patients, groups=subsets, seed=seed)[subset])
        made[name] = splits[name].part([number for number, patient in enumerate(owners) if patient in kept])
    return made
