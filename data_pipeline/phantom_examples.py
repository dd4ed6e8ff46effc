"""Examples of simulated patients, made once and kept on disk; many patients are made by a process on each core."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.errors import RequestError
from data_pipeline.fields import field_counts, field_ids, find_window
from data_pipeline.files import whole_files
from data_pipeline.phantom.priors.stress import STRESSES
from data_pipeline.phantom.simulate import SimulatedView, simulate_patient
from data_pipeline.phantom.truth import MASKS
from data_pipeline.processes import in_processes
from data_pipeline.reading import read_arrays
from data_pipeline.scan import View

SET_MASKS = (*MASKS, "organs")
"""Masks of a built set: those of the spots, and the organs that are hot without being ill."""


@dataclasses.dataclass(frozen=True)
class PatientStore:
    """A folder of finished patients.

    Attributes:
      folder: an `.npz` per patient.
      seed: of the patients.
      field: `thorax` or `whole_body`.
      stress: the population, one of `STRESSES`; empty for the usual one.
    """

    folder: Path
    seed: int
    field: str
    stress: str = ""

    def path(self, index: int) -> Path:
        """Where the patient is kept."""
        return self.folder / f"{index:05d}.npz"

    def examples(self, index: int, views: Sequence[View]) -> list[dict[str, Any]]:
        """The patient's examples, simulated once; written beside and renamed."""
        path = self.path(index)
        with contextlib.suppress(RequestError):  # a damaged one is made again
            stored = read_arrays(path, lambda name: name.partition("/")[0] in views, remedy="build the set again")
            kept = [
                {key.split("/", 1)[1]: stored[key][()] for key in stored if key.startswith(f"{view}/")}
                for view in views
            ]
            if all(kept):  # a plan of other views may have made it
                return kept
        shifted: dict[str, Any] = {}
        if self.stress:
            shifted = {"priors": STRESSES[self.stress].lesions, "changed": STRESSES[self.stress].patient}
        patient = simulate_patient(seed=self.seed, index=index, views=tuple(views), **shifted)
        examples = [view_example(patient.views[view], self.field) for view in views]
        self.folder.mkdir(parents=True, exist_ok=True)
        flat = {
            f"{view}/{key}": value
            for view, example in zip(views, examples, strict=True)
            for key, value in example.items()
        }
        with whole_files(self.folder, [path.name]) as beside:
            np.savez_compressed(beside / path.name, **flat)
        return examples


def view_example(view: SimulatedView, field: str) -> dict[str, Any]:
    """A field of a simulated view with its masks; rows of lesions outside it are left out."""
    window = find_window(view.scan, field)
    cropped = {name: field_ids(getattr(view, name), window, field) for name in SET_MASKS}
    present = set(np.unique(cropped["lesions_all"]).tolist()) - {0}
    return {
        "counts": field_counts(view.scan.counts, window, field),
        "image_id": f"{view.scan.patient}-{view.scan.view}",
        "patient": view.scan.patient,
        "view": str(view.scan.view),
        "pixel_size_mm": np.array(view.scan.pixel_size_mm, np.float32),
        "crop_origin_px": np.array([window.row, window.column], np.int32),
        "lesion_rows": json.dumps([dataclasses.asdict(row) for row in view.lesion_rows if row.id in present]),
        **cropped,
    }


def simulate_in_processes(
    store: PatientStore, plan: Mapping[int, Sequence[View]], *, title: str, processes: int | None = None
) -> None:
    """Fills the store with a process on each core; few patients are left out.

    What a process could not do is left out as well: `PatientStore.examples` makes it, and says what is wrong. Stopped
    early, it ends when the patients at work are kept.

    Args:
      store: to fill.
      plan: patient -> views.
      title: of the bar.
      processes: default as many as this process may use cores.
    """
    missing = [(store, index, tuple(plan[index])) for index in plan if not store.path(index).exists()]
    in_processes(_keep, missing, title=title, there=len(plan) - len(missing), processes=processes)


def _keep(store: PatientStore, index: int, views: Sequence[View]) -> None:
    store.examples(index, views)
