"""Free-response operating characteristic: lesion recall against false positives per scan, over all thresholds.

Rule (our choice, docs/metrics.md): a candidate is a local maximum of the probability map, the highest within
`peak_distance_mm` in both directions. It hits the nearest lesion if that lies within `hit_distance_mm`, else it is a
false positive. A lesion's score is that of its best candidate; further candidates on it count neither way. The curve's
threshold runs over all scores. Peaks, not components of a thresholded map, because a map that floods at a low threshold
becomes one component without false positives. As in CAMELYON16 (Ehteshami Bejnordi et al., JAMA 318:2199, 2017).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict
from scipy import ndimage
from skimage.feature import peak_local_max


@dataclasses.dataclass(frozen=True)
class Candidates:
    """What the peaks of one image hit.

    Attributes:
      lesion_scores: score of every lesion's best candidate by lesion id; 0 where no candidate hits it.
      false_scores: scores of the false positives.
    """

    lesion_scores: dict[int, float]
    false_scores: np.ndarray


@dataclasses.dataclass(frozen=True)
class Curve:
    """A FROC curve from the highest threshold down; it begins at (0, 0) with threshold infinity.

    Attributes:
      thresholds: `[points]`; a candidate counts if its score reaches it.
      false_positives_per_scan, sensitivity: `[points]`, non-decreasing; sensitivity is NaN without lesions.
    """

    thresholds: np.ndarray
    false_positives_per_scan: np.ndarray
    sensitivity: np.ndarray


def find_candidates(
    probability: np.ndarray, ids: np.ndarray, *, pixel_size_mm: tuple[float, float], evaluate: ConfigDict
) -> Candidates:
    """Peaks of a map, and which lesions they hit.

    Args:
      probability: `[rows, columns]`.
      ids: `[rows, columns]` lesion ids, 0 where there is none.
      pixel_size_mm: (row spacing, column spacing).
      evaluate: the recipe's section; its `froc_...` keys are read.

    Example:
      >>> rules = {"froc_peak_distance_mm": 1.0, "froc_probability_min": 0.1, "froc_hit_distance_mm": 2.0}
      >>> probability = np.array([[0.0, 0.8, 0.0, 0.0, 0.0, 0.3, 0.0]])
      >>> ids = np.array([[1, 0, 0, 0, 0, 0, 0]])  # 1 mm from the first peak, 5 mm from the second
      >>> found = find_candidates(probability, ids, pixel_size_mm=(1.0, 1.0), evaluate=ConfigDict(rules))
      >>> found.lesion_scores, found.false_scores.tolist()
      ({1: 0.8}, [0.3])
    """
    places = find_peaks(
        probability,
        distance_px=max(1, round(evaluate.froc_peak_distance_mm / float(np.mean(pixel_size_mm)))),
        minimum=evaluate.froc_probability_min,
    )
    scores = probability[tuple(places.T)].astype(float)
    hit = hit_zones(ids, pixel_size_mm=pixel_size_mm, distance_mm=evaluate.froc_hit_distance_mm)[tuple(places.T)]
    lesions = (int(number) for number in np.unique(ids) if number)
    return Candidates(
        lesion_scores={number: float(scores[hit == number].max(initial=0.0)) for number in lesions},
        false_scores=scores[hit == 0],
    )


def find_peaks(probability: np.ndarray, *, distance_px: int, minimum: float) -> np.ndarray:
    """(row, column) of the local maxima above `minimum`, highest first; of a plateau spaced points.

    Args:
      probability: `[rows, columns]` in [0, 1].
      distance_px: a peak is the highest pixel within this distance in both directions.
      minimum: probability above which a maximum is a peak.

    Returns:
      `[peaks, 2]` int.

    Example:
      >>> find_peaks(np.array([[0.3, 0.0, 0.8, 0.7]]), distance_px=1, minimum=0.1).tolist()
      [[0, 2], [0, 0]]
    """
    # The rim lets a map that is flat everywhere have peaks as well.
    framed = np.pad(probability, 1, constant_values=-1.0)
    found = peak_local_max(framed, min_distance=distance_px, threshold_abs=minimum, exclude_border=False)
    return found - 1


def hit_zones(ids: np.ndarray, *, pixel_size_mm: tuple[float, float], distance_mm: float) -> np.ndarray:
    """Every pixel's nearest lesion id if that lies within `distance_mm` (centre to centre), else 0.

    Args:
      ids: `[rows, columns]` lesion ids, 0 where there is none.
      pixel_size_mm: (row spacing, column spacing).
      distance_mm: the limit, included.

    Returns:
      `[rows, columns]` ids.

    Example:
      >>> hit_zones(np.array([[7, 0, 0, 0, 0]]), pixel_size_mm=(2.0, 2.0), distance_mm=4.0).tolist()
      [[7, 7, 7, 0, 0]]
    """
    if not ids.any():
        return np.zeros_like(ids)
    distance, nearest = ndimage.distance_transform_edt(ids == 0, sampling=pixel_size_mm, return_indices=True)
    return np.where(distance <= distance_mm, ids[tuple(nearest)], 0)


def froc_curve(images: Sequence[Candidates]) -> Curve:
    """The curve over all images: lesions found / lesions, and false positives / images, at every threshold.

    Args:
      images: candidates of each.

    Example:
      >>> curve = froc_curve([Candidates({1: 0.9, 2: 0.4}, np.array([0.6])), Candidates({}, np.array([]))])
      >>> curve.thresholds.tolist()
      [inf, 0.9, 0.6, 0.4]
      >>> curve.false_positives_per_scan.tolist(), curve.sensitivity.tolist()
      ([0.0, 0.0, 0.5, 0.5], [0.0, 0.5, 0.5, 1.0])
    """
    ranked = rank_candidates(images)
    false, found = ranked.reaching(np.ones(len(images)))
    total = ranked.lesions.sum()
    sensitivity = found / total if total else np.full(len(ranked.thresholds), np.nan)
    return Curve(ranked.thresholds, false / max(len(images), 1), sensitivity)


def froc_score(curve: Curve, operating_points: Sequence[float]) -> float:
    """Mean sensitivity at the given false positives per scan, linear between points; the last one holds on.

    Args:
      curve: of `froc_curve`.
      operating_points: false positives per scan.

    Returns:
      A number in [0, 1]; NaN without lesions.

    Example:
      >>> curve = Curve(np.array([np.inf, 0.5]), np.array([0.0, 2.0]), np.array([0.0, 1.0]))
      >>> froc_score(curve, (1.0, 4.0))  # (0.5 + 1) / 2
      0.75
    """
    return float(np.mean(np.interp(operating_points, curve.false_positives_per_scan, curve.sensitivity)))


def sensitivities(weights: np.ndarray, ranked: RankedCandidates, operating_points: Sequence[float]) -> np.ndarray:
    """Sensitivity of bootstrap samples at the given false positives per scan; their mean is the `froc_score`.

    Args:
      weights: `[samples, images]`, how often an image enters a sample.
      ranked: candidates of all images.
      operating_points: false positives per scan.

    Returns:
      `[samples, points]` in [0, 1]; NaN for a sample without lesions.

    Example:
      >>> nothing = np.array([])
      >>> images = [Candidates({1: 0.9}, nothing), Candidates({1: 0.0}, np.array([0.6])), Candidates({}, nothing)]
      >>> weights = np.array([[1, 1, 1], [0, 2, 1], [0, 0, 3]])
      >>> sensitivities(weights, rank_candidates(images), (0.5, 1.0)).tolist()
      [[0.5, 0.5], [0.0, 0.0], [nan, nan]]
    """
    total, scans = weights @ ranked.lesions, weights.sum(axis=1)
    reached = np.full((len(weights), len(operating_points)), np.nan)
    for sample in np.flatnonzero(total > 0):
        false, found = ranked.reaching(weights[sample])
        reached[sample] = np.interp(operating_points, false / scans[sample], found / total[sample])
    return reached


@dataclasses.dataclass(frozen=True)
class RankedCandidates:
    """Candidates of all images together.

    Attributes:
      thresholds: `[t]` infinity, then every score, descending.
      place: `[candidates]` number of a candidate's score among them.
      owner: `[candidates]` number of its image.
      false: `[candidates]` whether it is a false positive; else it finds a lesion.
      lesions: `[images]` how many there are.
    """

    thresholds: np.ndarray
    place: np.ndarray
    owner: np.ndarray
    false: np.ndarray
    lesions: np.ndarray

    def reaching(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """False positives and lesions found at every threshold, images as often as their weights `[images]` say."""
        times = weights[self.owner]
        false, found = (
            np.bincount(self.place, times * chosen, minlength=len(self.thresholds)).cumsum()
            for chosen in (self.false, ~self.false)
        )
        return false, found


def rank_candidates(images: Sequence[Candidates]) -> RankedCandidates:
    """The candidates of all images by their score.

    Example:
      >>> ranked = rank_candidates([Candidates({1: 0.9, 2: 0.4}, np.array([0.6])), Candidates({}, np.array([0.6]))])
      >>> ranked.thresholds.tolist(), ranked.place.tolist()
      ([inf, 0.9, 0.6, 0.4], [1, 3, 2, 2])
      >>> ranked.owner.tolist(), ranked.false.tolist(), ranked.lesions.tolist()
      ([0, 0, 0, 1], [False, False, True, True], [2.0, 0.0])
    """
    scores = [np.array([*image.lesion_scores.values(), *image.false_scores], float) for image in images]
    lesions = np.array([len(image.lesion_scores) for image in images], int)
    every = np.concatenate([np.zeros(0), *scores])
    owner = np.repeat(np.arange(len(images)), [len(one) for one in scores])
    false = np.concatenate([np.zeros(0, bool), *(np.arange(len(s)) >= n for s, n in zip(scores, lesions, strict=True))])
    kept = every > 0  # a lesion of score 0 is missed at every threshold
    levels, place = np.unique(-every[kept], return_inverse=True)
    return RankedCandidates(np.append(np.inf, -levels), place + 1, owner[kept], false[kept], lesions.astype(float))
