"""Recall and DSC of lesions by size in mm and by bone, with intervals over patients."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from msanet_jax.evaluation.bootstrap import interval, ratio, sampled, value
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
    known = [(row, row.size_mm) for row in lesions if row.size_mm is not None]
    sizes = []
    for low, high in itertools.pairwise(SIZE_EDGES_MM):
        chosen = [row for row, size in known if low <= size < high]
        sizes.append(SizeBin(low, None if high == float("inf") else high, *_scores(images, chosen, weights)))
    by_kind: dict[str, list[LesionScores]] = {}
    for row in lesions:
        if row.bone:
            by_kind.setdefault(bone_kind(row.bone), []).append(row)
    ordered = sorted(by_kind.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    bones = (BoneBin(name, *_scores(images, chosen, weights)) for name, chosen in ordered)
    return LesionBins(sizes=tuple(sizes), bones=tuple(bones))


def bone_kind(bone: str) -> str:
    """`thoracic_7` -> `thoracic`, `rib_5_left` -> `rib`: the name without number and side."""
    return "_".join(part for part in bone.split("_") if not part.isdigit() and part not in ("left", "right"))


def _scores(
    images: Sequence[ImageScores], lesions: Sequence[LesionScores], weights: Iterable[np.ndarray]
) -> tuple[int, float, tuple[float, float], float, tuple[float, float]]:
    """Number of lesions; recall and its interval; mean DSC and its interval."""
    place = {row.image_id: number for number, row in enumerate(images)}
    total, detected, dsc = np.zeros((3, len(images)))
    for row in lesions:
        number = place[row.image_id]
        total[number] += 1
        detected[number] += row.detected
        dsc[number] += row.dsc
    recall, dsc_mean = (functools.partial(ratio, numerator=sums, denominator=total) for sums in (detected, dsc))
    return (
        len(lesions),
        value(recall, len(images)),
        interval(sampled(recall, weights)),
        value(dsc_mean, len(images)),
        interval(sampled(dsc_mean, weights)),
    )
