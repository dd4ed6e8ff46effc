"""Patients into splits and folds: never images, because the views of one patient share their lesions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from data_pipeline.errors import RequestError

SPLITS = ("train", "validation", "test")
"""Their names, in the order in which they are listed."""


def split_patients(patients: Sequence[str], *, sizes: Mapping[str, int], seed: int) -> dict[str, list[str]]:
    """Splits into named groups of the given sizes, at random but the same for the same seed.

    Args:
      patients: keys, each once.
      sizes: patients per split; together as many as there are.
      seed: of the shuffle.

    Raises:
      RequestError: a key occurs twice, or the sizes do not add up.
    """
    if len(set(patients)) != len(patients):
        twice = sorted({key for key in patients if list(patients).count(key) > 1})
        raise RequestError(f"patients occur more than once: {', '.join(twice[:5])}")
    if sum(sizes.values()) != len(patients):
        raise RequestError(
            f"split sizes {dict(sizes)} add up to {sum(sizes.values())}, there are {len(patients)} patients"
        )
    order = np.random.default_rng(seed).permutation(sorted(patients))
    ends = np.cumsum(list(sizes.values()))
    return {
        name: sorted(order[end - size : end].tolist()) for (name, size), end in zip(sizes.items(), ends, strict=True)
    }


def fold_patients(patients: Sequence[str], *, folds: int, seed: int) -> list[list[str]]:
    """`folds` groups whose sizes differ by at most one patient.

    Raises:
      RequestError: fewer patients than folds, or fewer than two folds.
    """
    if not 2 <= folds <= len(patients):
        raise RequestError(f"{len(patients)} patients cannot make {folds} folds")
    order = np.random.default_rng(seed).permutation(sorted(patients))
    return [sorted(order[fold::folds].tolist()) for fold in range(folds)]


def equal_groups(patients: Sequence[str], *, groups: int, seed: int) -> list[list[str]]:
    """`groups` disjoint groups of floor(patients / groups) patients each; those left over are in none.

    Raises:
      RequestError: fewer patients than groups, or no group.

    Example:
      >>> [len(group) for group in equal_groups(["a", "b", "c", "d", "e"], groups=2, seed=0)]
      [2, 2]
    """
    if not 1 <= groups <= len(patients):
        raise RequestError(f"{len(patients)} patients cannot make {groups} groups")
    size = len(patients) // groups
    order = np.random.default_rng(seed).permutation(sorted(patients))
    return [sorted(order[group * size : (group + 1) * size].tolist()) for group in range(groups)]


def check_disjoint(splits: Mapping[str, Sequence[str]]) -> None:
    """Refuses splits that share a patient.

    Raises:
      RequestError: names the patient and both splits.
    """
    owner: dict[str, str] = {}
    for name, patients in splits.items():
        for key in set(patients):
            if key in owner:
                raise RequestError(f"patient {key} is in both {owner[key]} and {name}: split by patient")
            owner[key] = name
