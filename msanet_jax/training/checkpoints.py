"""Checkpoints through orbax: the latest few and the best one."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from msanet_jax.runs.recipe import read_config, recipe_from_text, require
from msanet_jax.runtime.hosts import from_primary, is_primary, share, wait_for_all
from msanet_jax.training.state import Networks, TrainState, create_networks, create_state
from msanet_jax.training.weights import differing_arrays

LOG = logging.getLogger(__name__)
_NEEDED = (
    *("variants", "seed", "model", "data.dataset", "data.image_size_px", "data.scored_mask"),
    *("train.keep_checkpoints", "train.total_epochs", "evaluate.threshold", "evaluate.batch_size"),
)
"""Keys of a recipe without which its run is no model; networks and optimisers ask for their own."""


class CheckpointError(RequestError):
    """A checkpoint that is missing, damaged or of another network: one line with what to do."""


class DamagedError(CheckpointError):
    """There are checkpoints, and none of them can be read."""


@dataclasses.dataclass(frozen=True)
class Best:
    """The best validation so far; `step` is -1 before the first."""

    step: int
    dsc_pooled: float


class Checkpoints:
    """`checkpoints/latest` and `checkpoints/best` of a run; orbax writes beside and renames, so a kill loses nothing.

    With several processes the primary alone reads and writes, and what it has read reaches the others; the state is the
    same whatever their number, so a run goes on with more or fewer. Every process calls every method.

    Args:
      run: the run's folder.
      keep: how many of the latest to keep: if the newest is damaged, the next older one serves.
    """

    def __init__(self, run: Path, *, keep: int) -> None:
        self._folder = run.absolute() / "checkpoints"
        self._newest: int | None = None
        self._latest = _manager(self._folder / "latest", keep=keep) if is_primary() else None
        self._best = _manager(self._folder / "best", keep=1) if is_primary() else None

    def save_latest(self, state: TrainState) -> None:
        """Saves the whole state under its step, unless that step is there already."""
        self._newest = int(state.step)
        if self._latest is not None:
            _save(self._latest, state, {})

    def save_best(self, state: TrainState, *, dsc_pooled: float) -> None:
        """Saves the whole state with the validation score that earned it."""
        if self._best is not None:
            _save(self._best, state, {"dsc_pooled": dsc_pooled})

    def best(self) -> Best:
        """Score and step of the best checkpoint on disk."""
        return Best(**from_primary(lambda: dataclasses.asdict(self._read_best())))

    def restore_latest(self, like: TrainState) -> TrainState | None:
        """The newest readable checkpoint, or None if there is none at all."""
        state = _restore_shared(self._latest, like)
        self._newest = None if state is None else int(state.step)
        return state

    def restore_best(self, like: TrainState) -> TrainState:
        """The best checkpoint; the latest, with a warning, if the best cannot be read.

        Raises:
          CheckpointError: neither can be read.
        """
        if (state := _restore_shared(self._best, like, damaged_is_none=True)) is not None:
            return state
        if (state := _restore_shared(self._latest, like)) is not None:
            LOG.warning("no best checkpoint to read: the latest one (step %d) is used", int(state.step))
            return state
        raise CheckpointError(f"{self._folder}: no checkpoint; train this run first")

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint."""
        return self._newest if self._latest is None else self._latest.latest_step()

    def wait(self) -> None:
        """Returns, on every process, when everything saved is on disk."""
        for manager in (self._latest, self._best):
            if manager is not None:
                manager.wait_until_finished()
        self._forget_places()
        wait_for_all("checkpoints are on disk")

    def close(self) -> None:
        """Waits and frees orbax's threads."""
        for manager in (self._latest, self._best):
            if manager is not None:
                manager.close()
        self._forget_places()

    def _forget_places(self) -> None:
        """Orbax notes in each checkpoint where on the machine it lies, which nobody who gets the run needs to know."""
        for note in self._folder.glob("*/*/**/commit_success.txt") if self._latest is not None else ():
            with contextlib.suppress(OSError):  # an older checkpoint is being removed
                note.write_text("committed\n")

    def _read_best(self) -> Best:
        if self._best is None or (step := self._best.latest_step()) is None:
            return Best(step=-1, dsc_pooled=-1.0)
        notes = self._best.restore(step, args=ocp.args.Composite(notes=ocp.args.JsonRestore()))["notes"]
        return Best(step=step, dsc_pooled=float(notes["dsc_pooled"]))


def abstract_state(networks: Networks) -> TrainState:
    """Shapes and types of the state, without computing it."""
    return jax.eval_shape(lambda: create_state(networks))


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
    checkpoints = Checkpoints(run, keep=networks.config.train.keep_checkpoints)
    try:
        return networks, checkpoints.restore_best(abstract_state(networks))
    finally:
        checkpoints.close()


def _manager(folder: Path, *, keep: int) -> ocp.CheckpointManager:
    folder.mkdir(parents=True, exist_ok=True)
    # Without this orbax would wait for the other processes, which do not take part.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes={0} if jax.process_count() > 1 else None, barrier_sync_key_prefix=folder.name
    )
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=False, multiprocessing_options=alone)
    # Named handlers, because a fresh process could not read what another one saved without them.
    handlers = {
        "state": ocp.StandardCheckpointHandler(multiprocessing_options=alone),
        "notes": ocp.JsonCheckpointHandler(multiprocessing_options=alone),
    }
    return ocp.CheckpointManager(folder, options=options, item_names=tuple(handlers), item_handlers=handlers)


def _save(manager: ocp.CheckpointManager, state: TrainState, notes: dict[str, float]) -> None:
    step = int(state.step)
    if step in manager.all_steps():
        return
    # NumPy copies: the next iteration donates the state's buffers while orbax still writes.
    host_state = jax.tree.map(np.asarray, state)
    args = ocp.args.Composite(state=ocp.args.StandardSave(host_state), notes=ocp.args.JsonSave(notes))
    manager.save(step, args=args, force=True)


def _restore_shared(
    manager: ocp.CheckpointManager | None, like: TrainState, *, damaged_is_none: bool = False
) -> TrainState | None:
    """The newest readable checkpoint of the primary's manager, on every process."""
    restored: list[TrainState] = []

    def read() -> bool:
        try:
            state = None if manager is None else _restore_newest(manager, like)
        except DamagedError:  # decided here, on the primary, so that every process goes the same way
            if not damaged_is_none:
                raise
            state = None
        restored.extend([] if state is None else [state])
        return state is not None

    if not from_primary(read):
        return None
    return share(restored[0] if restored else jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like))


def _restore_newest(manager: ocp.CheckpointManager, like: TrainState) -> TrainState | None:
    """Tries the newest first and says which ones were skipped."""
    steps = sorted(manager.all_steps(), reverse=True)
    failures = []
    for step in steps:
        try:
            return _restore(manager, step, like)
        except CheckpointError:
            raise
        except Exception as error:  # orbax and tensorstore raise many types for damaged files
            failures.append(step)
            LOG.warning(
                "%s: checkpoint of step %d cannot be read (%s); trying the next older one",
                manager.directory,
                step,
                str(error).splitlines()[0][:200],
            )
    if failures:
        raise DamagedError(
            f"{manager.directory}: no readable checkpoint (damaged: steps {failures}); train anew in another folder"
        )
    return None


def _restore(manager: ocp.CheckpointManager, step: int, like: TrainState) -> TrainState:
    saved = manager.item_metadata(step)["state"]
    if saved is None:
        raise ValueError("its metadata are missing")
    _check_same_network(manager, step, saved, like)
    target = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    restored = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target)))["state"]
    return jax.tree.map(jax.numpy.asarray, restored)


def _check_same_network(manager: ocp.CheckpointManager, step: int, saved: Any, like: TrainState) -> None:
    def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
        leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
        return {_path(path): tuple(leaf.shape) for path, leaf in leaves if hasattr(leaf, "shape")}

    if (difference := differing_arrays(shapes(saved), shapes(like))) is not None:
        raise CheckpointError(f"{manager.directory}/{step}: checkpoint of another network: {difference} by config.json")


def _path(path: tuple[Any, ...]) -> str:
    """Path of a leaf, the same for dataclass fields, dictionary keys and tuple positions as orbax stores them."""
    parts = [getattr(entry, "key", getattr(entry, "name", getattr(entry, "idx", entry))) for entry in path]
    return "/".join(str(part) for part in parts)
