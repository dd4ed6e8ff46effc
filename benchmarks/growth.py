"""How time and memory grow: of an iteration and of inference with pixels, batch and width, of prediction with scans.

python -m benchmarks.growth [--config=configs/msanet.py] [--quick] [--out=FOLDER]

For each point: milliseconds of the alternating iteration and of inference (median), and the compiler's count of working
memory. `..._per_pixel` is time or memory over pixels relative to the middle of the sweep: 1 everywhere means linear.
`scans` is `msanet predict` over so many simulated whole-body scans (as in benchmarks/predict.py): seconds, peak memory
of the process, and seconds per scan relative to the middle.

`verdicts` says of each sweep whether it is linear: the largest distance of the relative figures from 1
(`deviation_max`) and whether that is `within_10_percent`. Memory over scans is held to be flat instead.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from benchmarks.pipeline import load_recipe
from benchmarks.streaming import Template, as_model, load, simulate_templates, stream, write_scans
from benchmarks.tables import markdown_table, write_results
from data_pipeline.pages.palette import BLUE, ORANGE
from msanet_jax.report.figure import save
from msanet_jax.runtime.huge_pages import restart_with_huge_pages
from msanet_jax.trained.model import Model
from msanet_jax.training.devices import describe_devices
from msanet_jax.training.state import create_networks, create_state
from msanet_jax.training.steps import evaluation_step, train_iteration

SWEEPS = {"side_px": (128, 256, 384), "batch": (2, 4, 8), "width": (8, 16, 32)}
"""What is varied, the middle value being held in the other sweeps."""
SCANS = (25, 50, 100)
"""Whole-body scans in one prediction."""
PATIENTS = 4
"""Simulated for them."""
REPEATS = 5
TOLERANCE = 0.1
"""Of what counts as linear, and as flat."""
FIGURES = ("train", "inference", "train_memory", "inference_memory")


def main() -> None:
    """Measures, prints and writes JSON, Markdown and a plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/msanet.py", help="recipe and variants")
    parser.add_argument("--quick", action="store_true", help="a quarter of the pixels")
    parser.add_argument("--out", type=Path, default=Path("benchmark_results"), help="folder of the results")
    options = parser.parse_args()
    divisor = 2 if options.quick else 1
    rows = sweep(options.config, divisor=divisor)
    model = as_model(*load(load_recipe(options.config), None))
    counts = [count // divisor for count in SCANS]
    scans = sweep_scans(model, simulate_templates(PATIENTS), counts)
    result = {"devices": describe_devices(), "rows": rows, "scans": scans, "verdicts": verdicts(rows, scans)}
    print(json.dumps(result, indent=2))
    write_results(options.out, "growth", data=result, page=_page(result))
    draw(rows, scans, options.out / "growth.png")


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
            relative = {f"{name}_per_pixel": found[_key(name)] / reference[_key(name)] / share for name in FIGURES}
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
        "train_memory_mib": _working_mib(train),
        "inference_memory_mib": _working_mib(inference),
    }


def sweep_scans(model: Model, templates: Sequence[Template], counts: Sequence[int]) -> list[dict[str, Any]]:
    """A row per number of scans in one prediction."""
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        # One prediction that is not measured: what is loaded on first use would count for the first row alone.
        for count in (min(counts), *counts):
            scans, results = Path(folder, f"scans_{count}"), Path(folder, f"results_{count}")
            write_scans(scans, templates, count)
            found = stream(model, scans, results)
            rows.append({key: found[key] for key in ("scans", "seconds", "scans_per_second", "memory_peak_mib")})
    rows = rows[1:]
    middle = rows[len(rows) // 2]
    return [
        {
            **row,
            "seconds_per_scan": row["seconds"] / middle["seconds"] * middle["scans"] / row["scans"],
            "memory_peak_relative": row["memory_peak_mib"] / middle["memory_peak_mib"],
        }
        for row in rows
    ]


def verdicts(rows: Sequence[dict[str, Any]], scans: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By what is varied and what is measured: how far from linear (memory over scans: from flat) it is.

    Args:
      rows: of `sweep`; width is left out, which is not linear in pixels by design.
      scans: of `sweep_scans`.
    """
    found = {
        f"{varied}, {name}": [row[f"{name}_per_pixel"] for row in rows if row["varied"] == varied]
        for varied in ("side_px", "batch")
        for name in FIGURES
    }
    found["scans, seconds"] = [row["seconds_per_scan"] for row in scans]
    found["scans, memory (flat)"] = [row["memory_peak_relative"] for row in scans]
    deviations = {name: max(abs(value - 1.0) for value in values) for name, values in found.items()}
    return {
        name: {"deviation_max": deviation, "within_10_percent": deviation <= TOLERANCE}
        for name, deviation in deviations.items()
    }


def draw(rows: Sequence[dict[str, Any]], scans: Sequence[dict[str, Any]], path: Path) -> None:
    """Time and memory of every sweep, on logarithmic axes beside a line of slope 1; on the right over scans."""
    figure = Figure(figsize=(12, 6), layout="constrained")
    axes = figure.subplots(2, len(SWEEPS) + 1)
    for column, name in enumerate(SWEEPS):
        chosen = [row for row in rows if row["varied"] == name]
        x = [row["pixels"] if name != "width" else row["width"] for row in chosen]
        for panel, unit in ((axes[0][column], "ms"), (axes[1][column], "memory_mib")):
            for kind, colour in (("train", BLUE), ("inference", ORANGE)):
                y = [row[f"{kind}_{unit}"] for row in chosen]
                panel.loglog(x, y, "o-", color=colour, label=kind)
                panel.loglog(x, [y[len(y) // 2] * value / x[len(x) // 2] for value in x], ":", color="0.6")
            panel.set_xlabel("pixels in a batch" if name != "width" else "width")
        axes[0][column].set_title(f"varied: {name}")
    axes[0][0].set_ylabel("ms")
    axes[1][0].set_ylabel("MiB")
    axes[0][0].legend()
    counts, seconds = [row["scans"] for row in scans], [row["seconds"] for row in scans]
    time_panel, memory_panel = axes[0][-1], axes[1][-1]
    time_panel.plot(counts, seconds, "o-", color=BLUE)
    middle = len(counts) // 2
    time_panel.plot(counts, [seconds[middle] * count / counts[middle] for count in counts], ":", color="0.6")
    time_panel.set_ylim(bottom=0.0)
    time_panel.set_title("varied: scans")
    time_panel.set_ylabel("seconds of prediction")
    memory_panel.plot(counts, [row["memory_peak_mib"] for row in scans], "o-", color=BLUE)
    memory_panel.set_ylim(bottom=0.0, top=1.2 * max(row["memory_peak_mib"] for row in scans))
    memory_panel.set_ylabel("peak of the process, MiB")
    memory_panel.set_xlabel("scans")
    for panels in axes.T:
        ticks = sorted({float(value) for line in panels[0].lines for value in line.get_xdata()})
        for panel in panels:
            panel.set_xticks(ticks, [f"{tick:.3g}" if tick < 1e4 else f"{tick / 1e3:.0f}k" for tick in ticks])
            panel.minorticks_off()
    for line in axes[:, : len(SWEEPS)]:
        for panel in line[1:]:
            panel.sharey(line[0])
    save(figure, path)


def _key(name: str) -> str:
    return f"{name}_mib" if name.endswith("memory") else f"{name}_ms"


def _page(result: dict[str, Any]) -> str:
    judged = [{"varied, measured": name, **verdict} for name, verdict in result["verdicts"].items()]
    tables = (result["rows"], result["scans"], judged)
    return "\n".join([f"{result['devices']}\n", *map(markdown_table, tables), "![growth](growth.png)\n"])


def _working_mib(program: jax.stages.Compiled) -> float:
    memory = program.memory_analysis()
    return float("nan") if memory is None else memory.temp_size_in_bytes / 2**20


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
