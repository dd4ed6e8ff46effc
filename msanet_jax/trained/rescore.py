"""Scores a finished run again, or any model on any annotated data set."""

from __future__ import annotations

import time
from pathlib import Path

from ml_collections import ConfigDict
from msgspec import UNSET

from data_pipeline.errors import RequestError
from data_pipeline.files import writable_folder
from data_pipeline.folds import load_splits
from msanet_jax.runs.metrics_file import Metrics
from msanet_jax.runs.model_file import DEFAULT, model_path
from msanet_jax.runs.notices import public_dataset_name
from msanet_jax.runs.recipe import read_config, require
from msanet_jax.trained.exported import load_exported
from msanet_jax.trained.model import Model, check_threshold
from msanet_jax.trained.restore import restore
from msanet_jax.training.outcome import score_and_write

SCORED_SPLITS = ("test", "validation")
_NEEDED = (
    *("data.field", "data.scored_mask", "data.folds", "evaluate.threshold_rule", "evaluate.surface_tolerance_mm"),
    *("evaluate.calibration_bins", "evaluate.froc_false_positives_per_scan", "evaluate.froc_probability_min"),
    *("evaluate.froc_peak_distance_mm", "evaluate.froc_hit_distance_mm", "evaluate.lesion_overlap_min"),
    *("evaluate.bootstrap_samples", "evaluate.threshold", "evaluate.batch_size", "seed", "model", "variants"),
)
"""Keys of a recipe by which its model is scored."""


def score_again(
    source: Path,
    *,
    on: str | None = None,
    split: str = "test",
    out: Path | None = None,
    data_dir: str = "data",
    threshold: float | None = None,
) -> tuple[Path, Metrics]:
    """Scores a model on a split.

    Args:
      source: folder of a training, whose best checkpoint is scored; a file made by `msanet export`; or `default`.
      on: any data set: a name, or a folder that `msanet import` wrote; None for the model's own.
      split: `test` or `validation`.
      out: folder of the results, made if absent; None for `evaluation_SPLIT` or `evaluation_SET_SPLIT` in a run's
        folder.
      data_dir: folder of the built data sets.
      threshold: probability above which a pixel is lesion; None for the rule of the run's recipe on its own set, for
        the model's threshold elsewhere.

    Returns:
      The folder and what its metrics.json holds.

    Raises:
      RequestError: no such model, set or split, no readable checkpoint, or a folder that cannot be written.
    """
    begin = time.perf_counter()
    if split not in SCORED_SPLITS:
        raise RequestError(f"--split={split}: must be one of {', '.join(SCORED_SPLITS)}")
    if threshold is not None:
        check_threshold(threshold)
    name = "" if on is None else f"{public_dataset_name(on).replace('/', '_')}_"
    folder = results_folder(source, out, f"evaluation_{name}{split}")
    model = load_scored(source, decided=on is not None)
    writable_folder(folder, "--out")
    config, as_it_is = _scored_on(model, on), _is_file(source) or on is not None
    metrics = score_and_write(
        model.probability,
        load_splits(config.data, data_dir),
        folder=folder,
        config=config,
        split=split,
        threshold=model.threshold if threshold is None and as_it_is else threshold,
        calibration=model.calibration if as_it_is else UNSET,
        step=model.provenance["step"],
        begin=begin,
    )
    assert metrics is not None  # one process
    return folder, metrics


def results_folder(source: Path, out: Path | None, name: str) -> Path:
    """`out`, or the folder of that name within a run's; nothing is made.

    Raises:
      RequestError: the model is a file, next to which nothing is written unasked.
    """
    if out is None and _is_file(source):
        raise RequestError("--out: name a folder for the results of a model that is not a run")
    return source / name if out is None else out


def load_scored(source: Path, *, decided: bool = True) -> Model:
    """An exported file, or the best checkpoint of a run; see `score_again`.

    Args:
      source: folder of a training, a file, or `default`.
      decided: with the threshold and calibration of the run's own scores, see `restore`.
    """
    if _is_file(source):
        path = model_path(source)
        model = load_exported(path)
        require(model.config, _NEEDED, where=str(path))
        if not isinstance(model.provenance.get("step"), int):
            raise RequestError(f"{path}: its manifest lacks provenance.step; export it again")
        return model
    require(read_config(source), _NEEDED, where=str(source / "config.json"))
    return restore(source, decided=decided)


def _is_file(source: Path) -> bool:
    return str(source) == DEFAULT or source.is_file()


def _scored_on(model: Model, on: str | None) -> ConfigDict:
    """The model's recipe with the data set that it is scored on."""
    config = ConfigDict(model.config).copy_and_resolve_references()
    if on is not None:
        with config.unlocked():
            config.data.dataset, config.data.field, config.data.folds, config.data.subsets = on, model.field, 0, 0
    return config
