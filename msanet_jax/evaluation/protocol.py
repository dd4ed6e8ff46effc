"""The evaluation protocol on one split: maps and truth -> summary, rows per image and per lesion, curves.

Images and maps are looked at one after the other and need not be in memory: what is kept of each are sums and rows.

Two depths: the cheap one (pixel counts, lesion matching) runs on the validation patients during training; the whole one
adds contour distances, intervals and, for probability maps, calibration, precision-recall and FROC.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.features import ImageRow
from data_pipeline.grid import GridSplit, Images
from msanet_jax.evaluation import statistics
from msanet_jax.evaluation.bins import lesion_bins
from msanet_jax.evaluation.bootstrap import PatientWeights, Statistic, interval, intervals, sampled_each, value
from msanet_jax.evaluation.contours import SurfaceScores, surface_scores
from msanet_jax.evaluation.field_maps import marks
from msanet_jax.evaluation.froc import (
    Candidates,
    Curve,
    find_candidates,
    froc_curve,
    froc_score,
    rank_candidates,
    sensitivities,
)
from msanet_jax.evaluation.lesions import ImageLesions, lesion_groups, match_lesions
from msanet_jax.evaluation.pixels import PixelCounts, count_pixels, quotient
from msanet_jax.evaluation.probabilities import (
    CalibrationTable,
    average_precision,
    average_precisions,
    brier_scores,
    calibration_errors,
    empty_table,
    precision_recall_points,
    rank_pixels,
)
from msanet_jax.evaluation.results import (
    CalibrationBin,
    Curves,
    Evaluation,
    Froc,
    ImageScores,
    LesionScores,
    OperatingPoint,
    PrecisionRecall,
    Summary,
)
from msanet_jax.evaluation.rows import Rows


@dataclasses.dataclass(frozen=True)
class _ProbabilityScores:
    """What only probability maps have: values and intervals under their names in metrics.json, and curves."""

    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    curves: Curves | None


def score(
    maps: Images,
    split: GridSplit,
    *,
    config: ConfigDict,
    threshold: float,
    thorough: bool = True,
    probabilities: bool = True,
) -> Evaluation:
    """Scores maps at a threshold.

    Args:
      maps: `[n, rows, columns]` lesion probability, or another measure that grows with suspicion.
      split: the images they belong to.
      config: the recipe; `evaluate` and `seed` are read.
      threshold: of `field_maps.marks`.
      thorough: the whole protocol, not only the cheap part.
      probabilities: whether the maps are probabilities, so that calibration, precision-recall and FROC mean something.
    """
    rules = config.evaluate
    images, lesions = Rows[ImageScores](), Rows[LesionScores]()
    seen = _Seen(empty_table(len(split), rules.calibration_bins))
    for row, ids, pixel_size_mm, values in zip(split.rows, split.ids, split.pixel_sizes_mm, maps, strict=True):
        truth, prediction = ids > 0, marks(values, threshold)
        matched = match_lesions(
            ids,
            prediction,
            overlap_min=rules.lesion_overlap_min,
            pixel_size_mm=pixel_size_mm,
            facts=row.lesion_rows,
        )
        surface, peaks = None, None
        if thorough:
            surface = surface_scores(
                truth, prediction, pixel_size_mm=pixel_size_mm, tolerance_mm=rules.surface_tolerance_mm
            )
        if thorough and probabilities:
            peaks = find_candidates(values, ids, pixel_size_mm=pixel_size_mm, evaluate=rules)
            seen.add(values, truth, peaks)
        images.append(_image_row(row, count_pixels(truth, prediction), surface, matched))
        for lesion in _lesion_scores(row, matched, peaks):
            lesions.append(lesion)
    table = statistics.columns(images)
    scores = statistics.statistics(table)
    values = {name: value(statistic, len(images)) for name, statistic in scores.items()}
    values |= statistics.counts(table) | {"threshold": threshold}
    if not thorough:
        return Evaluation(Summary(values), images, lesions, maps)
    weights = PatientWeights([row.patient for row in split.rows], samples=rules.bootstrap_samples, seed=config.seed)
    ends = intervals(scores, weights)
    more = _probability_scores(maps, split.masks, seen, weights, rules) if probabilities else _NOT_PROBABILITIES
    return Evaluation(
        summary=Summary(values | more.values, ends | more.intervals),
        images=images,
        lesions=lesions,
        probabilities=maps,
        curves=more.curves,
        lesion_bins=lesion_bins(images, lesions, weights),
    )


_NOT_PROBABILITIES = _ProbabilityScores({}, {}, None)


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What is kept of the probability maps, image by image."""

    calibration: CalibrationTable
    candidates: list[Candidates] = dataclasses.field(default_factory=list)
    lesion_scores: list[np.ndarray] = dataclasses.field(default_factory=list)

    def add(self, values: np.ndarray, truth: np.ndarray, peaks: Candidates) -> None:
        """Takes in the next image."""
        self.calibration.fill(len(self.candidates), values, truth)
        # In the precision that they come from, they take half of the memory.
        self.candidates.append(dataclasses.replace(peaks, false_scores=peaks.false_scores.astype(values.dtype)))
        self.lesion_scores.append(values[truth])


def _probability_scores(
    maps: Images, truths: Images, seen: _Seen, weights: PatientWeights, rules: ConfigDict
) -> _ProbabilityScores:
    """Calibration, precision-recall and FROC; maps that are not in memory are made a second time."""
    candidates, table = seen.candidates, seen.calibration
    ranking = rank_pixels(maps, truths, lesion_scores=np.concatenate(seen.lesion_scores))
    points = rules.froc_false_positives_per_scan
    curve = froc_curve(candidates)
    scores: dict[str, Statistic] = {
        "average_precision": functools.partial(average_precisions, ranking=ranking),
        "ece": functools.partial(calibration_errors, table=table),
        "ece_above_lowest_bin": functools.partial(calibration_errors, table=table, first_bin=1),
        "brier": functools.partial(brier_scores, table=table),
    }
    found = functools.partial(sensitivities, ranked=rank_candidates(candidates), operating_points=points)
    samples = sampled_each(scores | {"froc": found}, weights)
    reached = samples.pop("froc")
    return _ProbabilityScores(
        values={name: value(statistic, len(maps)) for name, statistic in scores.items()}
        | {"average_precision": average_precision(ranking)}  # over all pixels, not over bins of them
        | {"froc_score": froc_score(curve, points)},
        intervals={name: interval(drawn) for name, drawn in samples.items()}
        | {"froc_score": interval(reached.mean(axis=1))},
        curves=Curves(
            calibration=_calibration_bins(table),
            precision_recall=PrecisionRecall(
                **{name: tuple(array.tolist()) for name, array in precision_recall_points(ranking).items()}
            ),
            froc=_froc_points(curve, reached, points),
        ),
    )


def _calibration_bins(table: CalibrationTable) -> tuple[CalibrationBin, ...]:
    pixels, probability, lesion = (sums.sum(axis=0) for sums in (table.pixels, table.probability, table.lesion))
    columns = {
        "low": table.edges[:-1],
        "high": table.edges[1:],
        "pixels": pixels.astype(int),
        "probability_mean": quotient(probability, pixels),
        "lesion_share": quotient(lesion, pixels),
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return tuple(CalibrationBin(**dict(zip(columns, row, strict=True))) for row in rows)


def _froc_points(curve: Curve, reached: np.ndarray, points: Sequence[float]) -> Froc:
    # The steps at which another lesion is found; between them only false positives are added.
    steps = np.flatnonzero(np.diff(curve.sensitivity, prepend=-1.0) > 0)
    kept = np.unique(np.concatenate([steps, [len(curve.thresholds) - 1]]))
    return Froc(
        threshold=tuple(curve.thresholds[kept].tolist()),
        false_positives_per_image=tuple(curve.false_positives_per_scan[kept].tolist()),
        sensitivity=tuple(curve.sensitivity[kept].tolist()),
        operating_points=tuple(
            OperatingPoint(
                false_positives_per_image=float(point),
                sensitivity=froc_score(curve, (point,)),
                interval=interval(reached[:, number]),
            )
            for number, point in enumerate(points)
        ),
    )


def _image_row(row: ImageRow, counts: PixelCounts, surface: SurfaceScores | None, matched: ImageLesions) -> ImageScores:
    groups: dict[str, Any] = {}
    for group, members in lesion_groups(matched.lesions).items():
        groups |= {
            f"lesions_{group}": len(members),
            f"detected_{group}": sum(lesion.detected for lesion in members),
            f"lesion_dsc_sum_{group}": float(sum(lesion.dsc for lesion in members)),
        }
    return ImageScores(
        image_id=row.image_id,
        patient=row.patient,
        view=row.view,
        tp=counts.tp,
        fp=counts.fp,
        fn=counts.fn,
        dsc=counts.dsc,
        precision=counts.precision,
        recall=counts.recall,
        **({} if surface is None else dataclasses.asdict(surface)),
        lesions=len(matched.lesions),
        detected=sum(lesion.detected for lesion in matched.lesions),
        lesion_dsc_sum=float(sum(lesion.dsc for lesion in matched.lesions)),
        components=matched.components,
        false_positives=matched.false_positives,
        lesion_count_error=matched.components - len(matched.lesions),
        lesions_without_pixels=matched.without_pixels,
        **groups,
    )


def _lesion_scores(row: ImageRow, matched: ImageLesions, peaks: Candidates | None) -> list[LesionScores]:
    return [
        LesionScores(
            image_id=row.image_id,
            patient=row.patient,
            lesion=lesion.id,
            bone=lesion.facts.bone,
            size_mm=lesion.facts.size_mm,
            contrast=lesion.facts.contrast,
            cnr=lesion.facts.cnr,
            visible=lesion.facts.visible,
            clustered=lesion.clustered,
            pixels=lesion.pixels,
            found=lesion.found,
            detected=lesion.detected,
            dsc=lesion.dsc,
            peak_probability=None if peaks is None else peaks.lesion_scores[lesion.id] or None,
        )
        for lesion in matched.lesions
    ]
