"""The evaluation protocol on one split: maps and truth -> summary, rows per image and per lesion, curves.

Two depths: the cheap one (pixel counts, lesion matching) runs on the validation patients during training; the whole one
adds contour distances, intervals and, for probability maps, calibration, precision-recall and FROC.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.batches import binned, binned_instances
from data_pipeline.features import BoneScans, ImageRow
from msanet_jax.evaluation import statistics
from msanet_jax.evaluation.bins import bone_rows, size_rows
from msanet_jax.evaluation.bootstrap import bootstrap_weights, interval, value
from msanet_jax.evaluation.contours import SurfaceScores, surface_scores
from msanet_jax.evaluation.froc import Candidates, find_candidates, froc_curve, froc_score, froc_scores
from msanet_jax.evaluation.lesions import ImageLesions, lesion_groups, match_lesions
from msanet_jax.evaluation.pixels import PixelCounts, count_pixels
from msanet_jax.evaluation.probabilities import (
    average_precision,
    average_precisions,
    brier_scores,
    calibration_errors,
    calibration_table,
    precision_recall_points,
)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Result on one split.

    Attributes:
      summary: scores, and in the whole protocol their `intervals` (docs/metrics.md).
      images: rows of images.csv.
      lesions: rows of lesions.csv.
      probabilities: `[n, size, size]` float32.
      curves: `calibration`, `precision_recall`, `froc` as in metrics.json; empty for maps that are no probabilities.
      lesion_bins: `sizes` and `bones`, tables of recall and DSC; empty in the cheap part.
    """

    summary: dict[str, Any]
    images: list[dict[str, Any]]
    lesions: list[dict[str, Any]]
    probabilities: np.ndarray
    curves: dict[str, Any] = dataclasses.field(default_factory=dict)
    lesion_bins: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)


def score(
    maps: np.ndarray,
    scans: BoneScans,
    *,
    config: ConfigDict,
    threshold: float,
    whole: bool = True,
    probabilities: bool = True,
) -> Evaluation:
    """Scores maps at a threshold.

    Args:
      maps: `[n, size, size]` lesion probability, or another measure that grows with suspicion.
      scans: the split they belong to.
      config: the recipe; `data`, `evaluate` and `seed` are read.
      threshold: a pixel is predicted lesion where its value is above.
      whole: the whole protocol, not only the cheap part.
      probabilities: whether the maps are probabilities, so that calibration, precision-recall and FROC mean something.
    """
    _, masks = binned(scans, config.data)
    truths = masks > 0
    instances = binned_instances(scans, config.data)
    factor = scans.counts.shape[-1] // config.data.image_size_px
    images, lesions, candidates = [], [], []
    for row, truth, ids, probability in zip(scans.rows, truths, instances, maps, strict=True):
        prediction = probability > threshold
        pixel_size = (factor * row.pixel_size_mm[0], factor * row.pixel_size_mm[1])
        counts = count_pixels(truth, prediction)
        matched = match_lesions(
            ids,
            prediction,
            overlap_min=config.evaluate.lesion_overlap_min,
            pixel_size_mm=pixel_size,
            facts=row.lesion_rows,
        )
        surface, peaks = None, None
        if whole:
            tolerance = config.evaluate.surface_tolerance_mm
            surface = surface_scores(truth, prediction, pixel_size_mm=pixel_size, tolerance_mm=tolerance)
        if whole and probabilities:
            peaks = find_candidates(probability, ids, pixel_size_mm=pixel_size, evaluate=config.evaluate)
            candidates.append(peaks)
        images.append(_image_row(row, counts, surface, matched))
        lesions.extend(_lesion_rows(row, matched, peaks))
    table = statistics.columns(images)
    scores = statistics.statistics(table)
    summary: dict[str, Any] = {name: value(statistic, len(images)) for name, statistic in scores.items()}
    summary |= statistics.counts(table) | {"threshold": threshold}
    evaluation = Evaluation(summary=summary, images=images, lesions=lesions, probabilities=maps)
    if not whole:
        return evaluation
    weights = bootstrap_weights(
        [row.patient for row in scans.rows], samples=config.evaluate.bootstrap_samples, seed=config.seed
    )
    intervals = {name: interval(statistic(weights)) for name, statistic in scores.items()}
    curves: dict[str, Any] = {}
    if probabilities:
        curves = _curves(maps, truths, candidates, weights, config, summary, intervals)
    summary["intervals"] = intervals
    bins = {"sizes": size_rows(images, lesions, weights), "bones": bone_rows(images, lesions, weights)}
    return dataclasses.replace(evaluation, curves=curves, lesion_bins=bins)


def _curves(
    maps: np.ndarray,
    truths: np.ndarray,
    candidates: list[Candidates],
    weights: np.ndarray,
    config: ConfigDict,
    summary: dict[str, Any],
    intervals: dict[str, tuple[float, float]],
) -> dict[str, Any]:
    """Calibration, precision-recall and FROC; their scores go into `summary` and `intervals`."""
    ones = np.ones((1, len(maps)))
    table = calibration_table(maps, truths, bins=config.evaluate.calibration_bins)
    points = config.evaluate.froc_false_positives_per_scan
    curve = froc_curve(candidates)
    pairs = {
        "average_precision": (average_precision(maps, truths), average_precisions(weights, maps, truths)),
        "ece": (calibration_errors(ones, table)[0], calibration_errors(weights, table)),
        "ece_above_lowest_bin": (
            calibration_errors(ones, table, first_bin=1)[0],
            calibration_errors(weights, table, first_bin=1),
        ),
        "brier": (brier_scores(ones, table)[0], brier_scores(weights, table)),
        "froc_score": (froc_score(curve, points), froc_scores(weights, candidates, points)),
    }
    for name, (point, samples) in pairs.items():
        summary[name], intervals[name] = float(point), interval(samples)
    pixels, probability, lesion = (sums.sum(axis=0) for sums in (table.pixels, table.probability, table.lesion))
    # The steps at which another lesion is found; between them only false positives are added.
    steps = np.flatnonzero(np.diff(curve.sensitivity, prepend=-1.0) > 0)
    kept = np.unique(np.concatenate([steps, [len(curve.thresholds) - 1]]))
    return {
        "calibration": [
            {
                "from": float(low),
                "to": float(high),
                "pixels": int(n),
                "probability_mean": float(p / n) if n else float("nan"),
                "lesion_share": float(t / n) if n else float("nan"),
            }
            for low, high, n, p, t in zip(table.edges[:-1], table.edges[1:], pixels, probability, lesion, strict=True)
        ],
        "precision_recall": {name: array.tolist() for name, array in precision_recall_points(maps, truths).items()},
        "froc": {
            "threshold": curve.thresholds[kept].tolist(),
            "false_positives_per_image": curve.false_positives_per_scan[kept].tolist(),
            "sensitivity": curve.sensitivity[kept].tolist(),
            "operating_points": [
                {
                    "false_positives_per_image": float(point),
                    "sensitivity": froc_score(curve, (point,)),
                    "interval": interval(froc_scores(weights, candidates, (point,))),
                }
                for point in points
            ],
        },
    }


def _image_row(
    row: ImageRow, counts: PixelCounts, surface: SurfaceScores | None, matched: ImageLesions
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "image_id": row.image_id,
        "patient": row.patient,
        "view": row.view,
        "tp": counts.tp,
        "fp": counts.fp,
        "fn": counts.fn,
        "dsc": counts.dsc,
        "precision": counts.precision,
        "recall": counts.recall,
    }
    if surface is not None:
        found |= {"hd95_mm": surface.hd95_mm, "nsd": surface.nsd}
    found |= {
        "lesions": len(matched.lesions),
        "detected": sum(lesion.detected for lesion in matched.lesions),
        "lesion_dsc_sum": float(sum(lesion.dsc for lesion in matched.lesions)),
        "components": matched.components,
        "false_positives": matched.false_positives,
        "lesion_count_error": matched.components - len(matched.lesions),
        "lesions_without_pixels": matched.without_pixels,
    }
    for group, members in lesion_groups(matched.lesions).items():
        found |= {
            f"lesions_{group}": len(members),
            f"detected_{group}": sum(lesion.detected for lesion in members),
            f"lesion_dsc_sum_{group}": float(sum(lesion.dsc for lesion in members)),
        }
    return found


def _lesion_rows(row: ImageRow, matched: ImageLesions, peaks: Candidates | None) -> list[dict[str, Any]]:
    return [
        {
            "image_id": row.image_id,
            "patient": row.patient,
            "lesion": lesion.id,
            **{key: lesion.facts.get(key) for key in ("bone", "size_mm", "contrast", "cnr", "visible")},
            "clustered": lesion.clustered,
            "pixels": lesion.pixels,
            "found": lesion.found,
            "detected": lesion.detected,
            "dsc": lesion.dsc,
            "peak_probability": None if peaks is None else peaks.lesion_scores[lesion.id] or None,
        }
        for lesion in matched.lesions
    ]
