"""Pictures of the protocol's curves: reliability, precision-recall, FROC, lesions by size. Imports no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from msanet_jax.evaluation.protocol import Evaluation
from msanet_jax.report.figure import BLUE, ORANGE, save

FACETS = ("isolated", "clustered")
FALSE_POSITIVES_SHOWN = 10.0


def write_score_plots(folder: Path, evaluation: Evaluation, footer: str) -> None:
    """Writes reliability.png, precision_recall.png, froc.png and lesion_size.png."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_reliability(folder / "reliability.png", evaluation, footer)
    _write_precision_recall(folder / "precision_recall.png", evaluation, footer)
    _write_froc(folder / "froc.png", evaluation, footer)
    _write_lesion_size(folder / "lesion_size.png", evaluation, footer)


def _write_reliability(path: Path, evaluation: Evaluation, footer: str) -> None:
    """Share of lesion pixels against mean probability, a point per bin, over the number of pixels."""
    bins = evaluation.curves["calibration"]
    figure = Figure(figsize=(5.6, 6.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = [entry for entry in bins if entry["pixels"]]
    upper.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="perfect")
    upper.plot(
        [entry["probability_mean"] for entry in filled],
        [entry["lesion_share"] for entry in filled],
        color=BLUE,
        marker="o",
        markersize=4,
        label="network",
    )
    upper.set(ylabel="share of lesion pixels", xlim=(0, 1), ylim=(0, 1))
    upper.legend(frameon=False, fontsize=9, loc="upper left")
    lower.bar(
        [entry["from"] for entry in bins],
        [entry["pixels"] for entry in bins],
        width=[entry["to"] - entry["from"] for entry in bins],
        align="edge",
        color=BLUE,
        edgecolor="white",
    )
    lower.set(xlabel="predicted probability", ylabel="pixels", yscale="log")
    summary = evaluation.summary
    upper.set_title(
        f"calibration error {_with_interval(summary, 'ece', 4)}\n"
        f"above the lowest bin {_with_interval(summary, 'ece_above_lowest_bin')}",
        fontsize=10,
    )
    _finish(figure, path, footer, upper, lower)


def _write_precision_recall(path: Path, evaluation: Evaluation, footer: str) -> None:
    curve, summary = evaluation.curves["precision_recall"], evaluation.summary
    figure = Figure(figsize=(5.6, 5.0), layout="constrained")
    axes = figure.subplots()
    for dsc in (0.2, 0.4, 0.6, 0.8):
        recall = np.linspace(dsc / (2 - dsc), 1.0, 500)
        axes.plot(recall, dsc * recall / (2 * recall - dsc), color="0.85", linewidth=1, zorder=0)
        axes.text(1.0, dsc / (2 - dsc), f"DSC {dsc:g} ", color="0.6", fontsize=8, ha="right", va="bottom")
    axes.plot(curve["recall"], curve["precision"], color=BLUE, label="network, all thresholds")
    axes.plot(
        summary["recall_pooled"],
        summary["precision_pooled"],
        "o",
        color=ORANGE,
        label=f"threshold {summary['threshold']:g}: DSC {summary['dsc_pooled']:.3f}",
    )
    axes.set(xlabel="recall (pixels)", ylabel="precision (pixels)", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"average precision {_with_interval(summary, 'average_precision')}", fontsize=10)
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    _finish(figure, path, footer, axes)


def _write_froc(path: Path, evaluation: Evaluation, footer: str) -> None:
    """Sensitivity against false positives per scan as steps, with the intervals at the operating points."""
    curve, summary = evaluation.curves["froc"], evaluation.summary
    figure = Figure(figsize=(5.6, 5.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        curve["false_positives_per_image"],
        curve["sensitivity"],
        color=BLUE,
        label=f"peaks of the map, {summary['lesions']} lesions",
    )
    right = max(FALSE_POSITIVES_SHOWN, 1.2 * curve["operating_points"][-1]["false_positives_per_image"])
    if curve["false_positives_per_image"][-1] < right:  # no candidates are left: more are allowed, none is found
        axes.plot([curve["false_positives_per_image"][-1], right], [curve["sensitivity"][-1]] * 2, ":", color=BLUE)
    points = [point for point in curve["operating_points"] if np.isfinite(point["sensitivity"])]
    for point in points:
        _bar(axes, point["false_positives_per_image"], point["interval"], BLUE)
    axes.plot(
        [point["false_positives_per_image"] for point in points],
        [point["sensitivity"] for point in points],
        "o",
        color=BLUE,
        markersize=4,
        label="operating points, 95 % intervals",
    )
    axes.plot(
        summary["false_positives_per_image"],
        summary["lesion_recall"],
        "D",
        color=ORANGE,
        label=f"components at threshold {summary['threshold']:g}",
    )
    axes.set_xscale("symlog", linthresh=0.25, linscale=0.5)
    ticks = [0.0, *(point["false_positives_per_image"] for point in points)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="false positives per scan", ylabel="lesion recall", ylim=(0, 1.02))
    axes.set_xlim(0, right)
    axes.set_title(f"FROC score {_with_interval(summary, 'froc_score')}", fontsize=10)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    _finish(figure, path, footer, axes)


def _write_lesion_size(path: Path, evaluation: Evaluation, footer: str) -> None:
    """DSC of every lesion over its size, isolated and clustered apart, and recall and mean DSC per size bin."""
    lesions = [row for row in evaluation.lesions if row["size_mm"] is not None]
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    cloud, binned = figure.subplots(1, 2)
    for name, colour in zip(FACETS, (BLUE, ORANGE), strict=True):
        chosen = [row for row in lesions if row["clustered"] == (name == "clustered")]
        cloud.plot(
            [row["size_mm"] for row in chosen],
            [row["dsc"] for row in chosen],
            "o",
            color=colour,
            alpha=0.55,
            markersize=4,
            markeredgewidth=0,
            label=f"{name} ({len(chosen)})",
        )
    cloud.set(xscale="log", xlabel="size of lesion, mm", ylabel="DSC of lesion", ylim=(-0.02, 1.02))
    cloud.xaxis.set_major_formatter(ScalarFormatter())
    cloud.set_xticks([10, 20, 40, 80])
    cloud.xaxis.set_minor_locator(NullLocator())
    if lesions:
        _legend_above(cloud)
    rows = evaluation.lesion_bins["sizes"]
    _draw_bins(binned, rows, "recall", BLUE, -0.08)
    _draw_bins(binned, rows, "dsc_mean", ORANGE, 0.08)
    binned.set_xticks(range(len(rows)), [f"{_range(row)}\n{row['lesions']}" for row in rows], fontsize=8)
    binned.set(xlabel="size of lesion, mm; number of lesions", ylim=(-0.02, 1.02), xlim=(-0.5, len(rows) - 0.5))
    _legend_above(binned)
    _finish(figure, path, footer, cloud, binned)


def _draw_bins(axes: Axes, rows: list[dict[str, Any]], key: str, colour: str, shift: float) -> None:
    label = {"recall": "share found", "dsc_mean": "mean DSC"}[key]
    for place, row in enumerate(rows):
        if row["lesions"]:
            _bar(axes, place + shift, row[f"{key}_interval"], colour)
    places = [place + shift for place, row in enumerate(rows) if row["lesions"]]
    axes.plot(places, [row[key] for row in rows if row["lesions"]], "o", color=colour, markersize=5, label=label)


def _bar(axes: Axes, place: float, ends: tuple[float, float], colour: str) -> None:
    axes.plot([place, place], ends, color=colour, alpha=0.35, linewidth=4, solid_capstyle="butt")


def _legend_above(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2)


def _range(row: Mapping[str, Any]) -> str:
    return f"{row['from_mm']:.0f} to {row['to_mm']:.0f}" if row["to_mm"] is not None else f"{row['from_mm']:.0f} up"


def _with_interval(summary: Mapping[str, Any], name: str, digits: int = 3) -> str:
    low, high = summary["intervals"][name]
    return f"{summary[name]:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _finish(figure: Figure, path: Path, footer: str, *panels: Axes) -> None:
    for axes in panels:
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
    figure.supxlabel(footer, fontsize=8, color="0.4")
    save(figure, path)
