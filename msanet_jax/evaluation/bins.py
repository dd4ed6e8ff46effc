"""Recall and DSC of lesions by size in mm and by bone, with intervals over patients."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from msanet_jax.evaluation.bootstrap import intervals, ratio, value
from msanet_jax.evaluation.results import BoneBin, ImageScores, LesionBins, LesionScores, SizeBin

SIZE_EDGES_MM = (0.0, 10.0, 15.0, 20.0, 30.0, 45.0, float("inf"))
"""A bin holds its lower edge; 15 and 30 mm are also the limits of small and large."""


def lesion_bins(
    images: Sequence[ImageScores], lesions: Sequence[LesionScores], weights: Iterable[np.ndarray]
) -> LesionBins:
    """Tables by size and by kind of bone (rib_5_left is a rib).

    Lesions of unknown size are in no size bin, those of no named bone are in none of the bones. The most frequent bone
    comes first.

    Args:
      images: rows of images.csv.
      lesions: rows of lesions.csv.
      weights: `[samples, images]` of the bootstrap, in parts.
    """
    place = {row.image_id: number for number, row in enumerate(images)}
    sums: dict[float | str, np.ndarray] = {low: np.zeros((3, len(images))) for low in SIZE_EDGES_MM[:-1]}
    for row in lesions:
        groups: list[float | str] = [bone_kind(row.bone)] if row.bone else []
        if row.size_mm is not None:
            groups += [low for low, high in itertools.pairwise(SIZE_EDGES_MM) if low <= row.size_mm < high]
        for group in groups:
            total, detected, dsc = sums.setdefault(group, np.zeros((3, len(images))))
            number = place[row.image_id]
            total[number] += 1
            detected[number] += row.detected
            dsc[number] += row.dsc
    scores = {
        (group, name): functools.partial(ratio, numerator=numerator, denominator=total)
        for group, (total, detected, dsc) in sums.items()
        for name, numerator in (("recall", detected), ("dsc_mean", dsc))
    }
    ends = intervals(scores, weights)

    def scored(group: float | str) -> tuple[int, float, tuple[float, float], float, tuple[float, float]]:
        """Number of lesions; recall and its interval; mean DSC and its interval."""
        recall, dsc_mean = (value(scores[group, name], len(images)) for name in ("recall", "dsc_mean"))
        return int(sums[group][0].sum()), recall, ends[group, "recall"], dsc_mean, ends[group, "dsc_mean"]

    sizes = tuple(
        SizeBin(low, None if high == float("inf") else high, *scored(low))
        for low, high in itertools.pairwise(SIZE_EDGES_MM)
    )
    bones = [BoneBin(group, *scored(group)) for group in sums if isinstance(group, str)]
    return LesionBins(sizes=sizes, bones=tuple(sorted(bones, key=lambda row: (-row.lesions, row.bone))))


def bone_kind(bone: str) -> str:
    """`thoracic_7` -> `thoracic`, `rib_5_left` -> `rib`: the name without number and side."""
    return "_".join(part for part in bone.split("_") if not part.isdigit() and part not in ("left", "right"))
