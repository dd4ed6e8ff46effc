"""The folder of a run becomes its networks and the state of its best checkpoint."""

from __future__ import annotations

import re
from pathlib import Path

from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from msanet_jax.runs.recipe import read_config, recipe_from_text, require
from msanet_jax.runtime.hosts import from_primary
from msanet_jax.training.checkpoints import CheckpointError, Checkpoints
from msanet_jax.training.state import Networks, TrainState, abstract_state, create_networks

_NEEDED = (
    *("variants", "seed", "model", "data.dataset", "data.image_size_px", "data.scored_mask"),
    *("train.keep_checkpoints", "train.total_epochs", "evaluate.threshold", "evaluate.batch_size"),
)
"""Keys of a recipe without which its run is no model; networks and optimisers ask for their own."""


def _read_recipe(run: Path) -> ConfigDict:
    config = read_config(run)
    require(config, _NEEDED, where=str(run / "config.json"))
    return config


def restore_run(run: Path) -> tuple[Networks, TrainState]:
    """Networks of a run by its config.json and the state of its best checkpoint; every process has to call.

    Raises:
      CheckpointError: no run, no checkpoint, damaged, or of another network than the run's config.json says.
    """
    try:
        recipe = from_primary(lambda: _read_recipe(run).to_json())
        if not from_primary((run / "checkpoints").is_dir):
            raise CheckpointError(f"{run}: no checkpoint; train this run first: main.py --workdir={run}")
    except RequestError as error:
        raise CheckpointError(str(error)) from error
    try:
        networks = create_networks(recipe_from_text(recipe), steps_per_epoch=1)
    except (AttributeError, KeyError) as error:
        key = re.findall(r"\w+", str(error))[:1]  # the library adds quotes and advice
        raise CheckpointError(f"{run / 'config.json'}: lacks {' '.join(key)}; train the run again") from None
    checkpoints = Checkpoints(run, networks.config)
    try:
        return networks, checkpoints.restore_best(abstract_state(networks))
    finally:
        checkpoints.close()
