"""The tf.data pipeline against the training iteration: whether it keeps up, what it costs, whether memory grows.

python -m benchmarks.pipeline --config=configs/msanet.py:cpu [--steps=1000] [--pairs=10] [--out=FOLDER]

Prints JSON: batches per second of the pipeline alone and of the iteration on one cached batch, their ratio
(`pipeline_headroom`); what a run fed by the pipeline takes longer than one on the cached batch (`pipeline_cost`, the
median over stretches in turn, with 10th and 90th percentile); and the process's memory along a run of --steps steps
(`memory_mib`, `memory_growth_mib`), which is also drawn (pipeline.png).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from tqdm import tqdm

from benchmarks.tables import markdown_table, write_results
from data_pipeline.batches import train_batches
from data_pipeline.errors import RequestError
from data_pipeline.folds import load_splits
from data_pipeline.pages.palette import BLUE
from msanet_jax.report.figure import save
from msanet_jax.runs.recipe import read_recipe
from msanet_jax.runtime.huge_pages import restart_with_huge_pages
from msanet_jax.training.devices import compile_train_iteration, describe_devices, place_state
from msanet_jax.training.state import create_networks, create_state

STRETCH_STEPS = 20
"""Measured steps between two switches from the cached batch to the pipeline and back."""
WARMUP_STEPS = 5
"""Unmeasured steps after every switch."""
MEMORY_STEPS = 10
"""Steps between two looks at the memory."""

Batch = Mapping[str, np.ndarray]
Source = Callable[[int], Generator[Batch, None, None]]
"""Starts an iterator at a batch number; closing it ends the pipeline behind it."""
Train = Callable[[Iterator[Batch], int], float]
"""Trains on so many batches and returns the seconds."""


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/msanet.py:cpu", help="recipe and variants")
    parser.add_argument("--steps", type=int, default=1000, help="steps along which memory is watched (default: 1000)")
    parser.add_argument("--pairs", type=int, default=10, help="stretches of either kind (default: 10)")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--out", type=Path, default=Path("benchmark_results"), help="folder of the results")
    options = parser.parse_args()
    config = load_recipe(options.config)
    training = load_splits(config.data, options.data_dir)["train"]

    def batches(number: int) -> Generator[Batch, None, None]:
        yield from train_batches(
            training,
            augment=config.augment,
            image_size_px=config.data.image_size_px,
            batch_size=config.train.batch_size,
            seed=config.seed,
            first_batch=number,
        )

    measured = measure(config, batches, steps=options.steps, pairs=options.pairs)
    result = {"config": options.config, "devices": describe_devices(), **measured}
    print(json.dumps(result, indent=2))
    row = {key: value for key, value in result.items() if not key.startswith(("memory_mib", "memory_steps"))}
    write_results(options.out, "pipeline", data=result, page=f"{markdown_table([row])}\n![memory](pipeline.png)\n")
    draw(result, options.out / "pipeline.png")


def load_recipe(text: str) -> ConfigDict:
    """A recipe by `FILE:VARIANTS`.

    Exits:
      2, with a message, where there is none.
    """
    try:
        return read_recipe(text)
    except RequestError as error:  # no file, no variant of that name
        print(f"--config={text}: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def measure(config: ConfigDict, batches: Source, *, steps: int, pairs: int) -> dict[str, Any]:
    """The figures of one recipe.

    Args:
      config: the recipe.
      batches: starts a new iterator at a batch number.
      steps: fed by one iterator while memory is watched.
      pairs: of stretches on the cached batch and fed by the pipeline.
    """
    networks = create_networks(config, steps_per_epoch=10)
    iterate, state = compile_train_iteration(networks), [place_state(create_state(networks))]

    def train(fed: Iterator[Batch], count: int) -> float:
        """Seconds of `count` steps; waits once, at the end, so that a step may begin while the last one runs."""
        begin = time.perf_counter()
        for batch in itertools.islice(fed, count):
            state[0], metrics = iterate(state[0], batch)
        jax.block_until_ready((state[0], metrics))
        return time.perf_counter() - begin

    cached = first(batches)
    train(itertools.repeat(cached), 1)
    alone = pipeline_rate(batches, count=min(steps, 50))
    cached_seconds, fed_seconds = stretches(train, cached, batches, pairs=pairs)
    memory = watch_memory(train, batches, steps=steps)
    iteration_rate = STRETCH_STEPS / float(np.median(cached_seconds))
    costs = np.array(fed_seconds) / np.array(cached_seconds) - 1.0
    return {
        "pipeline_batches_per_second": alone,
        "iterations_per_second": iteration_rate,
        "pipeline_headroom": alone / iteration_rate,
        "pipeline_cost": float(np.median(costs)),
        "pipeline_cost_spread": [float(cost) for cost in np.quantile(costs, [0.1, 0.9])],
        "memory_growth_mib": growth(memory),
        "memory_steps": list(range(0, steps + 1, MEMORY_STEPS)),
        "memory_mib": memory,
    }


def stretches(train: Train, cached: Batch, batches: Source, *, pairs: int) -> tuple[list[float], list[float]]:
    """Seconds of `STRETCH_STEPS` steps on the cached batch and fed by the pipeline, in turn, `pairs` of each.

    No pipeline exists during a cached stretch, or it would work ahead at its cost. Each fed stretch has a new one,
    whose queues reach their usual level in `WARMUP_STEPS` unmeasured steps.
    """
    cached_seconds, fed_seconds = [], []
    for pair in range(pairs):
        train(itertools.repeat(cached), WARMUP_STEPS)
        cached_seconds.append(train(itertools.repeat(cached), STRETCH_STEPS))
        with contextlib.closing(batches(pair * (WARMUP_STEPS + STRETCH_STEPS))) as fed:
            train(fed, WARMUP_STEPS)
            fed_seconds.append(train(fed, STRETCH_STEPS))
    return cached_seconds, fed_seconds


def watch_memory(train: Train, batches: Source, *, steps: int) -> list[float]:
    """Memory of the process in MiB before the first and after every `MEMORY_STEPS` of `steps` steps."""
    with contextlib.closing(batches(0)) as fed:
        train(fed, WARMUP_STEPS)
        memory = [resident_mib()]
        for _ in tqdm(range(steps // MEMORY_STEPS), desc="memory", disable=None):
            train(fed, MEMORY_STEPS)
            memory.append(resident_mib())
    return memory


def growth(memory: Sequence[float]) -> float:
    """Median of the second half less that of the first, the start left out."""
    later = memory[1:]
    half = len(later) // 2
    return float(np.median(later[half:]) - np.median(later[:half] or later))


def first(batches: Source) -> Batch:
    """The first batch of an iterator that is given up again."""
    with contextlib.closing(batches(0)) as fed:
        return next(fed)


def pipeline_rate(batches: Source, *, count: int) -> float:
    """Batches per second when nothing else happens, after the first ten, which fill the queues."""
    with contextlib.closing(batches(0)) as fed:
        for _ in range(10):
            next(fed)
        begin = time.perf_counter()
        for _ in range(count):
            next(fed)
        return count / (time.perf_counter() - begin)


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Memory over the steps."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(result["memory_steps"], result["memory_mib"], color=BLUE)
    axes.set_ylim(bottom=0.0, top=1.15 * max(result["memory_mib"]))
    axes.set_xlim(0, max(1, result["memory_steps"][-1]))
    axes.set_xlabel("steps fed by the pipeline")
    axes.set_ylabel("memory of the process, MiB")
    axes.set_title(f"second half less first: {result['memory_growth_mib']:+.1f} MiB", fontsize=10)
    axes.grid(alpha=0.25)
    save(figure, path)


def resident_mib() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


if __name__ == "__main__":
    restart_with_huge_pages()
    main()
