"""What the report page knows of a run: scores, curves, config and cases, read from its folder without networks."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipeline.errors import RequestError
from data_pipeline.files import resolved
from msanet_jax.evaluation.comparison import Comparison, check_same_data, compare_runs
from msanet_jax.evaluation.results import Curves, LesionBins, LesionScores, Summary
from msanet_jax.report.comparison_table import run_names
from msanet_jax.runs.cases import KEPT_MAX, Cases, read_cases
from msanet_jax.runs.history import HistoryRow, read_history
from msanet_jax.runs.metrics_file import Metrics, read_lesions, read_metrics
from msanet_jax.runs.notices import public_dataset_name
from msanet_jax.runs.recipe import flatten, read_config

COMPARED = (
    "dsc_pooled",
    "precision_pooled",
    "recall_pooled",
    "lesion_recall",
    "false_positives_per_image",
    "lesion_dsc_mean",
    "lesion_dsc_mean_small",
    "lesion_dsc_mean_clustered",
)
"""Scores of the table of runs, in its order."""


@dataclasses.dataclass(frozen=True)
class Scored:
    """What the curves of a run are drawn from.

    Attributes:
      name: short, unlike those of the other runs.
      scores: of the scored split.
      bins: recall and DSC by size and bone.
      curves: FROC, precision-recall and calibration.
    """

    name: str
    scores: Summary
    bins: LesionBins
    curves: Curves


@dataclasses.dataclass(frozen=True)
class Run(Scored):
    """A scored run as the page shows it.

    Attributes:
      folder: where metrics.json lies.
      metrics: what it holds.
      history: rows of history.jsonl; none for a baseline.
      config: `{"train.batch_size": 8, ...}`.
      lesions: rows of lesions.csv.
      cases: scans and probabilities, None where the run keeps none.
    """

    folder: Path
    metrics: Metrics
    history: list[HistoryRow]
    config: dict[str, Any]
    lesions: list[LesionScores]
    cases: Cases | None


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Reads runs.

    Args:
      folders: each with a metrics.json: a training's folder, or one that `msanet evaluate` wrote inside it. Config and
        history are then those of the training.

    Raises:
      RequestError: a folder is named twice, or something in one cannot be read.
    """
    homes = [_home(folder) for folder in folders]
    names = run_names(homes if len(set(homes)) == len(homes) else folders)
    return [_read(name, folder, home) for name, folder, home in zip(names, folders, homes, strict=True)]


def paired_differences(runs: Sequence[Run]) -> tuple[list[Comparison], str]:
    """Every run against the first, and why there are none where they cannot be paired."""
    if len(runs) < 2:
        return [], ""
    splits = {run.metrics.split for run in runs}
    if len(splits) > 1:
        return [], f"The runs were scored on different splits ({', '.join(sorted(splits))})."
    try:
        check_same_data({run.name: run.metrics.provenance.dataset_version for run in runs})
        return compare_runs({run.name: run.metrics.images for run in runs}, scores=COMPARED), ""
    except RequestError as error:
        return [], f"{error}."


def _read(name: str, folder: Path, home: Path) -> Run:
    metrics = read_metrics(folder)
    cases = read_cases(folder)
    images = [row.image_id for row in metrics.images[:KEPT_MAX]]
    if cases is not None and cases.image_ids.tolist() != images:
        raise RequestError(
            f"{folder / 'cases.npz'}: of other images than metrics.json; msanet evaluate writes it again"
        )
    return Run(
        name=name,
        scores=metrics.scores,
        bins=metrics,
        curves=metrics,
        folder=folder,
        metrics=metrics,
        history=read_history(home / "history.jsonl") if (home / "history.jsonl").exists() else [],
        config=_public(json.loads(json.dumps(flatten(read_config(home))))),
        lesions=read_lesions(folder, metrics),
        cases=cases,
    )


def _public(config: dict[str, Any]) -> dict[str, Any]:
    """Of a data set folder only the name: the page is passed on."""
    if "data.dataset" not in config:
        return config
    return {**config, "data.dataset": public_dataset_name(str(config["data.dataset"]))}


def _home(folder: Path) -> Path:
    """The training's folder: this one, or its parent where only that has a config.json."""
    folder = resolved(folder)
    inside = not (folder / "config.json").exists() and (folder.parent / "config.json").exists()
    return folder.parent if inside else folder
