"""Which lesions were found and how well they were outlined, and what was found that is none.

Rules (our choice, docs/metrics.md): a lesion is detected if at least `overlap_min` of its pixels are predicted. A
predicted component (8-connected) that touches no lesion pixel is a false positive. A lesion's own prediction is made of
the components that touch it; a component that touches several lesions is shared out, each pixel to the nearest of them.
A lesion is clustered if another lesion's mask lies within 15 mm of its own, else isolated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
from scipy import ndimage

from data_pipeline.annotations.lesion_facts import LesionFacts
from msanet_jax.evaluation.pixels import count_pixels

EIGHT_CONNECTED = np.ones((3, 3), bool)
SMALL_MM, LARGE_MM = 15.0, 30.0
LOW_CONTRAST, HIGH_CONTRAST = 5.0, 10.0
CLUSTER_MM = 15.0


@dataclasses.dataclass(frozen=True)
class LesionResult:
    """One truth lesion of one image.

    Attributes:
      id: in the image's instance mask.
      pixels: of its mask.
      found: of those, how many are predicted.
      detected: whether the share reaches the rule's minimum.
      dsc: of its mask with its own prediction; 0 where nothing touches it.
      clustered: whether another lesion is near.
      facts: what the data set says of it.
    """

    id: int
    pixels: int
    found: int
    detected: bool
    dsc: float
    clustered: bool
    facts: LesionFacts


@dataclasses.dataclass(frozen=True)
class ImageLesions:
    """Lesions of one image.

    Attributes:
      lesions: those with pixels in the instance mask.
      components: predicted components.
      false_positives: of those, how many touch no lesion.
      without_pixels: lesions of the data set that have no pixel left on this grid; nothing else counts them.
    """

    lesions: tuple[LesionResult, ...]
    components: int
    false_positives: int
    without_pixels: int


def match_lesions(
    ids: np.ndarray,
    prediction: np.ndarray,
    *,
    overlap_min: float,
    pixel_size_mm: tuple[float, float],
    facts: Iterable[LesionFacts] = (),
) -> ImageLesions:
    """Matches truth lesions with a predicted mask.

    Args:
      ids: `[rows, columns]` instance ids, 0 where there is no lesion.
      prediction: `[rows, columns]` bool.
      overlap_min: share of a lesion's pixels that must be predicted, in (0, 1].
      pixel_size_mm: (row spacing, column spacing).
      facts: of the lesions.

    Example:
      >>> ids = np.array([[1, 1, 0, 0, 2, 0, 0, 0]])
      >>> prediction = np.array([[1, 0, 0, 0, 0, 0, 1, 1]], bool)
      >>> matched = match_lesions(ids, prediction, overlap_min=0.5, pixel_size_mm=(4.0, 4.0))
      >>> [(lesion.id, lesion.found, lesion.detected, round(lesion.dsc, 4)) for lesion in matched.lesions]
      [(1, 1, True, 0.6667), (2, 0, False, 0.0)]
      >>> matched.lesions[0].clustered, matched.false_positives  # 12 mm apart; the right one touches none
      (True, 1)
    """
    by_id = {known.id: known for known in facts}
    numbers = [int(number) for number in np.unique(ids) if number]
    components, count = ndimage.label(prediction, structure=EIGHT_CONNECTED)
    owners = share_out(ids, components, pixel_size_mm=pixel_size_mm)
    results = []
    for number in numbers:
        own = ids == number
        counts = count_pixels(own, owners == number)
        pixels, found = int(own.sum()), int((own & prediction).sum())
        results.append(
            LesionResult(
                id=number,
                pixels=pixels,
                found=found,
                detected=found >= overlap_min * pixels,
                dsc=counts.dsc,
                clustered=len(numbers) > 1 and _near_another(ids, own, pixel_size_mm),
                facts=by_id.get(number, LesionFacts(number)),
            )
        )
    touching = set(np.unique(components[ids > 0]).tolist()) - {0}
    return ImageLesions(
        lesions=tuple(results),
        components=count,
        false_positives=count - len(touching),
        without_pixels=len(set(by_id) - set(numbers)),
    )


def touching(ids: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """The predicted components that touch a lesion, `[rows, columns]` bool; the others are the false positives.

    Example:
      >>> ids = np.array([[1, 1, 0, 0, 0, 0]])
      >>> touching(ids, np.array([[0, 1, 1, 0, 0, 1]], bool)).astype(int).tolist()
      [[0, 1, 1, 0, 0, 0]]
    """
    components, _ = ndimage.label(prediction, structure=EIGHT_CONNECTED)
    return prediction & np.isin(components, components[ids > 0])


def share_out(ids: np.ndarray, components: np.ndarray, *, pixel_size_mm: tuple[float, float]) -> np.ndarray:
    """The lesion each predicted pixel belongs to, 0 for pixels of components that touch none.

    Args:
      ids: `[rows, columns]` lesion ids.
      components: `[rows, columns]` numbers of predicted components, 0 outside.
      pixel_size_mm: (row spacing, column spacing).

    Example:
      >>> ids = np.array([[1, 0, 0, 0, 2, 0, 0]])
      >>> components = np.array([[1, 1, 0, 2, 2, 0, 3]])
      >>> share_out(ids, components, pixel_size_mm=(1.0, 1.0)).tolist()
      [[1, 1, 0, 2, 2, 0, 0]]
      >>> one = np.array([[1, 1, 1, 1, 1, 0, 0]])  # it touches both; the middle pixel is as far from either
      >>> share_out(ids, one, pixel_size_mm=(1.0, 1.0))[0, [0, 1, 3, 4]].tolist()
      [1, 1, 2, 2]
    """
    owners = np.zeros(ids.shape, ids.dtype)
    hit = (components > 0) & (ids > 0)
    touched: dict[int, set[int]] = {}
    for component, lesion in np.unique(np.stack([components[hit], ids[hit].astype(components.dtype)], axis=1), axis=0):
        touched.setdefault(int(component), set()).add(int(lesion))
    for component, lesions in touched.items():
        inside = components == component
        if len(lesions) == 1:
            owners[inside] = next(iter(lesions))
            continue
        nearest = ndimage.distance_transform_edt(
            ~np.isin(ids, list(lesions)), sampling=pixel_size_mm, return_distances=False, return_indices=True
        )
        owners[inside] = ids[tuple(nearest)][inside]
    return owners


def _near_another(ids: np.ndarray, own: np.ndarray, pixel_size_mm: tuple[float, float]) -> bool:
    others = (ids > 0) & ~own
    distance = ndimage.distance_transform_edt(~others, sampling=pixel_size_mm)
    return bool(distance[own].min() <= CLUSTER_MM)


def lesion_groups(lesions: Iterable[LesionResult]) -> dict[str, list[LesionResult]]:
    """Lesions by size, contrast, neighbourhood and visibility; without that fact a lesion is in none of its groups.

    Limits: `SMALL_MM` and `LARGE_MM` of `size_mm`, `LOW_CONTRAST` and `HIGH_CONTRAST` of `contrast` (a ratio). A value
    on a limit is in the middle group.

    Args:
      lesions: of one image or of many.

    Returns:
      Name of every group in `GROUPS` -> its lesions.

    Example:
      >>> facts = LesionFacts(1, size_mm=12.0, contrast=5.0)
      >>> lesion = LesionResult(id=1, pixels=9, found=0, detected=False, dsc=0.0, clustered=False, facts=facts)
      >>> [name for name, members in lesion_groups([lesion]).items() if members]
      ['small', 'medium_contrast', 'isolated']
    """
    lesions = list(lesions)

    def within(figure: Callable[[LesionFacts], float | None], low: float, high: float) -> dict[str, list[LesionResult]]:
        known = [(lesion, value) for lesion in lesions if (value := figure(lesion.facts)) is not None]
        return {
            "below": [lesion for lesion, value in known if value < low],
            "between": [lesion for lesion, value in known if low <= value <= high],
            "above": [lesion for lesion, value in known if value > high],
        }

    size = within(lambda facts: facts.size_mm, SMALL_MM, LARGE_MM)
    contrast = within(lambda facts: facts.contrast, LOW_CONTRAST, HIGH_CONTRAST)
    return {
        "small": size["below"],
        "medium": size["between"],
        "large": size["above"],
        "low_contrast": contrast["below"],
        "medium_contrast": contrast["between"],
        "high_contrast": contrast["above"],
        "isolated": [lesion for lesion in lesions if not lesion.clustered],
        "clustered": [lesion for lesion in lesions if lesion.clustered],
        "visible": [lesion for lesion in lesions if lesion.facts.visible is True],
        "hidden": [lesion for lesion in lesions if lesion.facts.visible is False],
    }


GROUPS = tuple(lesion_groups(()))
"""Names of the groups, in the order in which they are written."""
