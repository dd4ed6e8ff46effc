"""Where a training starts: at weights drawn from the seed, or at those of a trained generator."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from msanet_jax.networks.catalogue import BASELINES
from msanet_jax.runs.model_file import has_weights, model_path, read_manifest, read_member_recipe, read_weights
from msanet_jax.runs.recipe import differing_keys, read_config
from msanet_jax.runtime.hosts import from_primary, share
from msanet_jax.training.restored_run import restore_run
from msanet_jax.training.state import TrainState
from msanet_jax.training.weights import named_weights, with_weights

LOG = logging.getLogger(__name__)


def check_start(config: ConfigDict) -> None:
    """Refuses a `train.init_from` that gives no start; before anything is built, without reading weights.

    Raises:
      RequestError: it is neither a run, nor `default`, nor an exported model of one network with its weights; or the
        recipe is a baseline's.
    """
    source = config.train.get("init_from", "")
    if not source:
        return
    if config.model in BASELINES:
        raise RequestError(f"config.train.init_from={source}: the baseline {config.model} has no weights to start from")
    if Path(source).is_dir():
        read_config(Path(source))
        return
    path = model_path(source)
    if (members := len(read_manifest(path).get("parameters", ()))) != 1:
        raise RequestError(f"{path}: is the mean of {members} networks; a training starts from one, name its run")
    if not has_weights(path):
        raise RequestError(f"{path}: an earlier version made it without weights; export its run again, or name the run")


def start_state(state: TrainState, config: ConfigDict) -> TrainState:
    """The state that a training begins with; every process has to call.

    Args:
      state: drawn from the seed.
      config: `train.init_from` is empty, or names what `check_start` accepts.

    Returns:
      `state`, or `state` with generator, moving average and running statistics of the source. Discriminator,
      optimisers and step are those of `state`.

    Raises:
      RequestError: the source cannot be read, or is another network; one line names the keys that differ.
    """
    source = config.train.get("init_from", "")
    if not source:
        return state
    label = f"config.train.init_from={source}"
    if from_primary(Path(source).is_dir):
        networks, trained = restore_run(Path(source))
        started = _started(state, config, named_weights(trained), networks.config, label)
    else:
        path, read = model_path(source), []
        from_primary(lambda: read.append(_started(state, config, read_weights(path), read_member_recipe(path), label)))
        started = share(read[0] if read else state)
    LOG.info("the training starts from the weights of %s", source)
    return started


def _started(
    state: TrainState, config: ConfigDict, named: dict[str, np.ndarray], theirs: ConfigDict, label: str
) -> TrainState:
    try:
        return with_weights(state, named, source=label)
    except RequestError as error:
        keys = [line for line in differing_keys(theirs, config) if line.startswith(("model:", "generator."))]
        raise RequestError(f"{error}; theirs -> this recipe: {', '.join(keys)}") from None
