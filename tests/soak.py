"""Long runs of `msanet predict`, of `msanet serve` and of a training: memory, files and threads must not grow.

`python -m tests.soak --scans 10000` reads files of every format, damaged ones among them, and finds thorax and lesions;
only the network is a threshold on counts. `--serve` drops them on the page one by one and looks at each; then a large
file arrives. `--steps 100000` trains a tiny network, with validations and checkpoints, and counts compiled programs.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import re
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import jax
import nibabel
import numpy as np

from configs.msanet import get_config
from msanet_jax.prediction.predict import Request, predict_with
from msanet_jax.runs.folder import prepare
from msanet_jax.training import loop
from msanet_jax.web.server import served
from msanet_jax.web.visit_folder import visit_folder
from tests.fakes import HOT_MODEL, fake_split
from tests.user_files import body_scan, nm_header, save_dicom, save_picture

MEMORY_GROWTH_MAX = 0.02
"""Of the last quarter over the second, as a share: rows of the run's record, some hundred bytes for each scan."""

UPLOAD_GROWTH_MAX_MIB = 32.0
"""While a file of any size arrives."""

TINY = {
    "seed": 0,
    "data.image_size_px": 8,
    "generator.depth": 1,
    "generator.width": 4,
    "generator.multi_scale_dilations": (1,),
    "generator.cascade_dilations": (1,),
    "discriminator.depth": 1,
    "discriminator.width": 4,
    "adversary.pyramid_levels": 1,
    "train.batch_size": 2,
    "train.log_every_steps": 100,
    "evaluate.batch_size": 2,
}
"""A network whose step takes milliseconds."""

STOPS = 20
"""Validations and checkpoints of a training, the first of each in its first quarter."""

_COMPILED: list[str] = []
"""An entry for every program that JAX compiled."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """What the process holds.

    Attributes:
      done: scans or steps so far.
      memory_mib: resident.
      files: open.
      threads: alive, also those that are not Python's.
      programs: compiled so far.
    """

    done: int
    memory_mib: float
    files: int
    threads: int
    programs: int


def soak_training(steps: int, folder: Path) -> list[Sample]:
    """Trains so many steps and samples whenever losses are logged."""
    config = get_config("smoke")
    config.update_from_flattened_dict(TINY)
    training, validation = fake_split(8, size_px=8), fake_split(4, size_px=8, seed=1)
    epochs = steps * config.train.batch_size / len(training)
    config.train.total_epochs = epochs
    config.train.validate_every_epochs = config.train.checkpoint_every_epochs = epochs / STOPS
    prepare(folder, config)
    samples: list[Sample] = []

    class Sampled(loop.Telemetry):
        def flush(self, **options: Any) -> dict[str, float]:
            samples.append(_sample(self._pending[-1][0]))
            return super().flush(**options)

    with mock.patch.object(loop, "Telemetry", Sampled):
        trained = loop.train(config, run=folder, training=training, validation=validation)
    assert int(trained.last.step) == steps
    return samples


def soak(scans: int, folder: Path) -> list[Sample]:
    """Predicts so many scans of a folder and samples at every batch; one file in ten is damaged."""
    source = folder / "in"
    sound = _files(folder / "kinds")
    for number in range(scans):
        kind = sound[number % len(sound)]
        # Beside DICOM files, files of other formats are left out.
        place = source / kind.suffix / f"p{number // 100}" / f"scan{number}{''.join(kind.suffixes)}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.hardlink_to(kind)
    samples: list[Sample] = []

    def probability(fields: np.ndarray) -> np.ndarray:
        samples.append(_sample(sum(sample.done for sample in samples[-1:]) + int(fields.any(axis=(1, 2)).sum())))
        return np.asarray(HOT_MODEL.probability(fields))

    model = dataclasses.replace(HOT_MODEL, probability=probability, batch_size=16)
    request = Request(formats=(), progress=False, patient_from="folder")
    with contextlib.redirect_stderr(io.StringIO()):
        outcome = predict_with(model, sorted(source.iterdir()), out=folder / "out", request=request)
    damaged = sum(kind.name.startswith("damaged") for kind in sound)
    assert len(outcome.failed) == damaged * scans // len(sound)
    return samples


def soak_page(scans: int, folder: Path, *, upload_mib: int) -> tuple[list[Sample], float]:
    """Drops so many files one by one, looks at the list and at a patient, and samples; then a large file comes.

    Returns:
      The samples, and how many MiB the process grew at most while the large file arrived and was refused.
    """
    models = SimpleNamespace(names=["fake"], loaded=HOT_MODEL, load=lambda number: HOT_MODEL)
    kinds = _files(folder / "kinds")
    samples: list[Sample] = []
    with visit_folder() as private, served(models, private) as address:
        for number in range(scans):
            kind = kinds[number % len(kinds)]
            content = kind.read_bytes()
            state = _drop(address, f"scan{number}{''.join(kind.suffixes)}", len(content), [content])
            assert (state["scans"], len(state["failures"])) == ((0, 1) if kind.stem == "damaged" else (1, 0))
            rows = _ask(address, "rows").decode()
            _ask(address, re.findall(r'href="(patients/[^"/]+)"', rows)[-1])
            samples.append(_sample(number + 1))
        peak = before = _sample(0).memory_mib

        def chunks() -> Iterator[bytes]:
            nonlocal peak
            for _ in range(upload_mib):
                yield bytes(1 << 20)
                peak = max(peak, _sample(0).memory_mib)

        state = _drop(address, "large.dcm", upload_mib << 20, chunks())
        assert state["scans"] == 0 and len(state["failures"]) == 1
        peak = max(peak, _sample(0).memory_mib)
    return samples, peak - before


def _drop(address: str, name: str, size: int, content: Any) -> dict[str, Any]:
    """Uploads a file, waits until it is done, and returns the state of its drop."""
    made = json.loads(_ask(address, "drops", "POST", json.dumps({"files": [[name, size]]}).encode()))
    drop = f"drops/{made['drop']}"
    _ask(address, f"{drop}/files/0", "PUT", content, size)
    _ask(address, f"{drop}/start", "POST", b"")
    while True:
        state: dict[str, Any] = json.loads(_ask(address, "state"))["drops"][-1]
        if state["state"] == "done":
            return state
        time.sleep(0.02)


def _ask(address: str, path: str, method: str = "GET", body: Any = None, size: int | None = None) -> bytes:
    request = urllib.request.Request(address + path, data=body, method=method)
    request.add_header("Content-Type", "application/json")
    if size is not None:
        request.add_header("Content-Length", str(size))
    with urllib.request.urlopen(request) as answer:
        content: bytes = answer.read()
    return content


def _files(folder: Path) -> list[Path]:
    """Ten kinds of files; the last is damaged."""
    counts = body_scan()[::2, ::2].copy()
    made = [save_picture(counts, folder / f"a{suffix}") for suffix in (".png", ".tif")]
    small = np.minimum(counts, 255).astype(np.uint8)
    header = nm_header(counts)
    header.PixelSpacing = [9.04, 9.04]
    made += [save_picture(small, folder / "b.png"), save_dicom(header, folder / "c.dcm")]
    for number in range(3):
        np.save(folder / f"d{number}.npy", body_scan(number)[::2, ::2])
        made.append(folder / f"d{number}.npy")
    image = nibabel.Nifti1Image(counts.T[:, :, None].astype(np.int32), np.diag([-9.04, -9.04, 1, 1]))
    for suffix in (".nii", ".nii.gz"):
        nibabel.save(image, folder / f"e{suffix}")
        made.append(folder / f"e{suffix}")
    (folder / "damaged.png").write_bytes(made[0].read_bytes()[:3000])
    return [*made, folder / "damaged.png"]


def _sample(done: int) -> Sample:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    files, threads = (len(list(Path(f"/proc/self/{name}").iterdir())) for name in ("fd", "task"))
    return Sample(done, memory, files, threads, len(_COMPILED))


def _count_programs(event: str, duration_secs: float, **facts: str | int) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _COMPILED.append(event)


def growth(samples: list[Sample]) -> float:
    """How much more memory the last quarter of the samples has than the second, as a share."""
    quarter = len(samples) // 4
    second, last = samples[quarter : 2 * quarter], samples[-quarter:]
    return float(np.mean([s.memory_mib for s in last]) / np.mean([s.memory_mib for s in second]) - 1)


def main() -> int:
    """Prints what the process held; 1 if it grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--scans", type=int, default=1000, help="in one run (default: 1000)")
    what.add_argument("--steps", type=int, help="of a training instead")
    parser.add_argument("--serve", action="store_true", help="on the page of msanet serve")
    parser.add_argument("--upload-mib", type=int, default=256, help="with --serve: size of the large file")
    options = parser.parse_args()
    jax.monitoring.register_event_duration_secs_listener(_count_programs)
    begin, grown_by = time.monotonic(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        if options.steps is not None:
            samples = soak_training(options.steps, Path(folder))
        elif options.serve:
            samples, grown_by = soak_page(options.scans, Path(folder), upload_mib=options.upload_mib)
            print(f"a file of {options.upload_mib} MiB: memory grew by {grown_by:.1f} MiB while it came")
        else:
            samples = soak(options.scans, Path(folder))
    print(f"{'done':>8}{'MiB':>10}{'files':>8}{'threads':>9}{'programs':>10}")
    for sample in samples[:: max(len(samples) // 10, 1)] + samples[-1:]:
        print(f"{sample.done:8}{sample.memory_mib:10.1f}{sample.files:8}{sample.threads:9}{sample.programs:10}")
    grown = growth(samples)
    later = samples[len(samples) // 4 :]
    # Pools end threads, a server closes its connections and a checkpoint its files when they like.
    files, threads, programs = ([getattr(s, name) for s in later] for name in ("files", "threads", "programs"))
    steady = max(files) - min(files) <= 8 and max(threads) <= 60 and len(set(programs)) == 1
    flat = steady and grown < MEMORY_GROWTH_MAX and grown_by < UPLOAD_GROWTH_MAX_MIB
    seconds, verdict = time.monotonic() - begin, "flat" if flat else "GREW"
    print(f"{samples[-1].done} in {seconds:.0f} s; memory grew by {grown:.2%}: {verdict}")
    return int(not flat)


if __name__ == "__main__":
    sys.exit(main())
