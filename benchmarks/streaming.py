"""Whole-body scans in any number for little, and their way through `msanet predict` with time and memory.

A handful of patients is simulated; every further scan is one of their views with its Poisson noise drawn anew. The work
of prediction is that of as many patients, the variety is not.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from ml_collections import ConfigDict

from benchmarks.pipeline import growth, resident_mib
from data_pipeline.fields import field_shape
from data_pipeline.phantom.dicom import to_dicom
from data_pipeline.phantom.simulate import simulate_patient
from data_pipeline.scan import Scan
from msanet_jax.prediction.predict import Request, predict_with
from msanet_jax.trained.model import Model
from msanet_jax.trained.restore import from_state, restore
from msanet_jax.training.state import Networks, TrainState, create_networks, create_state

SAMPLE_S = 0.1
"""Seconds between two looks at the memory."""

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Template:
    """A simulated view whose noise can be drawn again.

    Attributes:
      scan: the view.
      expected: noise-free counts, of the scan's shape.
      drawn: what was drawn of the patient: `sex`, `height_mm`, `camera`.
    """

    scan: Scan
    expected: np.ndarray
    drawn: dict[str, Any]


def simulate_templates(patients: int) -> list[Template]:
    """Both views of so many patients, patient by patient."""
    made = [simulate_patient(seed=0, index=index) for index in range(patients)]
    return [
        Template(view.scan, view.expected, patient.parameters["patient"])
        for patient in made
        for view in patient.views.values()
    ]


def write_scans(folder: Path, templates: Sequence[Template], count: int) -> None:
    """`count` DICOM files, the templates in turn; from the second turn on with new noise under a new patient's name."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(count):
        turn, template = number // len(templates), templates[number % len(templates)]
        counts = random.poisson(template.expected).astype(np.int32)
        header = to_dicom(
            dataclasses.replace(template.scan, counts=counts),
            identity=f"{template.scan.patient} {turn}",
            **{key: template.drawn[key] for key in ("sex", "height_mm", "camera")},
        )
        header.save_as(folder / f"{number:05d}.dcm", enforce_file_format=True)


def load(config: ConfigDict, run: Path | None) -> tuple[Networks, TrainState]:
    """Networks and state of a run, or of the recipe untrained."""
    if run is not None:
        model = restore(run, decided=False)
        assert model.networks is not None and model.state is not None
        return model.networks, model.state
    networks = create_networks(config, steps_per_epoch=1)
    return networks, create_state(networks)


def as_model(networks: Networks, state: TrainState) -> Model:
    """What `msanet predict` runs, its network compiled for whole batches already."""
    provenance = {"dataset": str(networks.config.data.dataset), "step": int(state.step)}
    model = from_state(networks, state, provenance)
    model.probability(np.zeros((model.batch_size, *field_shape(model.field)), np.float32))
    return model


def stream(model: Model, folder: Path, out: Path) -> dict[str, Any]:
    """Segments all scans of a folder into `out`, files written as by `msanet predict`.

    Returns:
      `scans`, `seconds`, `scans_per_second`, and of the process's memory, looked at ten times a second, `memory_s`,
      `memory_mib`, `memory_peak_mib` and `memory_growth_mib` (second half less first).

    Raises:
      RuntimeError: a scan failed.
    """
    request = Request(progress=False, overwrite=True)
    begin = time.perf_counter()
    outcome, memory = with_memory(lambda: predict_with(model, [folder], out=out, request=request))
    seconds = time.perf_counter() - begin
    if outcome.failed:
        raise RuntimeError(f"{len(outcome.failed)} scans failed, the first {outcome.failed[0]}")
    scans = len(outcome.written)
    return {
        "scans": scans,
        "seconds": seconds,
        "scans_per_second": scans / seconds,
        "memory_peak_mib": max(mib for _, mib in memory),
        "memory_growth_mib": growth([mib for _, mib in memory]),
        "memory_s": [moment for moment, _ in memory],
        "memory_mib": [mib for _, mib in memory],
    }


def with_memory(function: Callable[[], T]) -> tuple[T, list[tuple[float, float]]]:
    """Runs a function and returns, beside its result, (seconds, MiB of the process) from before it to after it."""
    begin, done = time.perf_counter(), threading.Event()
    samples = [(0.0, resident_mib())]

    def look() -> None:
        while not done.wait(SAMPLE_S):
            samples.append((time.perf_counter() - begin, resident_mib()))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        result = function()
    finally:
        done.set()
        watcher.join()
    samples.append((time.perf_counter() - begin, resident_mib()))
    return result, samples
