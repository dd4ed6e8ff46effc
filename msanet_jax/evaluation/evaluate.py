"""Scores of a probability map maker on a split, against the best single threshold on uptake."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.batches import binned, evaluation_batches
from data_pipeline.errors import RequestError
from data_pipeline.features import BoneScans
from data_pipeline.normalize import normalize
from msanet_jax.evaluation.protocol import Evaluation, score

Probability = Callable[[np.ndarray], np.ndarray]
"""Images `[n, rows, columns, 1]` float32 normalised -> lesion probability `[n, rows, columns]` in [0, 1]."""

UPTAKE_BINS = 2000
UPTAKE_MAX = 10.0
"""The baseline's threshold is swept over normalised uptake 0 ... 10 in steps of 0.005; the body is at 1."""
PROBABILITY_BINS = 1000
"""A threshold chosen on validation patients is a whole number of thousandths."""
THRESHOLD_RULES = ("fixed", "validation")


def evaluate(
    probability: Probability,
    scans: BoneScans,
    *,
    config: ConfigDict,
    threshold: float | None = None,
    input_zeroed: bool = False,
    whole: bool = True,
) -> Evaluation:
    """Scores every image of a split once.

    Args:
      probability: the model.
      scans: the split.
      config: the recipe; `data`, `evaluate` and `seed` are read.
      threshold: probability above which a pixel is lesion; None for `evaluate.threshold`.
      input_zeroed: replaces every input by zeros; a model that then still scores knows more than it should.
      whole: the whole protocol; False for the cheap part that training runs on its validation patients.
    """
    maps = probability_maps(probability, scans, config=config, input_zeroed=input_zeroed)
    return score(
        maps,
        scans,
        config=config,
        threshold=float(config.evaluate.threshold) if threshold is None else threshold,
        whole=whole,
    )


def score_validation(probability: Probability, scans: BoneScans, *, config: ConfigDict) -> Evaluation:
    """The cheap part on the validation patients, at the threshold that `evaluate.threshold_rule` gives there."""
    maps = probability_maps(probability, scans, config=config)
    return score(maps, scans, config=config, threshold=choose_threshold(maps, scans, config=config), whole=False)


def probability_maps(
    probability: Probability, scans: BoneScans, *, config: ConfigDict, input_zeroed: bool = False
) -> np.ndarray:
    """The model's maps of all images of a split, `[n, size, size]` float32, in the split's order."""
    data = config.data
    rows, columns = scans.counts.shape[1:]
    maps = np.zeros((len(scans.rows), rows * data.image_size_px // columns, data.image_size_px), np.float32)
    for batch in evaluation_batches(scans, data=data, batch_size=config.evaluate.batch_size):
        image = np.zeros_like(batch["image"]) if input_zeroed else batch["image"]
        real = batch["weight"] > 0
        maps[batch["index"][real]] = probability(image)[real]
    return maps


def choose_threshold(maps: np.ndarray, scans: BoneScans, *, config: ConfigDict) -> float:
    """The probability threshold by `evaluate.threshold_rule`.

    `fixed`: `evaluate.threshold`. `validation`: of the thousandths between 0 and 1 the one with the highest pooled DSC
    on these maps; of equally good ones the nearest to `evaluate.threshold`.

    Args:
      maps: probabilities of the validation patients, `[n, size, size]`.
      scans: the validation patients.
      config: the recipe.

    Raises:
      RequestError: no such rule.
    """
    rule, fixed = config.evaluate.threshold_rule, float(config.evaluate.threshold)
    if rule not in THRESHOLD_RULES:
        raise RequestError(f"evaluate.threshold_rule={rule!r} is none of {', '.join(THRESHOLD_RULES)}")
    if rule == "fixed":
        return fixed
    edges = np.linspace(0.0, 1.0, PROBABILITY_BINS + 1)[1:-1]
    _, masks = binned(scans, config.data)
    dsc = dsc_by_threshold(maps, masks > 0, edges)
    best = edges[dsc >= dsc.max() - 1e-12]
    return round(float(best[np.abs(best - fixed).argmin()]), 3)


def threshold_baseline(training: BoneScans, test: BoneScans, *, config: ConfigDict) -> Evaluation:
    """The best single threshold on normalised uptake: tuned on training images for pooled DSC, scored on `test`."""
    threshold = choose_uptake_threshold(training, config=config)
    return score(_uptake(test, config)[0], test, config=config, threshold=threshold, probabilities=False)


def choose_uptake_threshold(training: BoneScans, *, config: ConfigDict) -> float:
    """The threshold on normalised uptake with the highest pooled DSC on the training images."""
    uptake, truth = _uptake(training, config)
    edges = np.linspace(0.0, UPTAKE_MAX, UPTAKE_BINS + 1)[:-1]
    return round(float(edges[int(dsc_by_threshold(uptake, truth, edges).argmax())]), 3)


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
    above = [
        np.bincount(exceeded[chosen], minlength=len(thresholds) + 1)[::-1].cumsum()[::-1][1:]
        for chosen in (lesion, ~lesion)
    ]
    tp, fp = above
    return 2.0 * tp / np.maximum(tp + fp + np.count_nonzero(lesion), 1)


def _uptake(scans: BoneScans, config: ConfigDict) -> tuple[np.ndarray, np.ndarray]:
    counts, masks = binned(scans, config.data)
    return normalize(counts), masks > 0
