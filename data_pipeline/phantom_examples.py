"""Examples of simulated patients, made once and kept on disk; many patients are made by a process on each core."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import signal
import sys
import threading
import types
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_pipeline.fields import field_counts, field_ids, find_window
from data_pipeline.files import whole_files
from data_pipeline.phantom.priors.stress import STRESSES
from data_pipeline.phantom.simulate import SimulatedView, simulate_patient
from data_pipeline.phantom.truth import MASKS
from data_pipeline.scan import View
from data_pipeline.terminal.progress import progress

SET_MASKS = (*MASKS, "organs")
"""Masks of a built set: those of the spots, and the organs that are hot without being ill."""

PATIENTS_PER_PROCESS = 10
"""Fewer are not worth the start of a process."""


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
        # A damaged one is made again.
        unreadable = contextlib.suppress(FileNotFoundError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)
        with unreadable, path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return [
                {key.split("/", 1)[1]: stored[key][()] for key in stored.files if key.startswith(f"{view}/")}
                for view in views
            ]
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
            np.savez(beside / path.name, **flat)
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
        "lesion_rows": json.dumps([row for row in view.lesion_rows if row["id"] in present]),
        **cropped,
    }


def simulate_in_processes(
    store: PatientStore, plan: Mapping[int, Sequence[View]], *, title: str, processes: int | None = None
) -> None:
    """Fills the store with a process on each core, while a bar shows the time left; few patients are left out.

    What a process could not do is left out as well: `PatientStore.examples` makes it, and says what is wrong. Stopped
    early, it ends when the patients at work are kept.

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
    context = multiprocessing.get_context("spawn")
    with _sigterm_exits():
        pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start_worker)
        try:
            with _for_workers():
                futures = [pool.submit(_keep, store, index, tuple(plan[index])) for index in missing]
            with progress(title=title, unit="patient", total=len(plan), initial=len(plan) - len(missing)) as bar:
                for _ in as_completed(futures):
                    bar.update()
        except BrokenProcessPool:
            return
        finally:
            pool.shutdown(cancel_futures=True)


def _keep(store: PatientStore, index: int, views: Sequence[View]) -> None:
    store.examples(index, views)


@contextlib.contextmanager
def _for_workers() -> Iterator[None]:
    """What processes that start here inherit: Ctrl-C is for their parent, and its program is not run again.

    That program may be a script without a guard.
    """
    main, mask = sys.modules["__main__"], signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextlib.contextmanager
def _sigterm_exits() -> Iterator[None]:
    """SIGTERM, where nobody handles it, ends this process in order, with the status that shells give it."""
    handled = signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    if handled or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _start_worker() -> None:
    """A worker computes on the CPU and ends with its parent, however that ends."""
    jax.config.update("jax_platforms", "cpu")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _cores() -> int:
    """Cores that this process may use; where the system does not say (macOS), those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
