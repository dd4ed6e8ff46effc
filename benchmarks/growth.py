"""How time and memory of an iteration and of inference grow with pixels, batch and width.

python -m benchmarks.growth [--config=configs/msanet.py] [--quick] [--out=FOLDER]

For each point: milliseconds of the alternating iteration and of inference (median), and the compiler's count of working
memory. `per_pixel` is time over pixels relative to the middle of the sweep: 1 everywhere means linear.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from benchmarks.pipeline import load_recipe
from benchmarks.tables import markdown_table, write_results
from msanet_jax.devices import describe_devices
from msanet_jax.huge_pages import restart_with_huge_pages
from msanet_jax.state import create_networks, create_state
from msanet_jax.steps import evaluation_step, train_iteration

SWEEPS = {"side_px": (128, 256, 384), "batch": (2, 4, 8), "width": (8, 16, 32)}
"""What is varied, the middle value being held in the other sweeps."""
REPEATS = 5


def main() -> None:
    """Measures, prints and writes JSON, Markdown and a plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/msanet.py", help="recipe and variants")
    parser.add_argument("--quick", action="store_true", help="a quarter of the pixels")
    parser.add_argument("--out", type=Path, default=Path("benchmark_results"), help="folder of the results")
    options = parser.parse_args()
    rows = sweep(options.config, divisor=2 if options.quick else 1)
    result = {"devices": describe_devices(), "rows": rows}
    print(json.dumps(result, indent=2))
    write_results(options.out, "growth", data=result, page=f"{result['devices']}\n\n{markdown_table(rows)}")
    draw(rows, options.out / "growth.png")


def sweep(recipe: str, *, divisor: int) -> list[dict[str, Any]]:
    """A row per point of every sweep."""
    middle = {name: values[len(values) // 2] for name, values in SWEEPS.items()}
    measured: dict[tuple[int, ...], dict[str, Any]] = {}
    rows = []
    for name, values in SWEEPS.items():
        points = [{**middle, name: value} for value in values]
        for point in points:
            if (key := tuple(point.values())) not in measured:
                measured[key] = measure(load_recipe(recipe), **{**point, "side_px": point["side_px"] // divisor})
        reference = measured[tuple(middle.values())]
        for point in points:
            found = measured[tuple(point.values())]
            share = found["pixels"] / reference["pixels"]
            relative = {
                f"{kind}_per_pixel": found[f"{kind}_ms"] / reference[f"{kind}_ms"] / share
                for kind in ("train", "inference")
            }
            rows.append({"varied": name, **point, "side_px": point["side_px"] // divisor, **found, **relative})
    return rows


def measure(config: ConfigDict, *, side_px: int, batch: int, width: int) -> dict[str, Any]:
    """One point."""
    config.data.image_size_px, config.train.batch_size, config.generator.width = side_px, batch, width
    networks = create_networks(config, steps_per_epoch=10)
    state = create_state(networks)
    random = np.random.default_rng(0)
    image = random.normal(1.0, 0.3, (batch, side_px, side_px, 1)).astype(np.float32)
    inputs = {"image": image, "mask": (image > 1.6).astype(np.float32)}
    train = jax.jit(lambda s, b: train_iteration(networks, s, b, mapped=False)).lower(state, inputs).compile()
    inference = jax.jit(lambda s, x: evaluation_step(networks, s, x)).lower(state, image).compile()
    return {
        "pixels": batch * side_px**2,
        "train_ms": _median_ms(lambda: train(state, inputs)),
        "inference_ms": _median_ms(lambda: inference(state, image)),
        "train_memory_mib": train.memory_analysis().temp_size_in_bytes / 2**20,
        "inference_memory_mib": inference.memory_analysis().temp_size_in_bytes / 2**20,
    }


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Time and memory of every sweep, on logarithmic axes, beside a line of slope 1."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots(2, len(SWEEPS), sharey="row")
    for column, name in enumerate(SWEEPS):
        chosen = [row for row in rows if row["varied"] == name]
        x = [row["pixels"] if name != "width" else row["width"] for row in chosen]
        for panel, unit in ((axes[0][column], "ms"), (axes[1][column], "memory_mib")):
            for kind, colour in (("train", "#0072B2"), ("inference", "#D55E00")):
                y = [row[f"{kind}_{unit}"] for row in chosen]
                panel.loglog(x, y, "o-", color=colour, label=kind)
                panel.loglog(x, [y[len(y) // 2] * value / x[len(x) // 2] for value in x], ":", color="0.6")
            panel.set_xlabel("pixels in a batch" if name != "width" else "width")
        axes[0][column].set_title(f"varied: {name}")
    axes[0][0].set_ylabel("ms")
    axes[1][0].set_ylabel("MiB")
    axes[0][0].legend()
    FigureCanvasAgg(figure).print_png(path)


def _median_ms(function: Callable[[], object]) -> float:
    jax.block_until_ready(function())
    durations = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        jax.block_until_ready(function())
        durations.append(1e3 * (time.perf_counter() - begin))
    return float(np.median(durations))


if __name__ == "__main__":
    restart_with_huge_pages()
    main()
