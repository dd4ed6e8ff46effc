"""Scores a finished run again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from data_pipeline.errors import RequestError
from data_pipeline.files import writable_folder
from data_pipeline.folds import load_splits
from msanet_jax.runs.recipe import read_config
from msanet_jax.trained.restore import restore
from msanet_jax.training.outcome import score_and_write

SCORED_SPLITS = ("test", "validation")


def score_again(
    run: Path, *, split: str = "test", out: Path | None = None, data_dir: str = "data", threshold: float | None = None
) -> tuple[Path, dict[str, Any]]:
    """Scores the best checkpoint of a run on a split.

    Args:
      run: folder of a training.
      split: `test` or `validation`.
      out: folder of the results, made if absent; None for `evaluation_SPLIT` in the run's folder.
      data_dir: folder of the built data sets.
      threshold: probability above which a pixel is lesion; None for the rule of the run's recipe.

    Returns:
      The folder and what its metrics.json holds.

    Raises:
      RequestError: no such run or split, no readable checkpoint, or a folder that cannot be written.
    """
    begin = time.perf_counter()
    if split not in SCORED_SPLITS:
        raise RequestError(f"--split={split}: must be one of {', '.join(SCORED_SPLITS)}")
    if threshold is not None and not 0.0 < threshold < 1.0:
        raise RequestError(f"--threshold={threshold:g}: must lie between 0 and 1")
    folder = run / f"evaluation_{split}" if out is None else out
    _check_protocol_keys(run)
    model = restore(run, decided=False)
    writable_folder(folder, "--out")
    splits = load_splits(model.config.data, data_dir)
    metrics = score_and_write(
        model.probability,
        splits,
        folder=folder,
        config=model.config,
        split=split,
        threshold=threshold,
        step=model.provenance["step"],
        begin=begin,
    )
    return folder, metrics


def _check_protocol_keys(run: Path) -> None:
    needed = (
        "threshold_rule",
        "surface_tolerance_mm",
        "calibration_bins",
        "froc_false_positives_per_scan",
        "froc_probability_min",
        "froc_peak_distance_mm",
        "froc_hit_distance_mm",
    )
    config = read_config(run)
    missing = [key for key in needed if key not in config.get("evaluate", {})]
    if missing:
        raise RequestError(
            f"{run / 'config.json'} comes from an older version: it lacks evaluate.{missing[0]}; "
            "train the run again, or add the keys of configs/msanet.py"
        )
