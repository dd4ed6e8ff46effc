"""Scores of a probability map maker on a split, against the best single threshold on uptake."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.batches import binned, binned_instances, evaluation_batches
from data_pipeline.bone_scans import BoneScans
from data_pipeline.normalize import normalize
from msanet_jax.intervals import bootstrap_interval
from msanet_jax.lesion_metrics import ImageLesions, lesion_summary, match_lesions
from msanet_jax.metrics import PixelCounts, count_pixels, pooled, quotient

Probability = Callable[[np.ndarray], np.ndarray]
"""Images `[n, rows, columns, 1]` float32 normalised -> lesion probability `[n, rows, columns]` in [0, 1]."""

THRESHOLD_BINS = 2000
THRESHOLD_MAX = 10.0
"""The baseline's threshold is swept over normalised uptake 0 ... 10 in steps of 0.005; the body is at 1."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Result on one split.

    Attributes:
      summary: scalars and `intervals` (docs/metrics.md).
      images: per image its counts and scores.
      lesions: per lesion what became of it.
      probabilities: `[n, size, size]` float32.
    """

    summary: dict[str, Any]
    images: list[dict[str, Any]]
    lesions: list[dict[str, Any]]
    probabilities: np.ndarray


def evaluate(
    probability: Probability, scans: BoneScans, *, config: ConfigDict, input_zeroed: bool = False
) -> Evaluation:
    """Scores every image of a split once.

    Args:
      probability: the model.
      scans: the split.
      config: the recipe; `evaluate` and `data` are read.
      input_zeroed: replaces every input by zeros; a model that then still scores knows more than it should.
    """
    data = config.data
    rows, columns = scans.counts.shape[1:]
    maps = np.zeros((len(scans.rows), rows * data.image_size_px // columns, data.image_size_px), np.float32)
    for batch in evaluation_batches(scans, data=data, batch_size=config.evaluate.batch_size):
        image = np.zeros_like(batch["image"]) if input_zeroed else batch["image"]
        real = batch["weight"] > 0
        maps[batch["index"][real]] = probability(image)[real]
    return score(maps, scans, config=config, threshold=config.evaluate.threshold)


def score(maps: np.ndarray, scans: BoneScans, *, config: ConfigDict, threshold: float) -> Evaluation:
    """Scores probability (or uptake) maps `[n, size, size]` at a threshold."""
    _, masks = binned(scans, config.data)
    instances = binned_instances(scans, config.data)
    predictions = maps > threshold
    counts = [count_pixels(truth, prediction) for truth, prediction in zip(masks, predictions, strict=True)]
    factor = scans.counts.shape[-1] // config.data.image_size_px
    matched = [
        match_lesions(
            ids,
            prediction,
            overlap_min=config.evaluate.lesion_overlap_min,
            pixel_mm=factor * row.pixel_size_mm[0],
            facts=row.lesion_rows,
        )
        for ids, prediction, row in zip(instances, predictions, scans.rows, strict=True)
    ]
    summary = {
        **_pixel_summary(counts),
        **lesion_summary(matched),
        "threshold": threshold,
        "intervals": _intervals(counts, matched, scans, config),
    }
    images, lesions = _rows(counts, matched, scans)
    return Evaluation(summary=summary, images=images, lesions=lesions, probabilities=maps)


def threshold_baseline(training: BoneScans, test: BoneScans, *, config: ConfigDict) -> Evaluation:
    """The best single threshold on normalised uptake: tuned on training images for pooled DSC, scored on `test`."""
    uptake, truth = _uptake(training, config)
    edges = np.linspace(0.0, THRESHOLD_MAX, THRESHOLD_BINS + 1)
    inside = np.histogram(np.clip(uptake[truth], 0, THRESHOLD_MAX), edges)[0]
    outside = np.histogram(np.clip(uptake[~truth], 0, THRESHOLD_MAX), edges)[0]
    tp = inside.sum() - np.concatenate([[0], np.cumsum(inside)[:-1]])
    fp = outside.sum() - np.concatenate([[0], np.cumsum(outside)[:-1]])
    dsc = 2.0 * tp / np.maximum(tp + fp + inside.sum(), 1)
    return score(_uptake(test, config)[0], test, config=config, threshold=float(edges[int(dsc.argmax())]))


def _uptake(scans: BoneScans, config: ConfigDict) -> tuple[np.ndarray, np.ndarray]:
    counts, masks = binned(scans, config.data)
    return normalize(counts), masks > 0


def _pixel_summary(counts: list[PixelCounts]) -> dict[str, Any]:
    total = pooled(counts)
    with_lesion = [image for image in counts if image.tp + image.fn > 0]
    without = [image for image in counts if image.tp + image.fn == 0]
    scores = [image.dsc for image in with_lesion]
    return {
        "dsc_pooled": total.dsc,
        "precision_pooled": total.precision,
        "recall_pooled": total.recall,
        "dsc_mean": float(np.mean(scores)) if scores else float("nan"),
        "dsc_median": float(np.median(scores)) if scores else float("nan"),
        "images": len(counts),
        "images_without_lesion": len(without),
        "images_with_undefined_dsc": int(sum(math.isnan(image.dsc) for image in counts)),
        "false_positive_pixels_without_lesion": sum(image.fp for image in without),
    }


def _intervals(
    counts: list[PixelCounts], matched: list[ImageLesions], scans: BoneScans, config: ConfigDict
) -> dict[str, tuple[float, float]]:
    """95 % over patients; the tables hold per-image sums, so a bootstrap sample is one sum of rows."""
    table = np.array([[image.tp, image.fp, image.fn] for image in counts])
    found = np.array([[sum(x.detected for x in image.lesions), len(image.lesions)] for image in matched])
    statistics: dict[str, Callable[[np.ndarray], float]] = {
        "dsc_pooled": lambda index: PixelCounts(*table[index].sum(axis=0).tolist()).dsc,
        "precision_pooled": lambda index: PixelCounts(*table[index].sum(axis=0).tolist()).precision,
        "recall_pooled": lambda index: PixelCounts(*table[index].sum(axis=0).tolist()).recall,
        "lesion_recall": lambda index: quotient(*found[index].sum(axis=0).tolist()),
    }
    patients = [row.patient for row in scans.rows]
    return {
        name: bootstrap_interval(patients, statistic, samples=config.evaluate.bootstrap_samples, seed=config.seed)
        for name, statistic in statistics.items()
    }


def _rows(
    counts: list[PixelCounts], matched: list[ImageLesions], scans: BoneScans
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    images, lesions = [], []
    for row, pixels, found in zip(scans.rows, counts, matched, strict=True):
        images.append(
            {
                "image_id": row.image_id,
                "patient": row.patient,
                "view": row.view,
                "tp": pixels.tp,
                "fp": pixels.fp,
                "fn": pixels.fn,
                "dsc": pixels.dsc,
                "precision": pixels.precision,
                "recall": pixels.recall,
                "lesions": len(found.lesions),
                "detected": sum(lesion.detected for lesion in found.lesions),
                "false_positives": found.false_positives,
            }
        )
        for lesion in found.lesions:
            facts = {key: lesion.facts.get(key) for key in ("bone", "size_mm", "contrast", "cnr", "visible")}
            lesions.append(
                {
                    "image_id": row.image_id,
                    "lesion": lesion.id,
                    **facts,
                    "clustered": lesion.clustered,
                    "pixels": lesion.pixels,
                    "found": lesion.found,
                    "detected": lesion.detected,
                }
            )
    return images, lesions
