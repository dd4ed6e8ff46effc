"""What a probability map is worth beyond one threshold: calibration, and precision against recall of pixels.

Expected calibration error: pixels are put into bins of equal width by their probability; the error is the mean over
pixels of |mean probability of the bin - share of lesion pixels in it| (Naeini et al., AAAI 2015). Almost all pixels are
background with a probability near 0 and hide what the others do, so the error of the pixels above the lowest bin is
given too. Average precision: sum over thresholds of precision times gain in recall (scikit-learn's definition).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from msanet_jax.evaluation.pixels import quotient
from msanet_jax.evaluation.rows import Rows

IMAGES_AT_A_TIME = 1024
"""Of whose rank bins sums are taken together."""
SCORES_AT_A_TIME = 1 << 20
"""Of lesion pixels, from which precision and recall are computed together."""
RANK_BINS = 400
"""Score bins from which average precision is bootstrapped; the value itself is exact."""
CURVE_POINTS = 101
"""Recalls 0, 0.01, ... 1 at which the curve is stored."""


@dataclasses.dataclass(frozen=True)
class CalibrationTable:
    """Sums per image and bin, `[images, bins]` float64: pixels, their probabilities, their lesion pixels.

    Attributes:
      edges: `[bins + 1]`; a bin holds its upper edge, the first also its lower one.
      pixels, probability, lesion: the sums.
      squared_error: `[images]` sum over pixels of (probability - truth)^2.
    """

    edges: np.ndarray
    pixels: np.ndarray
    probability: np.ndarray
    lesion: np.ndarray
    squared_error: np.ndarray

    def fill(self, number: int, probability: np.ndarray, truth: np.ndarray) -> None:
        """Writes the sums of an image."""
        flat, lesion = probability.ravel().astype(float), truth.ravel().astype(float)
        place = np.searchsorted(self.edges[1:-1], flat)
        for sums, weight in ((self.pixels, None), (self.probability, flat), (self.lesion, lesion)):
            sums[number] = np.bincount(place, weight, minlength=sums.shape[1])
        self.squared_error[number] = np.square(flat - lesion).sum()


def calibration_table(probabilities: np.ndarray, truths: np.ndarray, *, bins: int) -> CalibrationTable:
    """Sums for maps `[images, rows, columns]` in [0, 1] and masks of the same shape.

    Args:
      probabilities: lesion probabilities.
      truths: 1 or True where there is lesion.
      bins: number of bins of equal width.

    Example:
      >>> table = calibration_table(np.array([[[0.25, 0.75, 1.0]]]), np.array([[[0, 1, 0]]]), bins=2)
      >>> table.pixels.tolist(), table.probability.tolist(), table.lesion.tolist()
      ([[1.0, 2.0]], [[0.25, 1.75]], [[0.0, 1.0]])
      >>> table.squared_error.tolist()  # 0.25^2 + 0.25^2 + 1
      [1.125]
    """
    table = empty_table(len(probabilities), bins)
    for number, (probability, truth) in enumerate(zip(probabilities, truths, strict=True)):
        table.fill(number, probability, truth)
    return table


def empty_table(images: int, bins: int) -> CalibrationTable:
    """A table of so many images whose sums are still to be filled in.

    Example:
      >>> table = empty_table(2, bins=4)
      >>> table.pixels.shape, float(table.pixels.sum())
      ((2, 4), 0.0)
    """
    pixels, probability, lesion = np.zeros((3, images, bins))
    return CalibrationTable(np.linspace(0.0, 1.0, bins + 1), pixels, probability, lesion, np.zeros(images))


def calibration_errors(weights: np.ndarray, table: CalibrationTable, *, first_bin: int = 0) -> np.ndarray:
    """Expected calibration error of samples over the bins from `first_bin` on.

    sum over bins |sum p - sum t| / number of pixels, in which the sums are those of a bin.

    Args:
      weights: `[samples, images]`, how often an image enters a sample.
      table: of `calibration_table`.
      first_bin: 0 for all pixels, 1 for those above the lowest bin.

    Returns:
      `[samples]` in [0, 1]; NaN where these bins hold no pixel.

    Example:
      >>> table = calibration_table(np.array([[[0.25, 0.75, 1.0]]]), np.array([[[0, 1, 0]]]), bins=2)
      >>> round(float(calibration_errors(np.ones((1, 1)), table)[0]), 4)  # (|0.25 - 0| + |1.75 - 1|) / 3
      0.3333
      >>> calibration_errors(np.ones((1, 1)), table, first_bin=1).tolist()  # 0.75 / 2
      [0.375]
    """
    pixels, probability, lesion = (
        (weights @ sums)[:, first_bin:] for sums in (table.pixels, table.probability, table.lesion)
    )
    return quotient(np.abs(probability - lesion).sum(axis=1), pixels.sum(axis=1))


def brier_scores(weights: np.ndarray, table: CalibrationTable) -> np.ndarray:
    """Mean over pixels of (probability - truth)^2; Brier, Mon Weather Rev 78:1, 1950.

    Args:
      weights: `[samples, images]`, how often an image enters a sample.
      table: of `calibration_table`.

    Returns:
      `[samples]` in [0, 1]; 0 is best.

    Example:
      >>> table = calibration_table(np.array([[[0.25, 0.75, 1.0]]]), np.array([[[0, 1, 0]]]), bins=2)
      >>> brier_scores(np.ones((1, 1)), table).tolist()  # 1.125 / 3
      [0.375]
    """
    return (weights @ table.squared_error) / (weights @ table.pixels.sum(axis=1))


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Pixels of all images by their score: all that precision, recall and their bootstrap depend on.

    A pixel that is no lesion changes neither recall nor average precision by its exact score, only by the lesion pixels
    that it lies above. So the table is as long as there are scores of lesion pixels, however many images there are.

    Attributes:
      scores: `[s]` ascending, every score that a lesion pixel has, and the highest of all.
      lesion: `[s]` lesion pixels of that score.
      other: `[s]` other pixels from that score up to the next.
      binned: of every image `[2, b]` lesion and other pixels by rank bin, from the lowest scores up.
    """

    scores: np.ndarray
    lesion: np.ndarray
    other: np.ndarray
    binned: Rows[np.ndarray]


def rank_pixels(
    probabilities: Iterable[np.ndarray], truths: Iterable[np.ndarray], *, lesion_scores: np.ndarray | None = None
) -> Ranking:
    """Ranks the pixels of images, which are looked at one after the other and not kept.

    The edges of the `RANK_BINS` bins are quantiles of the lesion pixels' scores, so that every bin holds about the same
    gain in recall.

    Args:
      probabilities: maps `[rows, columns]` in [0, 1].
      truths: same shapes, above 0 where there is lesion.
      lesion_scores: probabilities of all lesion pixels, if they are known; else the images are looked at twice.

    Example:
      >>> ranking = rank_pixels(np.array([[0.9, 0.6, 0.3, 0.2]]), np.array([[1, 0, 1, 0]]))
      >>> ranking.scores.tolist(), ranking.lesion.tolist(), ranking.other.tolist()
      ([0.3, 0.9], [1, 1], [1, 0])
    """
    if lesion_scores is None:
        pairs = zip(probabilities, truths, strict=True)
        lesion_scores = np.concatenate([np.zeros(0, np.float32), *(values[truth > 0] for values, truth in pairs)])
    if not len(lesion_scores):
        return Ranking(scores=np.zeros(0), lesion=np.zeros(0), other=np.zeros(0), binned=Rows())
    scores, lesion = np.unique(lesion_scores, return_counts=True)
    edges = np.unique(np.quantile(lesion_scores, np.linspace(0.0, 1.0, RANK_BINS + 1)))
    other, above, highest, binned = np.zeros(len(scores), int), 0, scores[-1], Rows[np.ndarray]()
    for values, truth in zip(probabilities, truths, strict=True):
        healthy = values[truth == 0]
        place, pixels = np.unique(
            np.searchsorted(scores, healthy[healthy >= scores[0]], side="right"), return_counts=True
        )
        other[place - 1] += pixels
        above += int((healthy > scores[-1]).sum())
        highest = max(highest, healthy.max(initial=0.0))
        bins = (np.searchsorted(edges, part, side="right") for part in (values[truth > 0], healthy))
        binned.append(np.array([np.bincount(one, minlength=len(edges) + 1) for one in bins], np.uint32))
    if above:
        other[-1] -= above
        scores, lesion, other = np.append(scores, highest), np.append(lesion, 0), np.append(other, above)
    return Ranking(scores, lesion, other, binned)


def _falling(ranking: Ranking) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Thresholds, precision and recall at every score, from the highest down, a part of the scores at a time."""
    total, found, wrong = ranking.lesion.sum(), 0, 0
    for end in range(len(ranking.scores), 0, -SCORES_AT_A_TIME):
        part = slice(max(end - SCORES_AT_A_TIME, 0), end)
        true, false = (np.cumsum(pixels[part][::-1]) for pixels in (ranking.lesion, ranking.other))
        true, false = true + found, false + wrong
        found, wrong = true[-1], false[-1]
        yield ranking.scores[part][::-1], true / (true + false), true / total


def average_precision(ranking: Ranking) -> float:
    """Average precision over all pixels, sum over thresholds of precision times gain in recall.

    Args:
      ranking: of `rank_pixels`.

    Returns:
      A number in [0, 1]; NaN without a lesion pixel.

    Example:
      >>> ranking = rank_pixels(np.array([[0.9, 0.6, 0.3]]), np.array([[1, 0, 1]]))
      >>> round(average_precision(ranking), 4)  # 1 x 1/2 + 2/3 x 1/2
      0.8333
    """
    if not ranking.lesion.any():
        return float("nan")
    area, before = 0.0, 0.0
    for _, precision, recall in _falling(ranking):
        # In the order of scikit-learn, so that the sum is the same to the last bit.
        area += float(np.ascontiguousarray((np.diff(recall, prepend=before) * precision)[::-1]).sum())
        before = recall[-1]
    return area


def precision_recall_points(ranking: Ranking) -> dict[str, np.ndarray]:
    """Points of the curve over all pixels: the first at which each of `CURVE_POINTS` recalls is reached.

    Returns:
      `threshold` (a pixel counts as lesion if its probability reaches it), `precision`, `recall`, `[points]` each,
      from the highest threshold down; empty without a lesion pixel.

    Example:
      >>> points = precision_recall_points(rank_pixels(np.array([[0.9, 0.6, 0.3]]), np.array([[1, 0, 1]])))
      >>> {name: values.round(2).tolist() for name, values in points.items()}
      {'threshold': [0.9, 0.3], 'precision': [1.0, 0.67], 'recall': [0.5, 1.0]}
    """
    if not ranking.lesion.any():
        return {key: np.zeros(0) for key in ("threshold", "precision", "recall")}
    columns: list[list[np.ndarray]] = [[], [], []]
    before = -1.0
    for part in _falling(ranking):
        wanted = np.linspace(0.0, 1.0, CURVE_POINTS)
        wanted = wanted[(wanted > before) & (wanted <= part[2][-1])]
        chosen = np.unique(np.searchsorted(part[2], wanted, side="left"))
        for column, values in zip(columns, part, strict=True):
            column.append(values[chosen])
        before = part[2][-1]
    return dict(zip(("threshold", "precision", "recall"), map(np.concatenate, columns), strict=True))


def average_precisions(weights: np.ndarray, ranking: Ranking) -> np.ndarray:
    """Average precision of bootstrap samples, from the `RANK_BINS` bins of a ranking.

    Args:
      weights: `[samples, images]`, how often an image enters a sample.
      ranking: of `rank_pixels`.

    Returns:
      `[samples]` in [0, 1]; NaN for a sample without a lesion pixel.

    Example:
      >>> ranking = rank_pixels(np.array([[[0.9]], [[0.6]], [[0.3]]]), np.array([[[1]], [[0]], [[1]]]))
      >>> weights = np.array([[1, 1, 1], [2, 1, 0], [0, 1, 0]])  # the second has 0.9 twice, the third no lesion
      >>> average_precisions(weights, ranking).round(4).tolist()
      [0.8333, 1.0, nan]
    """
    if not ranking.lesion.any():
        return np.full(len(weights), np.nan)
    # Whole numbers, which float64 holds exactly.
    true, false = np.zeros((2, len(weights), ranking.binned[0].shape[1]))
    for begin in range(0, len(ranking.binned), IMAGES_AT_A_TIME):
        part = np.array(ranking.binned[begin : begin + IMAGES_AT_A_TIME], float)
        own = weights[:, begin : begin + len(part)].astype(float)
        true += own @ part[:, 0]
        false += own @ part[:, 1]
    true, false = true[:, ::-1], false[:, ::-1]
    found, wrong = np.cumsum(true, axis=1), np.cumsum(false, axis=1)
    precision = np.nan_to_num(quotient(found, found + wrong))
    gain = quotient(true, np.broadcast_to(found[:, -1:], true.shape))
    return (precision * gain).sum(axis=1)
