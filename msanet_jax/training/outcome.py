"""From a trained network to metrics.json, its tables and its pictures: after training, and again on request."""

from __future__ import annotations

import itertools
import math
import platform
import time
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict
from msgspec import UNSET, UnsetType

from data_pipeline.datasets import is_simulated
from data_pipeline.grid import GridSplit
from data_pipeline.text import printable
from msanet_jax.evaluation.evaluate import decide, evaluate, threshold_baseline
from msanet_jax.evaluation.field_maps import Probability
from msanet_jax.evaluation.results import Calibration
from msanet_jax.report.case_pictures import write_pictures
from msanet_jax.report.curves import write_score_plots
from msanet_jax.runs.cases import KEPT_MAX, compact_cases, write_cases
from msanet_jax.runs.metrics_file import Metrics, Provenance, write_metrics
from msanet_jax.runs.notices import picture_notice, public_dataset_name
from msanet_jax.runtime.hosts import is_primary
from msanet_jax.runtime.versions import source_commit, versions
from msanet_jax.training.devices import describe_devices

SCORED_WITH = ("jax", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy", "scipy")
"""Versions written beside a score."""


def score_and_write(
    probability: Probability,
    splits: Mapping[str, GridSplit],
    *,
    folder: Path,
    config: ConfigDict,
    split: str = "test",
    threshold: float | None = None,
    calibration: Calibration | UnsetType | None = UNSET,
    step: int,
    begin: float,
) -> Metrics | None:
    """Scores a split by the whole protocol and leaves metrics.json, its tables, cases.npz and pictures in `folder`.

    With several processes all call it; the primary alone writes.

    Args:
      probability: the model.
      splits: `train`, `validation` and the scored one, on the field's grid.
      folder: an existing folder.
      config: the recipe.
      split: the scored one.
      threshold: on the calibrated probability; None for what `evaluate.threshold_rule` says.
      calibration: that `probability` has, or None; UNSET where it is still to be fitted by `evaluate.calibration`.
      step: of the checkpoint.
      begin: `time.perf_counter()` at which the work started.

    Returns:
      What metrics.json holds; None where this process does not write it.
    """
    decided = decide(probability, splits["validation"], config=config, given=threshold, calibrates=calibration is UNSET)
    probability, chosen = decided.probability, decided.threshold
    scored = splits[split]
    result = evaluate(probability, scored, config=config, threshold=chosen.value)
    # A network that has learned from the pixels finds nothing in an empty image; one that has learned an order or a
    # position would go on scoring.
    blank = evaluate(
        probability, scored, config=config, threshold=chosen.value, input_zeroed=True, thorough=False
    ).summary
    if not is_primary():
        return None
    simulated = is_simulated(config.data.dataset)
    metrics = write_metrics(
        folder,
        split=split,
        scored=result,
        threshold=chosen,
        calibration=decided.calibration if calibration is UNSET else calibration,
        threshold_baseline=threshold_baseline(splits["train"], scored, config=config),
        zero_input_dsc_pooled=blank["dsc_pooled"],
        config=config,
        provenance=_provenance(config, dataset_version=scored.version, step=step, begin=begin),
        simulated=simulated,
    )
    cases = zip(scored.rows, scored.images, scored.ids, result.probabilities, strict=True)
    kept = ((row.image_id, *pixels) for row, *pixels in itertools.islice(cases, KEPT_MAX))
    write_cases(folder, compact_cases(kept, threshold=chosen.value))
    write_pictures(folder / "pictures", result, scored, picture_notice(simulated=simulated))
    write_score_plots(folder / "pictures", result, picture_notice(simulated=simulated))
    return metrics


def _provenance(config: ConfigDict, *, dataset_version: str | None, step: int, begin: float) -> Provenance:
    return Provenance(
        checkpoint_step=step,
        wall_seconds=round(time.perf_counter() - begin, 1),
        devices=describe_devices(),
        host=platform.machine(),
        python=platform.python_version(),
        versions=versions(SCORED_WITH),
        seed=config.seed,
        model=config.model,
        dataset=public_dataset_name(config.data.dataset),
        dataset_version=dataset_version,
        variants=config.variants,
        commit=source_commit(),
    )


def headline(metrics: Metrics, folder: Path) -> str:
    """The scores in a few lines, with what they are not."""
    scores, baseline, threshold = metrics.scores, metrics.threshold_baseline, metrics.threshold
    low, high = scores.intervals["dsc_pooled"]
    # Every resample of a single patient is that patient.
    spread = f"95 % interval {low:.3f} to {high:.3f}" if low < high else "too few patients for an interval"
    found = (
        f"{_said(scores['lesion_recall'])} of {scores['lesions']} found" if scores["lesions"] else "none in the truth"
    )
    return (
        f"{metrics.split} patients, threshold {threshold.value:g} ({threshold.rule}): "
        f"DSC {_said(scores['dsc_pooled'])} ({spread}), precision {_said(scores['precision_pooled'])}, "
        f"recall {_said(scores['recall_pooled'])}; best single threshold on uptake: "
        f"DSC {_said(baseline['dsc_pooled'])}\n"
        f"lesions: {found}, {scores['false_positives_per_image']:.2f} false positives per scan, FROC score "
        f"{_said(scores['froc_score'])}\n"
        f"{metrics.note}\n"
        f"{printable(str(folder / 'metrics.json'))}, {printable(str(folder / 'pictures'))}"
    )


def _said(score: float) -> str:
    return "undefined" if math.isnan(score) else f"{score:.3f}"
