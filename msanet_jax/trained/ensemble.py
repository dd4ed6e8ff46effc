"""Several runs as one predictor: the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from msanet_jax.runs.recipe import field_of
from msanet_jax.trained.restore import Predictor, load_predictor


def load_ensemble(runs: Sequence[Path]) -> Predictor:
    """Loads one run or several, such as the folds of a cross-validation.

    p(x) = 1/K sum_k p_k(x). Threshold and batch size are those of the first run.

    Args:
      runs: folders of trainings.

    Raises:
      CheckpointError: a run that cannot be loaded.
      RequestError: no run, or runs whose networks see images of different size.
    """
    if not runs:
        raise RequestError("no run was named")
    members = [load_predictor(run) for run in runs]
    first = members[0]
    if len(members) == 1:
        return first
    check_same_input(runs, [member.config for member in members])

    def probability(images: np.ndarray) -> np.ndarray:
        total = members[0].probability(images).astype(np.float64)
        for member in members[1:]:
            total += member.probability(images)
        return (total / len(members)).astype(np.float32)

    return Predictor(
        probability=probability,
        config=first.config,
        step=first.step,
        provenance=ensemble_provenance([member.provenance for member in members]),
    )


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
