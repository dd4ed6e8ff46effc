"""Several runs as one model: the mean of their probabilities."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from msanet_jax.evaluation.field_maps import Probability
from msanet_jax.runs.recipe import field_of
from msanet_jax.trained.model import Model
from msanet_jax.trained.restore import restore


def load_ensemble(runs: Sequence[Path], *, decided: bool = True) -> Model:
    """Loads one run or several, such as the folds of a cross-validation.

    p(x) = 1/K sum_k p_k(x), each p_k with the calibration of its own run. Recipe, threshold and batch size are those of
    the first run.

    Args:
      runs: folders of trainings.
      decided: see `restore`.

    Raises:
      CheckpointError: a run that cannot be loaded.
      RequestError: no run, or runs whose networks see images of different size.
    """
    members = load_members(runs, decided=decided)
    first = members[0]
    if len(members) == 1:
        return first
    return dataclasses.replace(
        first,
        probability=mean_probability([member.probability for member in members]),
        provenance=ensemble_provenance([member.provenance for member in members]),
        calibration=None,
        networks=None,
        state=None,
    )


def mean_probability(members: Sequence[Probability]) -> Probability:
    """1/K sum_k p_k, of one or several."""

    def probability(fields: np.ndarray) -> np.ndarray:
        total = members[0](fields).astype(np.float64)
        for member in members[1:]:
            total += member(fields)
        mean: np.ndarray = (total / len(members)).astype(np.float32)
        return mean

    return probability


def load_members(runs: Sequence[Path], *, decided: bool = True) -> list[Model]:
    """A model for each run; raises as `load_ensemble`."""
    if not runs:
        raise RequestError("no run was named")
    members = [restore(run, decided=decided) for run in runs]
    check_same_input(runs, [member.config for member in members])
    return members


def check_same_input(runs: Sequence[Path], configs: Sequence[ConfigDict]) -> None:
    """Refuses members that cannot be averaged pixel by pixel.

    Raises:
      RequestError: they see another field, or another number of pixels.
    """
    grids = [f"{field_of(config)}, {config.data.image_size_px} pixels wide" for config in configs]
    for run, grid in zip(runs, grids, strict=True):
        if grid != grids[0]:
            raise RequestError(f"{run}: its network sees {grid}, that of {runs[0]} {grids[0]}; average alike runs only")


def ensemble_provenance(members: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first member's facts, all names joined, and every member's own."""
    names = "+".join(str(member["checkpoint"]) for member in members)
    return {**members[0], "checkpoint": names, "members": list(members)}
