"""Scores of a probability map maker on a split, against the best single threshold on uptake."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from data_pipeline.grid import GridSplit
from msanet_jax.evaluation.pixels import dsc
from msanet_jax.evaluation.protocol import Evaluation, score

Probability = Callable[[np.ndarray], np.ndarray]
"""Images `[n, rows, columns, 1]` float32 normalised -> lesion probability `[n, rows, columns]` in [0, 1]."""

UPTAKE_BINS = 2000
UPTAKE_MAX = 10.0
"""The baseline's threshold is swept over normalised uptake 0 ... 10 in steps of 0.005; the body is at 1."""
PROBABILITY_BINS = 1000
"""A threshold chosen on validation patients is a whole number of thousandths."""
THRESHOLD_RULES = ("fixed", "validation")


@dataclasses.dataclass(frozen=True)
class Threshold:
    """The probability above which a pixel is predicted lesion.

    Attributes:
      value: in (0, 1).
      rule: where it comes from: `fixed`, `validation` or `given`.
      validation_dsc_pooled: pooled DSC that it gives on the validation patients.
    """

    value: float
    rule: str
    validation_dsc_pooled: float


def evaluate(
    probability: Probability,
    split: GridSplit,
    *,
    config: ConfigDict,
    threshold: float | None = None,
    input_zeroed: bool = False,
    whole: bool = True,
) -> Evaluation:
    """Scores every image of a split once.

    Args:
      probability: the model.
      split: its images.
      config: the recipe; `evaluate` and `seed` are read.
      threshold: probability above which a pixel is lesion; None for `evaluate.threshold`.
      input_zeroed: replaces every input by zeros; a model that then still scores knows more than it should.
      whole: the whole protocol; False for the cheap part that training runs on its validation patients.
    """
    images = np.zeros_like(split.images) if input_zeroed else split.images
    maps = probability_maps(probability, images, batch_size=config.evaluate.batch_size)
    threshold = float(config.evaluate.threshold) if threshold is None else threshold
    return score(maps, split, config=config, threshold=threshold, whole=whole)


def score_validation(
    probability: Probability, split: GridSplit, *, config: ConfigDict, threshold: float | None = None
) -> Evaluation:
    """The cheap part on the validation patients, by default at the threshold that `evaluate.threshold_rule` gives."""
    maps = probability_maps(probability, split.images, batch_size=config.evaluate.batch_size)
    if threshold is None:
        threshold = choose_threshold(maps, split.masks, rules=config.evaluate)
    return score(maps, split, config=config, threshold=threshold, whole=False)


def decide_threshold(
    probability: Probability, validation: GridSplit, *, config: ConfigDict, given: float | None = None
) -> Threshold:
    """The threshold that is given, else by `evaluate.threshold_rule`, and its score on the validation patients."""
    summary = score_validation(probability, validation, config=config, threshold=given).summary
    rule = config.evaluate.threshold_rule if given is None else "given"
    return Threshold(summary["threshold"], rule, summary["dsc_pooled"])


def probability_maps(probability: Probability, images: np.ndarray, *, batch_size: int) -> np.ndarray:
    """The model's maps of images `[n, rows, columns]`, float32 of the same shape.

    Every batch has `batch_size` images; the last one is filled up with zeros.
    """
    maps = np.zeros(images.shape, np.float32)
    for begin in range(0, len(images), batch_size):
        batch = images[begin : begin + batch_size]
        filled = np.pad(batch, ((0, batch_size - len(batch)), (0, 0), (0, 0)))
        maps[begin : begin + batch_size] = probability(filled[..., None])[: len(batch)]
    return maps


def choose_threshold(maps: np.ndarray, masks: np.ndarray, *, rules: ConfigDict) -> float:
    """The probability threshold by the recipe's `evaluate.threshold_rule`.

    `fixed`: `evaluate.threshold`. `validation`: of the thousandths between 0 and 1 the one with the highest pooled DSC
    on these maps; of equally good ones the nearest to `evaluate.threshold`.

    Args:
      maps: probabilities of the validation patients, `[n, rows, columns]`.
      masks: their lesions, bool of the same shape.
      rules: the recipe's section `evaluate`.

    Raises:
      RequestError: no such rule.
    """
    rule, fixed = rules.threshold_rule, float(rules.threshold)
    if rule not in THRESHOLD_RULES:
        raise RequestError(f"evaluate.threshold_rule={rule!r} is none of {', '.join(THRESHOLD_RULES)}")
    if rule == "fixed":
        return fixed
    edges = np.linspace(0.0, 1.0, PROBABILITY_BINS + 1)[1:-1]
    scores = dsc_by_threshold(maps, masks, edges)
    best = edges[scores >= scores.max() - 1e-12]
    return round(float(best[np.abs(best - fixed).argmin()]), 3)


def threshold_baseline(training: GridSplit, test: GridSplit, *, config: ConfigDict) -> Evaluation:
    """The best single threshold on normalised uptake: tuned on training images for pooled DSC, scored on `test`."""
    threshold = choose_uptake_threshold(training)
    return score(test.images, test, config=config, threshold=threshold, probabilities=False)


def choose_uptake_threshold(training: GridSplit) -> float:
    """The threshold on normalised uptake with the highest pooled DSC on the training images."""
    edges = np.linspace(0.0, UPTAKE_MAX, UPTAKE_BINS + 1)[:-1]
    return round(float(edges[int(dsc_by_threshold(training.images, training.masks, edges).argmax())]), 3)


def dsc_by_threshold(maps: np.ndarray, truth: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Pooled DSC of `maps > threshold` for every threshold; 0 where nothing is marked and nothing is lesion.

    Args:
      maps: values, any shape.
      truth: bool, same shape.
      thresholds: `[t]`, ascending.
    """
    # In the maps' own precision, so that `maps > threshold` marks the same pixels here and in scoring.
    exceeded = np.searchsorted(thresholds.astype(maps.dtype), maps.ravel(), side="left")
    lesion = truth.ravel()
    tp, fp = (
        np.bincount(exceeded[chosen], minlength=len(thresholds) + 1)[::-1].cumsum()[::-1][1:]
        for chosen in (lesion, ~lesion)
    )
    return np.nan_to_num(dsc(tp, fp, np.count_nonzero(lesion) - tp))
