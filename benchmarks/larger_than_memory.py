"""Training and scoring of sets of growing size from disk: images per second and peak memory against their number.

python -m benchmarks.larger_than_memory [--images=1000,10000,100000] [--config=configs/msanet.py:cpu] [--out=FOLDER]

A few patients are simulated; their thorax images are written again and again under new names, until the set is as large
as asked. Every size is measured in a process of its own, whose peak memory stands in the table. `train`: iterations fed
from disk and on one cached batch, in turn; `pipeline`: the reading alone; `score`: what `msanet evaluate` does, with
metrics.json and pictures, on the first --scored images, by their uptake in place of a network. --imports measures
`msanet import` instead, on so many PNG scans and as many masks.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorflow as tf
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from PIL import Image

from benchmarks.pipeline import Batch, load_recipe, pipeline_rate
from benchmarks.tables import markdown_table, write_results
from data_pipeline import grid
from data_pipeline.batches import train_batches
from data_pipeline.features import Lazy, StoredScans, image_features
from data_pipeline.grid import GridSplit, on_field
from data_pipeline.pages.palette import BLUE
from data_pipeline.phantom.simulate import simulate_patient
from data_pipeline.phantom_examples import SET_MASKS, view_example
from data_pipeline.scan import THORAX_SIZE_PX
from msanet_jax.evaluation.evaluate import uptake_maps
from msanet_jax.report.figure import save
from msanet_jax.training.devices import compile_train_iteration, place_state
from msanet_jax.training.outcome import score_and_write
from msanet_jax.training.state import create_networks, create_state

IMAGES_PER_FILE = 10_000
ON_DISK = "BENCHMARK_ON_DISK"
UPTAKE_MAX = 10.0
"""Normalised uptake that counts as probability 1."""
DECIDING = 32
"""Images on which thresholds are chosen."""


def main() -> None:
    """Measures, prints JSON and writes JSON, Markdown and a plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="1000,10000,100000", help="sizes of the set (default: 1000,10000,100000)")
    parser.add_argument("--scored", type=int, default=1000, help="images that are scored at most (default: 1000)")
    parser.add_argument("--patients", type=int, default=4, help="really simulated, two views each (default: 4)")
    parser.add_argument("--side", type=int, default=THORAX_SIZE_PX, help="pixels of an image's side (default: 256)")
    parser.add_argument("--config", default="configs/msanet.py:cpu", help="recipe and variants")
    parser.add_argument("--steps", type=int, default=20, help="iterations of either kind; 0 for none (default: 20)")
    parser.add_argument("--on_disk", action="store_true", help="small sets, too, are scored from disk")
    parser.add_argument("--imports", default="", help="numbers of scans to import (default: none)")
    parser.add_argument("--folder", type=Path, help="where the sets are written (default: a temporary folder)")
    parser.add_argument("--out", type=Path, default=Path("benchmark_results"), help="folder of the results")
    options = parser.parse_args()
    load_recipe(options.config)
    records = simulate_records(options.patients, options.side)
    if options.imports:
        imports = [
            measure_import(int(word), records, options.side, options.folder) for word in options.imports.split(",")
        ]
        write_results(options.out, "import", data={"imports": imports}, page=markdown_table(imports))
        print(json.dumps(imports, indent=2))
        return
    if options.on_disk:
        os.environ[ON_DISK] = "1"  # the processes that measure inherit it
    rows = []
    for images in (int(word) for word in options.images.split(",")):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            written = write_set(Path(folder), records, images)
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
                measured = process.submit(
                    measure, options.config, Path(folder), options.side, steps=options.steps, scored=options.scored
                )
                rows.append({"images": images, **written, **measured.result()})
        print(json.dumps(rows[-1], indent=2), flush=True)
    result = {"config": options.config, "side_px": options.side, "sizes": rows}
    page = f"{markdown_table(rows)}\n![memory](larger_than_memory.png)\n"
    write_results(options.out, "larger_than_memory", data=result, page=page)
    draw(rows, options.out / "larger_than_memory.png")


def simulate_records(patients: int, side: int) -> list[bytes]:
    """Serialised examples of the patients' thorax images, of which a square in the middle is kept."""
    features, begin = image_features((side, side), SET_MASKS), (THORAX_SIZE_PX - side) // 2
    part, records = slice(begin, begin + side), []
    for index in range(patients):
        for view in simulate_patient(seed=0, index=index).views.values():
            example = view_example(view, "thorax")
            cut = {name: example[name][part, part] for name in ("counts", *SET_MASKS)}
            records.append(features.serialize_example(example | cut))
    return records


def write_set(folder: Path, records: Sequence[bytes], images: int) -> dict[str, Any]:
    """Writes `images` examples, the given ones in turn; two of them are a patient.

    Returns:
      `gib_on_disk`, and how many `written_per_second`.
    """
    begin, examples = time.perf_counter(), [tf.train.Example.FromString(record) for record in records]
    for first in range(0, images, IMAGES_PER_FILE):
        writer = ArrayRecordWriter(str(folder / f"{first:09d}.array_record"), "group_size:1")
        for number in range(first, min(first + IMAGES_PER_FILE, images)):
            named = examples[number % len(examples)]
            for key, value in (("image_id", f"image-{number}"), ("patient", f"patient-{number // 2}")):
                named.features.feature[key].bytes_list.value[0] = value.encode()
            writer.write(named.SerializeToString())
        writer.close()
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {"gib_on_disk": size / 2**30, "written_per_second": images / (time.perf_counter() - begin)}


def open_set(folder: Path, side: int) -> StoredScans:
    """The set that `write_set` wrote."""
    records = ArrayRecordDataSource([str(path) for path in sorted(folder.iterdir())])
    return StoredScans(
        records, np.arange(len(records)), image_features((side, side), SET_MASKS), SET_MASKS, str(folder)
    )


def measure(recipe: str, folder: Path, side: int, *, steps: int, scored: int) -> dict[str, Any]:
    """Rates and peaks of one set, in the order in which they are reached: opened, trained, scored."""
    config, stored = load_recipe(recipe), open_set(folder, side)
    config.data.image_size_px = min(side, config.data.image_size_px)
    result = {"opened_peak_mib": peak_mib()}
    if steps:
        result |= {**train(config, stored, steps=steps), "train_peak_mib": peak_mib()}
    return result | score(config, stored, min(scored, len(stored)))


def score(config: ConfigDict, stored: StoredScans, images: int) -> dict[str, Any]:
    """Images per second of the whole protocol, up to the files of `msanet evaluate`, and the peak."""
    begin, uptake = time.perf_counter(), uptake_maps(config.data.image_size_px)
    few = on_field(stored.part(range(min(DECIDING, len(stored)))), config.data)
    if os.environ.get(ON_DISK):
        grid.IN_MEMORY_BYTES = 0
    scored = _varied(on_field(stored.part(range(images)), config.data))
    with tempfile.TemporaryDirectory() as folder:
        metrics = score_and_write(
            lambda counts: np.minimum(uptake(counts) / UPTAKE_MAX, 1.0),
            {"train": few, "validation": few, "test": scored},
            folder=Path(folder),
            config=config,
            step=0,
            begin=begin,
        )
    assert metrics is not None
    return {
        "scored": images,
        "scored_from": "memory" if isinstance(scored.counts, np.ndarray) else "disk",
        "scored_per_second": images / (time.perf_counter() - begin),
        "score_peak_mib": peak_mib(),
        "scored_dsc_pooled": metrics.scores["dsc_pooled"],
        "scored_lesions": metrics.scores["lesions"],
    }


def train(config: ConfigDict, stored: StoredScans, *, steps: int) -> dict[str, Any]:
    """Images per second of the reading alone, of iterations fed by it, and of iterations on one cached batch."""
    split, batch, size = on_field(stored, config.data), config.train.batch_size, config.data.image_size_px

    def batches(number: int) -> Generator[Batch, None, None]:
        yield from train_batches(
            split, augment=config.augment, image_size_px=size, batch_size=batch, seed=0, first_batch=number
        )

    networks = create_networks(config, steps_per_epoch=10)
    iterate, state = compile_train_iteration(networks), place_state(create_state(networks))
    with contextlib.closing(batches(0)) as fed:
        cached = next(fed)
        state, metrics = iterate(state, cached)
        seconds = {}
        for name, source in (("cached", itertools.repeat(cached)), ("fed", fed)):
            begin = time.perf_counter()
            for one in itertools.islice(source, steps):
                state, metrics = iterate(state, one)
            jax.block_until_ready((state, metrics))
            seconds[name] = time.perf_counter() - begin
    return {
        "pipeline_images_per_second": batch * pipeline_rate(batches, count=steps),
        **{f"{name}_images_per_second": batch * steps / value for name, value in seconds.items()},
    }


def _varied(split: GridSplit) -> GridSplit:
    """Every image gets noise of its own: of repeated images the scores would be repeated, too."""

    def noisy(number: int) -> np.ndarray:
        counts = split.counts[number]
        return counts + np.random.default_rng(number).integers(0, 2, counts.shape, np.uint8)

    counts = Lazy(len(split), noisy)
    return dataclasses.replace(split, counts=counts if isinstance(split.counts, Lazy) else np.stack([*counts]))


def measure_import(scans: int, records: Sequence[bytes], side: int, place: Path | None) -> dict[str, Any]:
    """Seconds and peak of `msanet import` of so many scans of 16 bit, each with a mask."""
    features, random = image_features((side, side), SET_MASKS), np.random.default_rng(0)
    examples = [features.deserialize_example_np(record) for record in records]
    with tempfile.TemporaryDirectory(dir=place) as folder:
        source = Path(folder, "scans")
        source.mkdir()
        for number in range(scans):
            example = examples[number % len(examples)]
            counts = random.poisson(example["counts"]).astype(np.uint16)
            Image.fromarray(counts).save(source / f"patient{number // 2:05d}_{example['view'].decode()}.png")
            Image.fromarray(example["lesions"]).save(
                source / f"patient{number // 2:05d}_{example['view'].decode()}_mask.png"
            )
        begin = time.perf_counter()
        command = [sys.executable, "-c", _IMPORT, "import", str(source), f"--out={folder}/set", "--quiet"]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - begin
    processor, peak = (float(word) for word in ended.stdout.split())
    return {"scans": scans, "files": 2 * scans, "seconds": seconds, "processor_seconds": processor, "peak_mib": peak}


_IMPORT = """
import sys, time
from msanet_jax.cli import main
main(sys.argv[1:])
status = open("/proc/self/status").read()
print(time.process_time(), int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""


def peak_mib() -> float:
    """The most memory that this process ever had."""
    status = Path("/proc/self/status")
    if status.exists():  # the other figure may be that of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Peak memory over the size of the set."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for key, style in (("train_peak_mib", "o-"), ("score_peak_mib", "s--")):
        known = [row for row in rows if key in row]
        axes.plot([row["images"] for row in known], [row[key] for row in known], style, color=BLUE, label=key)
    axes.set(xscale="log", xlabel="images of the set", ylabel="peak memory of the process, MiB")
    axes.set_ylim(bottom=0.0)
    axes.grid(alpha=0.25)
    axes.legend()
    save(figure, path)


if __name__ == "__main__":
    main()
