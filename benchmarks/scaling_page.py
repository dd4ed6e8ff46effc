"""Rows of `benchmarks.devices` joined over starts, as a page and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from matplotlib.figure import Figure

from benchmarks.tables import markdown_table
from data_pipeline.pages.palette import BLUE, ORANGE
from msanet_jax.report.figure import save

KEY = ("scaling", "form", "dtype", "devices", "hosts", "kind", "global_batch")
"""What makes two rows measurements of the same thing."""

COLOURS = {"pmap": BLUE, "shard_map": ORANGE}
STYLES = {"float32": "-", "bfloat16": "--"}


def merge(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """New rows in place of old ones that measured the same thing; sorted."""
    joined = {tuple(row[key] for key in KEY): row for row in [*old, *new]}
    return [joined[key] for key in sorted(joined)]


def with_efficiency(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds `speedup`, images/s over those of the fewest devices n0, and `efficiency`, speedup over n / n0."""
    series: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        series.setdefault(_series(row), []).append(row)
    out = []
    for row in rows:
        first = min(series[_series(row)], key=lambda other: other["devices"])
        speedup = row["images_per_s"] / first["images_per_s"]
        out.append(row | {"speedup": speedup, "efficiency": speedup * first["devices"] / row["devices"]})
    return out


def _series(row: dict[str, Any]) -> tuple[Any, ...]:
    images = row["global_batch"] // (row["devices"] if row["scaling"] == "weak" else 1)
    return row["scaling"], row["form"], row["dtype"], row["kind"], images


def page(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown, with how they were measured."""
    simulated = (
        "\nThe CPU devices are simulated and share the same cores: `speedup` cannot rise much, and what it loses is "
        "the cost of splitting; `efficiency` means something on real devices only.\n"
        if any(row["platform"] == "cpu" for row in rows)
        else ""
    )
    table = [
        {
            "scaling": row["scaling"],
            "form": row["form"],
            "dtype": row["dtype"],
            "devices": row["devices"],
            "hosts": row["hosts"],
            "global batch": row["global_batch"],
            "step ms (fastest to slowest)": f"{1e3 * row['median_s']:.1f} ({1e3 * row['fastest_s']:.1f} to "
            f"{1e3 * row['slowest_s']:.1f})",
            "images/s": row["images_per_s"],
            "speedup": row["speedup"],
            "efficiency": row["efficiency"],
            "in collectives": f"{row['collectives_share']:.0%}",
            "memory per device, MiB": "" if row["memory_bytes"] is None else f"{row['memory_bytes'] / 2**20:.0f}",
        }
        for row in rows
    ]
    kinds = ", ".join(sorted({f"{row['platform']} {row['kind']}" for row in rows}))
    return (
        f"# Scaling over devices ({kinds}, jax {jax.__version__})\n\nThe train iteration as it is, on one batch that "
        "lies on the devices. Weak: the batch of each device stays; strong: the whole batch stays. Time in "
        "collectives: the difference to the same iteration without them, waiting included (below zero: noise). "
        f"Memory: what the compiler plans.\n{simulated}\n"
        f"{markdown_table(table)}\n![scaling](devices.png)\n"
    )


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Images/s, share of collectives and memory over the number of devices."""
    scalings = [scaling for scaling in ("weak", "strong") if any(row["scaling"] == scaling for row in rows)]
    figure = Figure(figsize=(11, 0.4 + 3.0 * len(scalings)), layout="constrained")
    panels = figure.subplots(len(scalings), 3, sharex=True, squeeze=False)
    for line, scaling in zip(panels, scalings, strict=True):
        chosen = [row for row in rows if row["scaling"] == scaling]
        for key in sorted({_series(row) for row in chosen}):
            points = sorted((row for row in chosen if _series(row) == key), key=lambda row: row["devices"])
            look = {"color": COLOURS[key[1]], "linestyle": STYLES.get(key[2], ":"), "marker": "o", "markersize": 4}
            counts = [row["devices"] for row in points]
            line[0].plot(counts, [row["images_per_s"] for row in points], label=f"{key[1]}, {key[2]}", **look)
            line[1].plot(counts, [100 * row["collectives_share"] for row in points], **look)
            if all(row["memory_bytes"] is not None for row in points):
                line[2].plot(counts, [row["memory_bytes"] / 2**20 for row in points], **look)
        line[0].set_ylabel(f"{scaling} scaling")
        for axes, title in zip(
            line, ("images/s", "% of the step in collectives", "memory per device, MiB"), strict=True
        ):
            axes.set_title(title, fontsize=10)
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]), top=1.05 * axes.get_ylim()[1])
            axes.grid(alpha=0.25)
            axes.set_xscale("log", base=2)
            axes.set_xticks(
                sorted({row["devices"] for row in rows}), [str(n) for n in sorted({r["devices"] for r in rows})]
            )
            axes.minorticks_off()
    for axes in panels[-1]:
        axes.set_xlabel("devices")
    panels[0, 0].legend(fontsize=8, frameon=False)
    simulated = any(row["platform"] == "cpu" for row in rows)
    figure.suptitle("simulated devices that share the cores of one machine" if simulated else "", fontsize=9)
    save(figure, path)
