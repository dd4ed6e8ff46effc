"""The tf.data pipeline against the training iteration: whether it keeps up, what it costs, whether memory grows.

python -m benchmarks.pipeline --config=configs/msanet.py:cpu [--steps=200] [--out=FOLDER]

Prints JSON: batches per second of the pipeline alone and of the iteration on one cached batch, their ratio
(`pipeline_headroom`), what a run fed by the pipeline takes longer than one on the cached batch (`pipeline_cost`, from
interleaved stretches of steps), and the process's memory along the run (`memory_mib`, `memory_growth_mib`).
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.tables import markdown_table, write_results
from data_pipeline.batches import steps_per_epoch, train_batches
from data_pipeline.folds import load_splits
from msanet_jax.devices import compile_train_iteration, describe_devices, place_state
from msanet_jax.huge_pages import restart_with_huge_pages
from msanet_jax.state import create_networks, create_state

STRETCH_STEPS = 10
"""Steps between two switches from the cached batch to the pipeline and back."""


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/msanet.py:cpu", help="recipe and variants")
    parser.add_argument("--steps", type=int, default=200, help="steps fed by the pipeline (default: 200)")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--out", type=Path, default=Path("benchmark_results"), help="folder of the results")
    options = parser.parse_args()
    config = load_recipe(options.config)
    result = {"config": options.config, "devices": describe_devices(), **measure(config, options)}
    print(json.dumps(result, indent=2))
    row = {key: value for key, value in result.items() if key != "memory_mib"}
    write_results(options.out, "pipeline", data=result, page=markdown_table([row]))


def load_recipe(text: str) -> ConfigDict:
    """A recipe by `FILE:VARIANTS`."""
    path, _, variants = text.partition(":")
    spec = importlib.util.spec_from_file_location("recipe", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"--config={text}: no such recipe")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config: ConfigDict = module.get_config(variants)
    return config


def measure(config: ConfigDict, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one recipe."""
    training = load_splits(config.data, options.data_dir)["train"]
    networks = create_networks(config, steps_per_epoch=steps_per_epoch(len(training.rows), config.train.batch_size))
    iterate, state = compile_train_iteration(networks), [place_state(create_state(networks))]

    def batches() -> Iterator[Mapping[str, np.ndarray]]:
        return train_batches(
            training, data=config.data, augment=config.augment, batch_size=config.train.batch_size, seed=config.seed
        )

    def step(batch: Mapping[str, np.ndarray]) -> None:
        state[0], metrics = iterate(state[0], batch)
        jax.block_until_ready(metrics)

    fed = batches()
    cached = next(fed)
    step(cached)
    alone = pipeline_rate(batches(), count=min(options.steps, 50))
    cached_seconds, fed_seconds, memory = [], [], [resident_mib()]
    for _ in range(options.steps // STRETCH_STEPS):
        cached_seconds.append(stretch(step, itertools.repeat(cached)))
        fed_seconds.append(stretch(step, fed))
        memory.append(resident_mib())
    iteration_rate = STRETCH_STEPS / float(np.median(cached_seconds))
    half = len(memory) // 2
    return {
        "pipeline_batches_per_second": alone,
        "iterations_per_second": iteration_rate,
        "pipeline_headroom": alone / iteration_rate,
        "pipeline_cost": float(np.median(np.array(fed_seconds) / np.array(cached_seconds))) - 1.0,
        "memory_growth_mib": float(np.median(memory[half:]) - np.median(memory[1 : half + 1])),
        "memory_mib": memory,
    }


def pipeline_rate(batches: Iterator[Mapping[str, np.ndarray]], *, count: int) -> float:
    """Batches per second when nothing else happens, after the first ten, which fill the queues."""
    for _ in range(10):
        next(batches)
    begin = time.perf_counter()
    for _ in range(count):
        next(batches)
    return count / (time.perf_counter() - begin)


def stretch(step: Callable[[Mapping[str, np.ndarray]], None], batches: Iterator[Mapping[str, np.ndarray]]) -> float:
    """Seconds of `STRETCH_STEPS` steps."""
    begin = time.perf_counter()
    for batch in itertools.islice(batches, STRETCH_STEPS):
        step(batch)
    return time.perf_counter() - begin


def resident_mib() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


if __name__ == "__main__":
    restart_with_huge_pages()
    main()
