"""Examples of simulated patients, made once and kept on disk; many patients are made by a process on each core.

`python -m data_pipeline.phantom_examples` is such a process: it reads its patients from standard input and ends with
its parent. TensorFlow is not needed for it.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data_pipeline.fields import field_counts, field_ids, find_window
from data_pipeline.files import whole_files
from data_pipeline.phantom.simulate import SimulatedView, simulate_patient
from data_pipeline.phantom.truth import MASKS
from data_pipeline.scan import View

SET_MASKS = (*MASKS, "organs")
"""Masks of a built set: those of the spots, and the organs that are hot without being ill."""

PATIENTS_PER_PROCESS = 10
"""Fewer are not worth the start of a process."""

POLL_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class PatientStore:
    """A folder of finished patients.

    Attributes:
      folder: an `.npz` per patient.
      seed: of the patients.
      field: `thorax` or `whole_body`.
    """

    folder: Path
    seed: int
    field: str

    def path(self, index: int) -> Path:
        """Where the patient is kept."""
        return self.folder / f"{index:05d}.npz"

    def examples(self, index: int, views: Sequence[View]) -> list[dict[str, Any]]:
        """The patient's examples, simulated once; written beside and renamed."""
        path = self.path(index)
        if path.exists():
            with np.load(path, allow_pickle=False) as stored:
                return [
                    {key.split("/", 1)[1]: stored[key][()] for key in stored.files if key.startswith(f"{view}/")}
                    for view in views
                ]
        patient = simulate_patient(seed=self.seed, index=index, views=tuple(views))
        examples = [view_example(patient.views[view], self.field) for view in views]
        self.folder.mkdir(parents=True, exist_ok=True)
        flat = {
            f"{view}/{key}": value
            for view, example in zip(views, examples, strict=True)
            for key, value in example.items()
        }
        with whole_files(self.folder, [path.name]) as beside:
            np.savez(beside / path.name, **flat)
        return examples


def view_example(view: SimulatedView, field: str) -> dict[str, Any]:
    """A field of a simulated view with its masks; rows of lesions outside it are left out."""
    window = find_window(view.scan, field)
    cropped = {name: field_ids(getattr(view, name), window, field) for name in SET_MASKS}
    present = set(np.unique(cropped["lesions"]).tolist()) - {0}
    return {
        "counts": field_counts(view.scan.counts, window, field),
        "image_id": f"{view.scan.patient}-{view.scan.view}",
        "patient": view.scan.patient,
        "view": str(view.scan.view),
        "pixel_size_mm": np.array(view.scan.pixel_size_mm, np.float32),
        "crop_origin_px": np.array([window.row, window.column], np.int32),
        "lesion_rows": json.dumps([row for row in view.lesion_rows if row["id"] in present]),
        **cropped,
    }


def simulate_in_processes(
    store: PatientStore, plan: Mapping[int, Sequence[View]], *, title: str, processes: int | None = None
) -> None:
    """Fills the store with a process on each core, while a bar shows the time left; few patients are left out.

    What a process could not do is left out as well: `PatientStore.examples` makes it, and says what is wrong.

    Args:
      store: to fill.
      plan: patient -> views.
      title: of the bar.
      processes: default as many as this process may use cores.
    """
    missing = [index for index in plan if not store.path(index).exists()]
    processes = min(processes or _cores(), len(missing) // PATIENTS_PER_PROCESS)
    if processes < 2:
        return
    running: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(processes):
            task = {
                "folder": str(store.folder),
                "seed": store.seed,
                "field": store.field,
                "patients": {index: [str(view) for view in plan[index]] for index in missing[number::processes]},
            }
            running.append(_started(json.dumps(task)))
        with tqdm(total=len(plan), initial=len(plan) - len(missing), unit="patient", desc=title) as bar:
            while any(process.poll() is None for process in running):
                time.sleep(POLL_SECONDS)
                bar.update(sum(store.path(index).exists() for index in plan) - bar.n)
    finally:
        for process in running:
            process.terminate()
            process.wait()


def _cores() -> int:
    """Cores that this process may use; where the system does not say (macOS), those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _started(task: str) -> subprocess.Popen[bytes]:
    folders = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(folders), "JAX_PLATFORMS": "cpu"},
    )
    assert process.stdin is not None
    process.stdin.write(task.encode())
    process.stdin.close()
    return process


def main() -> int:
    """Simulates the patients that standard input names; ends early where the parent has ended."""
    task = json.loads(sys.stdin.read())
    store = PatientStore(folder=Path(task["folder"]), seed=task["seed"], field=task["field"])
    parent = os.getppid()
    for index, views in task["patients"].items():
        if os.getppid() != parent:
            logging.error("the build ended before its patients were done")
            return 1
        store.examples(int(index), [View(view) for view in views])
    return 0


if __name__ == "__main__":
    sys.exit(main())
