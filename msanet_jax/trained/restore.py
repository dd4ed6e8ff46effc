"""A run folder becomes a trained generator."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from msanet_jax.runs.folder import read_config
from msanet_jax.runs.notices import public_dataset_name
from msanet_jax.training.checkpoints import CheckpointError, Checkpoints, abstract_state
from msanet_jax.training.devices import compile_probability
from msanet_jax.training.state import Networks, TrainState, create_networks


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A trained generator, ready to use.

    Attributes:
      probability: images `[n, size, size, 1]` float32 normalised -> `[n, size, size]` float32 in [0, 1].
      config: the run's recipe.
      step: of the checkpoint.
      provenance: JSON-able facts about where it comes from.
    """

    probability: Callable[[np.ndarray], np.ndarray]
    config: ConfigDict
    step: int
    provenance: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Restored:
    """A run as it is on disk.

    Attributes:
      networks: built from its config.json.
      state: of the best checkpoint.
      provenance: JSON-able facts about where it comes from.
    """

    networks: Networks
    state: TrainState
    provenance: dict[str, Any]


def load_predictor(run: Path) -> Predictor:
    """Loads the best checkpoint's moving-average generator of a run.

    Args:
      run: the folder that was `--workdir` in training.

    Raises:
      CheckpointError: no run, no checkpoint, damaged, or of another network than the run's config.json says.
    """
    restored = restore_run(run)
    return Predictor(
        probability=functools.partial(compile_probability(restored.networks), restored.state),
        config=restored.networks.config,
        step=int(restored.state.step),
        provenance=restored.provenance,
    )


def restore_run(run: Path) -> Restored:
    """Networks and best state of a run; raises as `load_predictor`."""
    try:
        config = read_config(run)
    except RequestError as error:
        raise CheckpointError(str(error)) from error
    networks = create_networks(config, steps_per_epoch=1)
    if not (run / "checkpoints").is_dir():
        raise CheckpointError(f"{run}: no checkpoint; train this run first: main.py --workdir={run}")
    checkpoints = Checkpoints(run, keep=config.train.keep_checkpoints)
    try:
        state = checkpoints.restore_best(abstract_state(networks))
    finally:
        checkpoints.close()
    name = run.resolve().name
    provenance = {
        "checkpoint": name,
        "step": int(state.step),
        "variants": config.variants,
        "seed": config.seed,
        "model": config.get("model", "msanet"),
        "dataset": public_dataset_name(config.data.dataset),
    }
    return Restored(networks=networks, state=state, provenance=provenance)
