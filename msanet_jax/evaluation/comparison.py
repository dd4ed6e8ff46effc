"""Paired comparison of runs that were scored on the same images.

Bootstrap over patients: a sample draws patients with replacement, the same for both runs, with all their images (and
all repetitions, where a run stands for several seeds or folds). Effect: difference of the score on all images.
Interval: 95 % percentiles of the differences. Two-sided p: the level at which such an interval would just reach zero,
twice the smaller share of samples on either side of it, with one added to count and samples so that it is never 0.
Over several compared runs p is corrected by Holm's step-down rule (Scand J Stat 6:65, 1979), score by score.

A score that only some images have, such as HD95, is compared on the images that have it in both runs: their number
stands beside it. Else a run that misses most lesions could win on the few that it finds.

The interval speaks of other patients, not of other trainings: several seeds are pooled, not drawn. Where each replicate
is a pair of trainings on new training patients, scored on the same patients as all others, the replicates can be drawn
too (`crossed`): the interval then speaks of other trainings as well, and is widened for their small number.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from msgspec import UNSET

from data_pipeline.errors import RequestError
from msanet_jax.evaluation.bootstrap import (
    LEVEL,
    CrossedWeights,
    PatientWeights,
    expanded_level,
    expanded_p,
    interval,
    sampled,
    value,
)
from msanet_jax.evaluation.results import ImageScores
from msanet_jax.evaluation.statistics import Columns, averaged, columns, statistics

SCORES = (
    "dsc_pooled",
    "precision_pooled",
    "recall_pooled",
    "dsc_mean",
    "lesion_recall",
    "false_positives_per_image",
    "lesion_dsc_mean",
    "lesion_recall_small",
    "lesion_dsc_mean_small",
    "lesion_recall_clustered",
    "lesion_dsc_mean_clustered",
)
"""Compared by default."""
SAMPLES = 10_000

Rows = Sequence[ImageScores]
Weights = Iterable[np.ndarray]
"""Weights `[some samples, rows]`, part after part, the same at every pass."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One score of one run against the reference.

    Attributes:
      score: its name, as in metrics.json.
      run, reference: names of the runs.
      value, reference_value: the score of each on all images; NaN where undefined.
      difference: value - reference_value.
      low, high: ends of the difference's 95 % interval.
      p: two-sided; NaN where the difference is undefined.
      p_holm: corrected for the number of runs compared with the reference in this score.
      patients, images: that count in this score, in both runs.
    """

    score: str
    run: str
    reference: str
    value: float
    reference_value: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    patients: int
    images: int


def compare_runs(
    runs: Mapping[str, Rows],
    *,
    reference: str | None = None,
    scores: Sequence[str] = SCORES,
    samples: int = SAMPLES,
    seed: int = 0,
    crossed: bool = False,
) -> list[Comparison]:
    """Compares runs with a reference, patient by patient.

    Args:
      runs: name -> rows of images. Rows may carry `replicate` (seed or fold), which together with `image_id` says what
        is paired with what.
      reference: name of the run that the others are compared with; None for the first.
      scores: names from metrics.json that per-image rows determine (`image_statistics.statistics`).
      samples: bootstrap samples.
      seed: of the draws.
      crossed: whether replicates are drawn like patients; every replicate has the same images.

    Returns:
      A row per compared run and score, run by run.

    Raises:
      RequestError: fewer than two runs, no such run or score, or runs scored on other images or other truth.

    Example:
      >>> from dataclasses import fields, replace
      >>> empty = ImageScores(**{field.name: 0 for field in fields(ImageScores)})
      >>> rows = [replace(empty, image_id=f"i{n}", patient=f"p{n}", tp=2, fn=2, dsc=2 / 3) for n in range(2)]
      >>> better = [replace(row, tp=4, fn=0, dsc=1.0) for row in rows]
      >>> (row,) = compare_runs({"old": rows, "new": better}, scores=("recall_pooled",), samples=99)
      >>> row.reference, row.value, row.difference, (row.low, row.high), row.p  # p is 2 x (0 + 1) / (99 + 1)
      ('old', 1.0, 0.5, (0.5, 0.5), 0.02)
    """
    names = list(runs)
    if reference is None:
        reference = next(iter(names), "")
    if len(names) < 2 or reference not in runs:
        raise RequestError(f"a comparison needs two runs or more, one of them the reference; got {', '.join(names)}")
    ordered = {name: _in_order(name, runs[name], reference, runs[reference]) for name in names}
    patients = [row.patient for row in ordered[reference]]
    weights: Weights = PatientWeights(patients, samples=samples, seed=seed)
    if crossed:
        replicates = [_key(row)[0] for row in ordered[reference]]
        weights = CrossedWeights(replicates, patients, samples=samples, seed=seed)
        if weights.trainings < 2:
            raise RequestError(f"an interval over trainings needs two pairs or more, there is {weights.trainings}")
    tables = {name: columns(rows) for name, rows in ordered.items()}
    for name, table in tables.items():
        if unknown := [score for score in scores if score not in statistics(table)]:
            known = ", ".join(statistics(table))
            raise RequestError(f"{name}: no such score: {', '.join(unknown)}; there are {known}")
    pairs = {name: _shared(tables[name], tables[reference]) for name in names if name != reference}
    found = []
    for score in scores:
        group = [_compared(score, name, reference, own, base, patients, weights) for name, (own, base) in pairs.items()]
        corrected = holm([entry.p for entry in group])
        found += [dataclasses.replace(entry, p_holm=p) for entry, p in zip(group, corrected, strict=True)]
    order = {name: place for place, name in enumerate(names)}
    return sorted(found, key=lambda entry: order[entry.run])


def _shared(own: Columns, base: Columns) -> tuple[Columns, Columns]:
    """Both tables with a cell undefined in both where it is undefined in one."""
    undefined = {name: np.isnan(own[name]) | np.isnan(base[name]) for name in own.keys() & base.keys()}
    first, second = (
        {name: np.where(undefined[name], np.nan, table[name]) for name in table if name in undefined}
        for table in (own, base)
    )
    return first, second


def _compared(
    score: str, run: str, reference: str, own: Columns, base: Columns, patients: Sequence[str], weights: Weights
) -> Comparison:
    """One score of one run; its `p_holm` is still missing."""
    statistic, base_statistic = statistics(own)[score], statistics(base)[score]
    differences = sampled(lambda part: statistic(part) - base_statistic(part), weights)
    p, level = two_sided_p(differences), LEVEL
    if isinstance(weights, CrossedWeights):
        p, level = expanded_p(p, weights.trainings), expanded_level(weights.trainings)
    low, high = interval(differences, level)
    value_, reference_value = value(statistic, len(patients)), value(base_statistic, len(patients))
    values = averaged(own).get(score.removesuffix("_mean").removesuffix("_median"), np.zeros(len(patients)))
    counted = [patient for patient, number_ in zip(patients, values, strict=True) if not math.isnan(number_)]
    return Comparison(
        score=score,
        run=run,
        reference=reference,
        value=value_,
        reference_value=reference_value,
        difference=value_ - reference_value,
        low=low,
        high=high,
        p=p,
        p_holm=float("nan"),
        patients=len(set(counted)),
        images=len(counted),
    )


def check_same_data(versions: Mapping[str, str | None]) -> None:
    """Refuses runs that say they were scored on different versions of a data set; a run that says nothing passes.

    Args:
      versions: name of a run -> `dataset_version` of its metrics.json.

    Raises:
      RequestError: the runs record more than one version.

    Example:
      >>> check_same_data({"a": "1.0", "b": None})
      >>> check_same_data({"a": "1.0", "b": "2.0"})
      Traceback (most recent call last):
      data_pipeline.errors.RequestError: the runs were scored on different versions of the data set (a on 1.0, ...
    """
    first: dict[str, str] = {}
    for name, version in versions.items():
        if version is not None:
            first.setdefault(version, name)
    if len(first) > 1:
        said = ", ".join(f"{name} on {version}" for version, name in first.items())
        raise RequestError(
            f"the runs were scored on different versions of the data set ({said}); train or score the older ones again"
        )


def two_sided_p(differences: np.ndarray) -> float:
    """2 min(share <= 0, share >= 0) of the bootstrap differences, at most 1; NaN if none is defined.

    Both shares are (count + 1) / (samples + 1): p is never 0. NaN values are left out.

    Args:
      differences: `[samples]`.

    Example:
      >>> two_sided_p(np.array([-1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))  # 2 x (1 + 1) / (7 + 1)
      0.5
    """
    known = differences[~np.isnan(differences)]
    if not len(known):
        return float("nan")
    smaller = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2.0 * (smaller + 1) / (len(known) + 1))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's corrected p values, in the order given: the k-th smallest of m times m - k + 1, never decreasing.

    NaN stays NaN and counts for nothing. Source: Holm, Scand J Stat 6:65, 1979.

    Args:
      p: in [0, 1].

    Returns:
      As many values in [0, 1].

    Example:
      >>> holm([0.5, 0.125, float("nan"), 0.25])  # 3 x 0.125; 2 x 0.25; 1 x 0.5
      [0.5, 0.375, nan, 0.5]
    """
    known = sorted((value, place) for place, value in enumerate(p) if not math.isnan(value))
    corrected = [float("nan")] * len(p)
    largest = 0.0
    for rank, (value_, place) in enumerate(known):
        largest = max(largest, min(1.0, value_ * (len(known) - rank)))
        corrected[place] = largest
    return corrected


def _key(row: ImageScores) -> tuple[str, str]:
    return "" if row.replicate is UNSET else str(row.replicate), row.image_id


def _in_order(name: str, rows: Rows, reference: str, reference_rows: Rows) -> list[ImageScores]:
    """The rows in the reference's order."""
    by_key = {_key(row): row for row in rows}
    wanted = [_key(row) for row in reference_rows]
    if len(by_key) != len(rows) or len(set(wanted)) != len(wanted):
        raise RequestError(f"{name} or {reference}: an image occurs twice; rows of several seeds need `replicate`")
    if set(by_key) != set(wanted):
        differing = sorted(set(by_key) ^ set(wanted))
        raise RequestError(
            f"{name} and {reference} were not scored on the same images: {len(differing)} differ, first "
            f"{' '.join(differing[0]).strip()}"
        )
    ordered = [by_key[key] for key in wanted]
    for row, base in zip(ordered, reference_rows, strict=True):
        # The same truth has the same number of lesion pixels; another size or mask cannot be paired.
        if row.tp + row.fn != base.tp + base.fn:
            raise RequestError(
                f"{name} and {reference} were scored against another truth in {row.image_id}: compare runs of the "
                "same data.field and data.scored_mask"
            )
    return ordered
