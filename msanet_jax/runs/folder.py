"""A run's folder: its config, the check that it is the same run."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from data_pipeline.fields import field_shape
from data_pipeline.files import writable_folder, write_text
from msanet_jax.runs.recipe import differing_keys, field_of, read_config

LOG = logging.getLogger(__name__)


def prepare(run: Path, config: ConfigDict) -> None:
    """Makes the folder and stores config.json, or checks that the folder belongs to the same config.

    Raises:
      RequestError: the folder cannot be written, or holds a run of another config; the differing keys are named.
    """
    path = writable_folder(run, "--workdir") / "config.json"
    if path.exists():
        differing = differing_keys(read_config(run), config)
        if differing:
            raise RequestError(
                f"--workdir={run} holds a run of another config; choose another folder or undo: {'; '.join(differing)}"
            )
        return
    write_text(path, config.to_json(indent=2, sort_keys=True) + "\n")


def keep_dataset_version(run: Path, *, dataset: str, version: str | None) -> None:
    """Notes in dataset_version.txt which version of its set a run is trained on, or checks that it is still the same.

    A run with checkpoints and without that file is of an older release: nothing is known, nothing is noted.

    Raises:
      RequestError: the run was begun on another version.
    """
    path = run / "dataset_version.txt"
    if version is None or (not path.exists() and (run / "checkpoints").exists()):
        return
    if not path.exists():
        write_text(path, f"{version}\n")
        return
    begun = path.read_text(encoding="utf-8").strip()
    if begun != version:
        raise RequestError(
            f"--workdir={run} was begun on version {begun} of {dataset}, which is now {version}; choose another folder"
        )


def decided_threshold(run: Path, config: ConfigDict) -> float:
    """The probability threshold that a run's test patients were scored with: by recipe, or chosen on validation.

    Earlier versions chose it on the network's grid, for other masks than those of a prediction; that is logged.

    Raises:
      RequestError: it was to be chosen, and the run's metrics.json, which holds it, cannot be read.
    """
    if config.evaluate.get("threshold_rule", "fixed") == "fixed":
        return float(config.evaluate.threshold)
    path = run / "metrics.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        chosen = float(content["threshold"]["value"])
        on_field = "scored_pixels" in content.get("rules", {})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"{path}: holds the threshold that was chosen on the validation patients, and cannot be read; finish the "
            f"run with main.py --workdir={run}"
        ) from error
    if not on_field and int(config.data.image_size_px) != field_shape(field_of(config))[1]:
        LOG.warning(
            "%s: its threshold %g was chosen on the network's grid; msanet evaluate %s --out=%s chooses it anew",
            *(path, chosen, run, run),
        )
    return chosen
