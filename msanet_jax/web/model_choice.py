"""The models that a page offers; one of them is in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from data_pipeline.files import resolved
from msanet_jax.prediction.predict import load_model
from msanet_jax.runs.model_file import read_manifest
from msanet_jax.runs.recipe import read_config
from msanet_jax.trained.model import Model


class Models:
    """Loads a model when it is asked for and lets the one before go.

    Args:
      paths: folders of trainings or files of `msanet export`; none for the model of the installation. All are looked
        at, the first is loaded.

    Raises:
      RequestError: one of them is neither, or cannot be loaded.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths: list[Path | None] = [*paths] or [None]
        for path in paths:
            if path.is_dir():
                read_config(path)
            else:
                read_manifest(path)
        self.names = [f"{path.name or resolved(path).name}" if path else "packaged model" for path in self._paths]
        self._number = -1
        self.loaded = self.load(0)

    def load(self, number: int) -> Model:
        """The model of a number, one scan at a time; the one before it leaves the memory.

        Raises:
          RequestError: it cannot be loaded.
        """
        if number != self._number:
            self._number = -1
            path = self._paths[number]
            runs = [path] if path is not None and path.is_dir() else []
            self.loaded = dataclasses.replace(load_model(runs, None if runs else path), batch_size=1)
            self._number = number
        return self.loaded
