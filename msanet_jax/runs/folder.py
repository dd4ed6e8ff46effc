"""A run's folder: its config, the check that it is the same run, one process at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from ml_collections import ConfigDict
from msgspec import Meta

from data_pipeline.errors import RequestError
from data_pipeline.fields import field_shape
from data_pipeline.files import PREFIX, HeldError, only_one, writable_folder, write_text
from data_pipeline.reading import read_json, read_text
from msanet_jax.evaluation.results import Calibration
from msanet_jax.runs.recipe import differing_keys, field_of, read_config

LOG = logging.getLogger(__name__)

LAST = "last"
"""Folder within a run's with the scores of the last step's state, where the recipe asks for them."""


LOCK = ".lock"
"""In a run's folder while a process writes there."""


@contextlib.contextmanager
def only_run(run: Path) -> Iterator[None]:
    """Makes the folder and keeps other processes out of it; a folder that is still empty at the end goes again.

    What a killed process has left half-written is removed.

    Raises:
      RequestError: the folder cannot be written, or another process is at work in it.
    """
    made = [folder for folder in (run, *run.parents) if not folder.exists()]
    writable_folder(run, "--workdir")
    try:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(only_one(run / LOCK))
            except HeldError as error:
                raise RequestError(
                    f"--workdir={run} is in use by {error}; wait for it, stop it, or choose another folder"
                ) from None
            for half_written in run.rglob(f"{PREFIX}*"):  # by a process that was killed
                shutil.rmtree(half_written, ignore_errors=True)
            yield
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def check_same_config(run: Path, config: ConfigDict) -> None:
    """Refuses a folder that holds a run of another config; writes nothing.

    Raises:
      RequestError: the differing keys are named.
    """
    if (run / "config.json").exists() and (differing := differing_keys(read_config(run), config)):
        raise RequestError(
            f"--workdir={run} holds a run of another config; choose another folder or undo: {'; '.join(differing)}"
        )


def prepare(run: Path, config: ConfigDict, *, version: str | None = None) -> None:
    """Makes the folder and binds it to a config and a version of the data set, or checks that it is bound to them.

    Call it when data and networks have been accepted. It writes config.json and dataset_version.txt. A run with
    checkpoints and without the latter is of an older release: its version is unknown, and stays so.

    Args:
      run: the folder.
      config: the recipe.
      version: of the data set; None if it has none.

    Raises:
      RequestError: the folder cannot be written, or holds a run of another config or version; nothing is written.
    """
    check_same_config(run, config)
    noted = run / "dataset_version.txt"
    begun = read_text(noted, remedy="restore it, or choose another folder").strip() if noted.exists() else None
    if None not in (begun, version) and begun != version:
        raise RequestError(
            f"--workdir={run} was begun on version {begun} of {config.data.dataset}, which is now {version}; choose "
            "another folder"
        )
    path = writable_folder(run, "--workdir") / "config.json"
    if not path.exists():
        write_text(path, config.to_json(indent=2, sort_keys=True) + "\n")
    if begun is None and version is not None and not (run / "checkpoints").exists():
        write_text(noted, f"{version}\n")


@dataclasses.dataclass(frozen=True)
class _Chosen:
    value: Annotated[float, Meta(gt=0, lt=1)]


@dataclasses.dataclass(frozen=True)
class _Scored:
    """What a prediction needs of metrics.json, of this or an earlier schema version."""

    threshold: _Chosen
    calibration_map: Calibration | None = None
    rules: dict[str, Any] = dataclasses.field(default_factory=dict)


class Decided(NamedTuple):
    """Threshold on the calibrated probability, and the calibration; None where a run has none."""

    threshold: float
    calibration: Calibration | None


def decided(run: Path, config: ConfigDict) -> Decided:
    """What a run's test patients were scored with: by recipe, or decided on the validation patients.

    Earlier versions have no calibration. Some chose the threshold on the network's grid, for other masks than those of
    a prediction; that is logged.

    Raises:
      RequestError: there was something to decide, and the run's metrics.json, which holds it, cannot be read.
    """
    rules = config.evaluate
    if "validation" not in (rules.get("threshold_rule"), rules.get("calibration")):
        return Decided(float(rules.threshold), None)
    path = run / "metrics.json"
    remedy = f"it holds what the validation patients decided; finish the run with main.py --workdir={run}"
    scored = read_json(path, _Scored, remedy=remedy)
    chosen = scored.threshold.value
    if "scored_pixels" not in scored.rules and int(config.data.image_size_px) != field_shape(field_of(config))[1]:
        LOG.warning(
            "%s: its threshold %g was chosen on the network's grid; msanet evaluate %s --out=%s chooses it anew",
            *(path, chosen, run, run),
        )
    return Decided(chosen, scored.calibration_map)
