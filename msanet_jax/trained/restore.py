"""A run's folder becomes a model."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

from data_pipeline.files import resolved
from msanet_jax.evaluation.results import Calibration
from msanet_jax.runs.folder import Decided
from msanet_jax.runs.folder import decided as decided_by
from msanet_jax.runs.notices import public_dataset_name
from msanet_jax.trained.model import Model, from_network
from msanet_jax.training.devices import compile_probability
from msanet_jax.training.restored_run import restore_run
from msanet_jax.training.state import Networks, TrainState


def restore(run: Path, *, decided: bool = True) -> Model:
    """The moving-average generator of a run's best checkpoint.

    Args:
      run: the folder that was `--workdir` in training.
      decided: with the threshold and the calibration that the run's scores were made with; False takes the recipe's
        threshold and none, for a run that is still to be scored.

    Raises:
      CheckpointError: no run, no checkpoint, damaged, or of another network than the run's config.json says.
      RequestError: see `folder.decided`.
    """
    networks, state = restore_run(run)
    config = networks.config
    provenance = {
        "checkpoint": resolved(run).name,
        "step": int(state.step),
        "variants": config.variants,
        "seed": config.seed,
        "model": config.get("model", "msanet"),
        "dataset": public_dataset_name(config.data.dataset),
    }
    chosen = decided_by(run, config) if decided else Decided(float(config.evaluate.threshold), None)
    return from_state(networks, state, provenance, threshold=chosen.threshold, calibration=chosen.calibration)


def from_state(
    networks: Networks,
    state: TrainState,
    provenance: dict[str, Any],
    *,
    threshold: float | None = None,
    calibration: Calibration | None = None,
) -> Model:
    """The model of a state in memory; arguments as for `from_network`."""
    network = functools.partial(compile_probability(networks), state)
    model = from_network(network, networks.config, provenance, threshold=threshold, calibration=calibration)
    return dataclasses.replace(model, networks=networks, state=state)
