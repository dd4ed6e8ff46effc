"""A model on the stress sets: populations that no training sees, each with one thing outside its priors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.datasets import load_split
from data_pipeline.errors import RequestError
from data_pipeline.files import writable_folder, write_json, write_text
from data_pipeline.grid import GridSplit, on_field
from data_pipeline.pages import render
from data_pipeline.phantom.priors.stress import STRESSES
from msanet_jax.evaluation.bootstrap import PatientWeights, interval, sampled
from msanet_jax.evaluation.evaluate import evaluate
from msanet_jax.evaluation.field_maps import Probability, marks
from msanet_jax.evaluation.reliability import largest_gap
from msanet_jax.evaluation.statistics import columns, statistics
from msanet_jax.runs.notices import scores_notice
from msanet_jax.trained.model import check_threshold
from msanet_jax.trained.rescore import load_scored, results_folder
from msanet_jax.training.baselines import fit_baseline

TUNING = ("phantom_bone/stress_tuning", "validation")
"""Set and split on which the filter is tuned."""
SCORES = ("dsc_pooled", "precision_pooled", "recall_pooled", "lesion_recall", "images", "lesions")
_TEMPLATE = Path(__file__).with_name("templates") / "stress.md.jinja"


def score_on_stress(
    source: Path, *, out: Path | None = None, data_dir: str = "data", threshold: float | None = None
) -> tuple[Path, str]:
    """Scores a model and the tuned top-hat on every stress set; leaves stress.json and stress.md.

    Args:
      source: folder of a training, a file made by `msanet export`, or `default`.
      out: folder of the results, made if absent; None for `evaluation_stress` in a run's folder.
      data_dir: folder of the built data sets; stress sets that are missing are simulated.
      threshold: probability above which a pixel is lesion; None for the model's own.

    Returns:
      The folder, and the text of stress.md.

    Raises:
      RequestError: no such model, a model that does not see the thorax, or a folder that cannot be written.
    """
    folder = results_folder(source, out, "evaluation_stress")
    if threshold is not None:
        check_threshold(threshold)
    model = load_scored(source)
    if model.field != "thorax":
        raise RequestError(f"{source}: stress sets show the thorax, this model sees the field {model.field}")
    writable_folder(folder, "--out")
    config = model.config
    threshold = model.threshold if threshold is None else threshold
    tuning = _split(*TUNING, config, data_dir)
    filtered = fit_baseline("top_hat", training=tuning, image_size_px=config.data.image_size_px)
    rows = []
    for name, stress in STRESSES.items():
        split = _split(f"phantom_bone/stress_{name}", "test", config, data_dir)
        rows.append(
            {
                "set": name,
                "about": stress.about,
                "model": _scores(model.probability, split, config, threshold, gap=True),
                "top_hat": _scores(filtered, split, config, 0.5),
            }
        )
    content = {
        "note": scores_notice(simulated=True),
        "threshold": threshold,
        "dataset_version": tuning.version,
        "provenance": model.provenance,
        "sets": rows,
    }
    page = render(_TEMPLATE, **content)
    write_json(folder / "stress.json", content)
    write_text(folder / "stress.md", page)
    return folder, page


def _split(dataset: str, split: str, config: ConfigDict, data_dir: str) -> GridSplit:
    return on_field(load_split(dataset, split, data_dir), config.data)


def _scores(
    probability: Probability,
    split: GridSplit,
    config: ConfigDict,
    threshold: float,
    gap: bool = False,
) -> dict[str, Any]:
    result = evaluate(probability, split, config=config, threshold=threshold, thorough=False)
    rules, maps = config.evaluate, np.asarray(result.probabilities)
    weights = PatientWeights([row.patient for row in split.rows], samples=rules.bootstrap_samples, seed=config.seed)
    found: dict[str, Any] = {name: result.summary[name] for name in SCORES}
    found["dsc_pooled_interval"] = interval(sampled(statistics(columns(result.images))["dsc_pooled"], weights))
    found["healthy_false_pixels_per_image"] = healthy_false_pixels(marks(maps, threshold), split)
    if gap:
        found["gap"] = largest_gap(maps, np.asarray(split.masks), bins=rules.calibration_bins)
    return found


def healthy_false_pixels(marked: np.ndarray, split: GridSplit) -> float:
    """Marked pixels an image that are neither lesion, seen or hidden, nor benign spot nor hot organ.

    Args:
      marked: `[n, rows, columns]` bool.
      split: of a set that has masks of all these.
    """
    assert split.spared is not None
    return float((marked & ~np.asarray(split.masks) & ~split.spared).sum() / len(marked))
