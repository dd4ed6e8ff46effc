"""Scores of a probability on a split, against the best single threshold on uptake; all on the field's grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from data_pipeline.features import Lazy
from data_pipeline.grid import GridSplit, Images, each
from msanet_jax.evaluation.field_maps import Probability, calibrate, calibrated, field_probability
from msanet_jax.evaluation.pixels import dsc
from msanet_jax.evaluation.protocol import score
from msanet_jax.evaluation.reliability import fit_calibration
from msanet_jax.evaluation.results import Calibration, Evaluation, Threshold

UPTAKE_BINS = 2000
SWEEP_MAX = 10.0
"""The baseline's threshold is swept over normalised uptake 0 ... 10 in steps of 0.005; the body is at 1."""
PROBABILITY_BINS = 1000
"""A threshold chosen on validation patients is a whole number of thousandths."""
THRESHOLD_RULES = ("fixed", "validation")


def evaluate(
    probability: Probability,
    split: GridSplit,
    *,
    config: ConfigDict,
    threshold: float | None = None,
    input_zeroed: bool = False,
    thorough: bool = True,
) -> Evaluation:
    """Scores every image of a split once.

    Args:
      probability: the model.
      split: its images, on the field's grid.
      config: the recipe; `evaluate` and `seed` are read.
      threshold: probability above which a pixel is lesion; None for `evaluate.threshold`.
      input_zeroed: replaces every input by zeros; a model that then still scores knows more than it should.
      thorough: the whole protocol; False for the cheap part that training runs on its validation patients.
    """
    counts = each(split.counts, np.zeros_like) if input_zeroed else split.counts
    maps = probability_maps(probability, counts, batch_size=config.evaluate.batch_size)
    threshold = float(config.evaluate.threshold) if threshold is None else threshold
    return score(maps, split, config=config, threshold=threshold, thorough=thorough)


def score_validation(
    probability: Probability, split: GridSplit, *, config: ConfigDict, threshold: float | None = None
) -> Evaluation:
    """The cheap part on the validation patients, by default at the threshold that `evaluate.threshold_rule` gives."""
    maps = probability_maps(probability, split.counts, batch_size=config.evaluate.batch_size)
    if threshold is None:
        threshold = choose_threshold(maps, split.masks, rules=config.evaluate)
    return score(maps, split, config=config, threshold=threshold, thorough=False)


@dataclasses.dataclass(frozen=True)
class Decision:
    """What validation patients decide.

    Attributes:
      threshold: on the calibrated probability, with its score on the validation patients.
      calibration: None where there is none.
      probability: the model, calibrated.
    """

    threshold: Threshold
    calibration: Calibration | None
    probability: Probability


def decide(
    probability: Probability,
    validation: GridSplit,
    *,
    config: ConfigDict,
    given: float | None = None,
    calibrates: bool = True,
) -> Decision:
    """Calibration by `evaluate.calibration`, threshold by `evaluate.threshold_rule`, both on the validation patients.

    The rule chooses on the network's own probability, and the threshold goes through the calibration: marks are those
    without calibration. Recipes from before the key are calibrated where their rule is `validation`.

    Args:
      probability: the model.
      validation: on the field's grid.
      config: the recipe.
      given: a threshold on the calibrated probability, instead of the rule's.
      calibrates: False for a model that has its calibration.
    """
    rules, fitted = config.evaluate, None
    maps = probability_maps(probability, validation.counts, batch_size=rules.batch_size)
    if calibrates and rules.get("calibration", rules.threshold_rule) == "validation":
        fitted = fit_calibration(maps, validation.masks)
    final = calibrated(probability, fitted)
    if given is not None:
        summary = score_validation(final, validation, config=config, threshold=given).summary
        return Decision(Threshold(given, "given", summary["dsc_pooled"]), fitted, final)
    chosen = choose_threshold(maps, validation.masks, rules=rules)
    summary = score(maps, validation, config=config, threshold=chosen, thorough=False).summary
    value = chosen if fitted is None else float(calibrate(np.float32(chosen), fitted))
    return Decision(Threshold(value, rules.threshold_rule, summary["dsc_pooled"]), fitted, final)


def probability_maps(probability: Probability, counts: Images, *, batch_size: int) -> Images:
    """The model's maps of fields `[n, rows, columns]`, float32 of the same shape.

    Every batch has `batch_size` images; the last one is filled up with zeros. Fields on disk give maps that are made
    when they are asked for, and none is kept.
    """
    made = _Maps(len(counts), lambda number: made.batch(number, number + 1)[0], probability, counts, batch_size)
    return np.stack([*made]) if isinstance(counts, np.ndarray) else made


@dataclasses.dataclass(frozen=True)
class _Maps(Lazy[np.ndarray]):
    """Maps of a model; one after the other they are made in batches."""

    probability: Probability
    counts: Images
    batch_size: int

    def __iter__(self) -> Iterator[np.ndarray]:
        for begin in range(0, len(self.counts), self.batch_size):
            yield from self.batch(begin, min(begin + self.batch_size, len(self.counts)))

    def batch(self, begin: int, end: int) -> np.ndarray:
        """Maps of at most a batch."""
        fields = np.stack([self.counts[number] for number in range(begin, end)])
        filled = np.pad(fields, ((0, self.batch_size - len(fields)), (0, 0), (0, 0)))
        return np.asarray(self.probability(filled)[: len(fields)], np.float32)


def choose_threshold(maps: Iterable[np.ndarray], masks: Iterable[np.ndarray], *, rules: ConfigDict) -> float:
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
        raise RequestError(f"evaluate.threshold_rule={rule!r} must be one of {', '.join(THRESHOLD_RULES)}")
    if rule == "fixed":
        return fixed
    edges = np.linspace(0.0, 1.0, PROBABILITY_BINS + 1)[1:-1]
    scores = dsc_by_threshold(maps, masks, edges)
    best = edges[scores >= scores.max() - 1e-12]
    return round(float(best[np.abs(best - fixed).argmin()]), 3)


def threshold_baseline(training: GridSplit, test: GridSplit, *, config: ConfigDict) -> Evaluation:
    """The best single threshold on uptake: tuned on training images for pooled DSC, scored on `test`.

    Uptake is what the network sees, enlarged as its maps are.
    """
    threshold = choose_uptake_threshold(training, image_size_px=config.data.image_size_px)
    uptake = each(test.counts, uptake_maps(config.data.image_size_px))
    return score(uptake, test, config=config, threshold=threshold, probabilities=False)


def uptake_maps(image_size_px: int) -> Probability:
    """Counts of fields -> normalised uptake of the network's grid, enlarged to the field's."""
    return field_probability(lambda images: images[..., 0], image_size_px)


def choose_uptake_threshold(training: GridSplit, *, image_size_px: int) -> float:
    """The threshold on normalised uptake with the highest pooled DSC on the training images."""
    edges = np.linspace(0.0, SWEEP_MAX, UPTAKE_BINS + 1)[:-1]
    uptake = map(uptake_maps(image_size_px), training.counts)
    return round(float(edges[int(dsc_by_threshold(uptake, training.masks, edges).argmax())]), 3)


def dsc_by_threshold(maps: Iterable[np.ndarray], truth: Iterable[np.ndarray], thresholds: np.ndarray) -> np.ndarray:
    """Pooled DSC of `maps > threshold` for every threshold; 0 where nothing is marked and nothing is lesion.

    Args:
      maps: values, image by image.
      truth: bool, of the same shapes.
      thresholds: `[t]`, ascending.
    """
    bins = len(thresholds) + 1
    lesion, other = np.zeros((2, bins), np.int64)
    for values, mask in zip(maps, truth, strict=True):
        # In the maps' own precision, so that `marks` gives the same pixels.
        exceeded = np.searchsorted(thresholds.astype(values.dtype), values.ravel(), side="left")
        lesion += np.bincount(exceeded[mask.ravel()], minlength=bins)
        other += np.bincount(exceeded[~mask.ravel()], minlength=bins)
    tp, fp = (counts[::-1].cumsum()[::-1][1:] for counts in (lesion, other))
    return np.nan_to_num(dsc(tp, fp, lesion.sum() - tp))
