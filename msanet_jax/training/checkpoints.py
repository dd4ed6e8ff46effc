"""Checkpoints through orbax: the latest few and the best one."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from msanet_jax.runs.recipe import flatten
from msanet_jax.runtime.hosts import from_primary, is_primary, share, wait_for_all
from msanet_jax.training.state import TrainState
from msanet_jax.training.weights import differing_arrays

LOG = logging.getLogger(__name__)


class CheckpointError(RequestError):
    """A checkpoint that is missing, damaged or of another network: one line with what to do."""


class DamagedError(CheckpointError):
    """There are checkpoints, and none of them can be read."""


class RecipeError(CheckpointError):
    """config.json is not the recipe of the checkpoints."""


@dataclasses.dataclass(frozen=True)
class Best:
    """The best validation so far; `step` is -1 before the first."""

    step: int
    dsc_pooled: float


class Checkpoints:
    """`checkpoints/latest` and `checkpoints/best` of a run; orbax writes beside and renames, so a kill loses nothing.

    Every checkpoint has a digest of its arrays and the recipe. A damaged one is noticed, named, not used, and replaced
    when its step is saved again.

    With several processes the primary alone reads and writes, and what it has read reaches the others; the state is the
    same whatever their number, so a run goes on with more or fewer. Every process calls every method.

    Args:
      run: the run's folder.
      config: the recipe; `train.keep_checkpoints` of the latest are kept: if the newest is damaged, the next older one
        serves.
    """

    def __init__(self, run: Path, config: ConfigDict) -> None:
        self._folder = run.absolute() / "checkpoints"
        self._recipe = json.loads(json.dumps(flatten(config)))  # tuples become lists, as in the file
        self._newest: int | None = None
        self._latest = _manager(self._folder / "latest", keep=config.train.keep_checkpoints) if is_primary() else None
        self._best = _manager(self._folder / "best", keep=1) if is_primary() else None
        self._damaged: set[Path] = set()

    def save_latest(self, state: TrainState) -> None:
        """Saves the whole state under its step, unless that step is there already."""
        self._newest = int(state.step)
        if self._latest is not None:
            self._save(self._latest, state, {})

    def save_best(self, state: TrainState, *, dsc_pooled: float) -> None:
        """Saves the whole state with the validation score that earned it."""
        if self._best is not None:
            self._save(self._best, state, {"dsc_pooled": dsc_pooled})

    def best(self) -> Best:
        """Score and step of the best checkpoint on disk that can be read."""
        return Best(**from_primary(lambda: dataclasses.asdict(self._read_best())))

    def restore_latest(self, like: TrainState) -> TrainState | None:
        """The newest readable checkpoint, or None if there is none at all; the best one if all the latest are damaged.

        Raises:
          CheckpointError: there are checkpoints, and none can be read.
        """
        try:
            state = self._restore_shared(self._latest, like)
        except DamagedError as error:
            LOG.warning("%s", error)
            if (state := self._restore_shared(self._best, like)) is None:
                raise
            LOG.warning("the best checkpoint (step %d) is used", int(state.step))
        self._newest = None if state is None else int(state.step)
        return state

    def restore_best(self, like: TrainState) -> TrainState:
        """The best checkpoint; the latest, with a warning, if the best cannot be read.

        Raises:
          CheckpointError: neither can be read.
        """
        try:
            best = self._restore_shared(self._best, like)
        except DamagedError as error:
            LOG.warning("%s", error)
            best = None
        if best is not None:
            return best
        if (state := self._restore_shared(self._latest, like)) is not None:
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
        none = Best(step=-1, dsc_pooled=-1.0)
        if (
            self._best is None
            or (step := self._best.latest_step()) is None
            or _place(self._best, step) in self._damaged
        ):
            return none
        try:
            best = Best(step=step, dsc_pooled=float(_read_notes(self._best, step)["dsc_pooled"]))
        except Exception as error:  # orbax raises many types for damaged files
            self._mark_damaged(self._best, step, error, "the next validation replaces it")
            return none
        return best if math.isfinite(best.dsc_pooled) else none

    def _mark_damaged(self, manager: ocp.CheckpointManager, step: int, error: Exception, instead: str) -> None:
        self._damaged.add(_place(manager, step))
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        LOG.warning("%s: checkpoint of step %d cannot be read (%s); %s", *(manager.directory, step, reason, instead))

    def _save(self, manager: ocp.CheckpointManager, state: TrainState, score: dict[str, float]) -> None:
        step = int(state.step)
        for damaged in [kept for kept in manager.all_steps() if _place(manager, kept) in self._damaged]:
            # Left alone it would count as the newest, or keep its own step from being saved.
            if manager is self._best or damaged == step:
                manager.delete(damaged)
        if step in manager.all_steps():
            return
        # NumPy copies: the next iteration donates the state's buffers while orbax still writes.
        host_state = jax.tree.map(np.asarray, state)
        notes = _with_check({"recipe": self._recipe, "arrays": _arrays_digest(host_state), **score})
        args = ocp.args.Composite(state=ocp.args.StandardSave(host_state), notes=ocp.args.JsonSave(notes))
        manager.save(step, args=args, force=True)

    def _restore_shared(self, manager: ocp.CheckpointManager | None, like: TrainState) -> TrainState | None:
        """The newest readable checkpoint of the primary's manager, on every process."""
        restored: list[TrainState] = []

        def read() -> str:
            """Decided on the primary, so that every process goes the same way."""
            try:
                state = None if manager is None else self._restore_newest(manager, like)
            except DamagedError as error:
                return str(error)
            restored.extend([] if state is None else [state])
            return "" if restored else "none"

        if answer := from_primary(read):
            if answer == "none":
                return None
            raise DamagedError(answer)
        return share(restored[0] if restored else jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like))

    def _restore_newest(self, manager: ocp.CheckpointManager, like: TrainState) -> TrainState | None:
        """Tries the newest first and says which ones were skipped."""
        failures: dict[int, Exception] = {}
        for step in sorted(manager.all_steps(), reverse=True):
            try:
                return self._restore(manager, step, like)
            except RecipeError:
                raise
            except Exception as error:  # orbax and tensorstore raise many types for damaged files
                failures[step] = error
                self._mark_damaged(manager, step, error, "trying the next older one")
        for failure in failures.values():  # of another network: all are, or the description of one is damaged
            if isinstance(failure, CheckpointError):
                raise failure
        if failures:
            raise DamagedError(
                f"{manager.directory}: no readable checkpoint (damaged: steps {[*failures]}); train anew elsewhere"
            )
        return None

    def _restore(self, manager: ocp.CheckpointManager, step: int, like: TrainState) -> TrainState:
        notes = _read_notes(manager, step)
        self._check_recipe(notes.get("recipe", {}))
        saved = manager.item_metadata(step)["state"]
        if saved is None:
            raise ValueError("its metadata are missing")
        _check_same_network(manager, step, saved, like)
        target = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
        restored = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target)))["state"]
        if notes.get("arrays", digest := _arrays_digest(restored)) != digest:
            raise ValueError("its arrays are not those that were saved")
        return jax.tree.map(jax.numpy.asarray, restored)

    def _check_recipe(self, trained: Mapping[str, Any]) -> None:
        """Keys that only one of the two has are of another version of msanet-jax; `variants` is a name."""
        differing = [
            f"{key}: {trained[key]} -> {self._recipe[key]}"
            for key in sorted((trained.keys() & self._recipe.keys()) - {"variants"})
            if trained[key] != self._recipe[key]
        ]
        if differing:
            raise RecipeError(
                f"{self._folder.parent / 'config.json'}: not the recipe that the checkpoints were trained with; undo "
                f"{'; '.join(differing)}"
            )


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


def _place(manager: ocp.CheckpointManager, step: int) -> Path:
    return Path(manager.directory, str(step))


def _read_notes(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """The notes of a checkpoint; those of older versions have no check, and no more than a score.

    Raises:
      ValueError: they are not those that were saved.
    """
    notes: dict[str, Any] = manager.restore(step, args=ocp.args.Composite(notes=ocp.args.JsonRestore()))["notes"]
    content = {key: value for key, value in notes.items() if key != "check"}
    if notes != _with_check(content) and notes.keys() - {"dsc_pooled"}:
        raise ValueError("its notes are not those that were saved")
    return content


def _with_check(notes: dict[str, Any]) -> dict[str, Any]:
    return {**notes, "check": hashlib.sha256(json.dumps(notes, sort_keys=True).encode()).hexdigest()}


def _arrays_digest(state: TrainState) -> str:
    """SHA-256 of names, types, shapes and values of all arrays."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        array = np.asarray(leaf)
        digest.update(f"{_path(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


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
