"""Which lesions were found, and what was found that is none.

Rules (our choice, docs/metrics.md): a lesion is detected if at least `overlap_min` of its pixels are predicted. A
predicted component (8-connected) that touches no lesion pixel is a false positive. Small is shorter than 15 mm, large
longer than 30 mm. A lesion is clustered if another lesion's mask lies within 15 mm of its own, else isolated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from msanet_jax.metrics import quotient

EIGHT_CONNECTED = np.ones((3, 3), bool)
SMALL_MM, LARGE_MM = 15.0, 30.0
CLUSTER_MM = 15.0


@dataclasses.dataclass(frozen=True)
class LesionResult:
    """One truth lesion of one image.

    Attributes:
      id: in the image's instance mask.
      pixels: of its mask.
      found: of those, how many are predicted.
      detected: whether the share reaches the rule's minimum.
      clustered: whether another lesion is near.
      facts: what the data set says of it (bone, size_mm, contrast, cnr, visible, ...).
    """

    id: int
    pixels: int
    found: int
    detected: bool
    clustered: bool
    facts: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class ImageLesions:
    """Lesions of one image and the number of false positive components."""

    lesions: tuple[LesionResult, ...]
    false_positives: int


def match_lesions(
    ids: np.ndarray,
    prediction: np.ndarray,
    *,
    overlap_min: float,
    pixel_mm: float,
    facts: Iterable[Mapping[str, Any]] = (),
) -> ImageLesions:
    """Matches truth lesions with a predicted mask.

    Args:
      ids: `[rows, columns]` instance ids, 0 where there is no lesion.
      prediction: `[rows, columns]` bool.
      overlap_min: share of a lesion's pixels that must be predicted, in (0, 1].
      pixel_mm: side of a pixel, for distances.
      facts: of the lesions, by their `id`.
    """
    by_id = {int(row["id"]): row for row in facts}
    numbers = [int(number) for number in np.unique(ids) if number]
    results = []
    for number in numbers:
        own = ids == number
        pixels, found = int(own.sum()), int((own & prediction).sum())
        results.append(
            LesionResult(
                id=number,
                pixels=pixels,
                found=found,
                detected=found >= overlap_min * pixels,
                clustered=_near_another(ids, own, pixel_mm) if len(numbers) > 1 else False,
                facts=by_id.get(number, {}),
            )
        )
    components, count = ndimage.label(prediction, structure=EIGHT_CONNECTED)
    touching = set(np.unique(components[ids > 0]).tolist()) - {0}
    return ImageLesions(lesions=tuple(results), false_positives=count - len(touching))


def _near_another(ids: np.ndarray, own: np.ndarray, pixel_mm: float) -> bool:
    others = (ids > 0) & ~own
    distance = ndimage.distance_transform_edt(~others) * pixel_mm
    return bool(distance[own].min() <= CLUSTER_MM)


def lesion_summary(images: Iterable[ImageLesions]) -> dict[str, float]:
    """Recall over all lesions and by group, false positives per image; NaN for an empty group.

    Returns:
      `lesions`, `lesion_recall`, `false_positives_per_image`, and per group `lesion_recall_G` and `lesions_G`, G in
      small, medium, large, isolated, clustered, visible, hidden.
    """
    images = list(images)
    lesions = [lesion for image in images for lesion in image.lesions]
    summary: dict[str, float] = {
        "lesions": len(lesions),
        "lesion_recall": _recall(lesions),
        "false_positives_per_image": quotient(sum(image.false_positives for image in images), len(images)),
    }
    for group, members in lesion_groups(lesions).items():
        summary[f"lesions_{group}"] = len(members)
        summary[f"lesion_recall_{group}"] = _recall(members)
    return summary


def lesion_groups(lesions: Iterable[LesionResult]) -> dict[str, list[LesionResult]]:
    """Lesions by size, neighbourhood and visibility; a lesion without facts is in no size or visibility group."""
    lesions = list(lesions)
    sized = [(lesion, float(lesion.facts["size_mm"])) for lesion in lesions if "size_mm" in lesion.facts]
    return {
        "small": [lesion for lesion, size in sized if size < SMALL_MM],
        "medium": [lesion for lesion, size in sized if SMALL_MM <= size <= LARGE_MM],
        "large": [lesion for lesion, size in sized if size > LARGE_MM],
        "isolated": [lesion for lesion in lesions if not lesion.clustered],
        "clustered": [lesion for lesion in lesions if lesion.clustered],
        "visible": [lesion for lesion in lesions if lesion.facts.get("visible") is True],
        "hidden": [lesion for lesion in lesions if lesion.facts.get("visible") is False],
    }


def _recall(lesions: list[LesionResult]) -> float:
    return quotient(sum(lesion.detected for lesion in lesions), len(lesions))
