"""Plots of the report page, every run a colour, as SVG with the letters as outlines: it prints and needs no font."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from msanet_jax.report.data import Run
from msanet_jax.report.figure import BLUE, GREEN, ORANGE, PURPLE, YELLOW

_SKY, _GREY = "#56B4E9", "#444444"
_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, YELLOW, _SKY, _GREY)
_SIZE_IN = (4.6, 3.5)
_LEGEND_ROWS_MAX = 8
FALSE_POSITIVES_SHOWN = 10.0
# Title, kind of row in history.jsonl, keys. Of validation scores only the first is drawn where runs are many.
_PANELS = (
    ("Generator: supervised loss", "train", ("supervised_loss",)),
    ("Generator: validation patients", "validation", ("dsc_pooled", "precision_pooled", "recall_pooled")),
    ("Discriminator: loss", "train", ("discriminator_loss",)),
    ("Adversarial loss", "train", ("multi_scale_l1", "patch_gan")),
    ("Gradient norms", "train", ("generator_gradient_norm", "discriminator_gradient_norm")),
    ("Generator: learning rate", "train", ("learning_rate",)),
)


def colour(place: int) -> str:
    """Of the run at this place."""
    return _COLOURS[place % len(_COLOURS)]


def learning_curves(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Generator and discriminator over epochs: `title`, `alt`, `svg` of each plot; none if no run was trained."""
    plots = []
    for title, kind, keys in _PANELS:
        figure, axes = _figure("epoch", "")
        shown = keys if len(runs) == 1 or kind == "train" else keys[:1]
        styles = dict(zip(shown, ("-", "--", ":"), strict=False))
        drawn = [
            key
            for (place, run), (key, style) in itertools.product(enumerate(runs), styles.items())
            if _curve(axes, run, kind, key, style, colour(place))
        ]
        if not drawn:
            continue
        if "gradient" in keys[0]:
            axes.set_yscale("log")
        if kind == "validation":
            axes.set_ylim(0, 1)
        several = [key for key in shown if key in drawn]
        lines = [axes.plot([], [], styles[key], color="0.3", label=_label(key))[0] for key in several]
        if len(several) > 1:
            # A second legend beside that of the runs; adding it as an artist keeps it when that one is made.
            axes.add_artist(axes.legend(handles=lines, fontsize=8, frameon=False, loc="center right"))
        plots.append(_plot(figure, axes, runs, title, f"{title} over epochs: {', '.join(map(_label, several))}."))
    return plots


def score_curves(runs: Sequence[Run]) -> list[dict[str, str]]:
    """FROC, precision-recall, calibration, DSC and recall by lesion size: `title`, `alt`, `svg` of each."""
    return [
        _froc(runs),
        _precision_recall(runs),
        _calibration(runs),
        _lesion_size(runs, "dsc_mean", "DSC by lesion size", "mean DSC of lesions"),
        _lesion_size(runs, "recall", "Recall by lesion size", "share of lesions found"),
    ]


def _label(key: str) -> str:
    text = key.removesuffix("_gradient_norm").removesuffix("_pooled").replace("_", " ")
    return text.replace("dsc", "DSC").replace(" l1", " L1")


def _curve(axes: Axes, run: Run, kind: str, key: str, style: str, ink: str) -> bool:
    """Draws one, unless the run does not have it or it is 0 throughout, as a discriminator's is that never ran."""
    points = [(row["epoch"], row[key]) for row in run.history if row["kind"] == kind and row.get(key) is not None]
    if not any(value for _, value in points):
        return False
    axes.plot(*zip(*points, strict=True), style, color=ink, linewidth=1.4)
    return True


def _froc(runs: Sequence[Run]) -> dict[str, str]:
    figure, axes = _figure("false positives per scan", "share of lesions found")
    shown: list[float] = [0.0]
    for place, run in enumerate(runs):
        curve, ink = run.metrics["froc"], colour(place)
        axes.plot(curve["false_positives_per_image"], curve["sensitivity"], color=ink, linewidth=1.4)
        points = [point for point in curve["operating_points"] if point["sensitivity"] is not None]
        at = [point["false_positives_per_image"] for point in points]
        shown = sorted({*shown, *at})
        for point in points:
            _bar(axes, point["false_positives_per_image"], point["interval"], ink)
        axes.plot(at, [point["sensitivity"] for point in points], "o", color=ink, markersize=3.5)
        if run.scores["lesion_recall"] is not None:
            axes.plot(
                run.scores["false_positives_per_image"],
                run.scores["lesion_recall"],
                "D",
                color=ink,
                markeredgecolor="k",
            )
    axes.set_xscale("symlog", linthresh=0.25, linscale=0.5)
    axes.set_xticks(shown)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlim=(0, max(FALSE_POSITIVES_SHOWN, 1.2 * shown[-1])), ylim=(0, 1.02))
    axes.tick_params(axis="x", labelsize=8)
    alt = (
        "Sensitivity over false positives per scan for the peaks of the map, 95 % intervals at the operating points; "
        f"diamond: components at the run's threshold. {_values(runs, 'froc_score', 'FROC score')}"
    )
    return _plot(figure, axes, runs, "FROC", alt)


def _precision_recall(runs: Sequence[Run]) -> dict[str, str]:
    figure, axes = _figure("recall (pixels)", "precision (pixels)")
    for dsc in (0.2, 0.4, 0.6, 0.8):
        recall = np.linspace(dsc / (2 - dsc), 1.0, 200)
        axes.plot(recall, dsc * recall / (2 * recall - dsc), color="0.85", linewidth=1, zorder=0)
        axes.text(1.0, dsc / (2 - dsc), f"DSC {dsc:g} ", color="0.5", fontsize=7, ha="right", va="bottom")
    for place, run in enumerate(runs):
        curve, scores = run.metrics["precision_recall"], run.scores
        known = [pair for pair in zip(curve["recall"], curve["precision"], strict=True) if None not in pair]
        if known:
            axes.plot(*zip(*known, strict=True), color=colour(place), linewidth=1.4)
        if scores["precision_pooled"] is not None and scores["recall_pooled"] is not None:
            axes.plot(
                scores["recall_pooled"], scores["precision_pooled"], "D", color=colour(place), markeredgecolor="k"
            )
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    alt = (
        "Precision over recall of pixels, all thresholds; diamond: the run's threshold; grey: equal DSC. "
        f"{_values(runs, 'average_precision', 'Average precision')}"
    )
    return _plot(figure, axes, runs, "Precision-recall", alt)


def _calibration(runs: Sequence[Run]) -> dict[str, str]:
    figure, axes = _figure("mean predicted probability", "share of lesion pixels")
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
    for place, run in enumerate(runs):
        bins = [row for row in run.metrics["calibration"] if row["pixels"]]
        axes.plot(
            [row["probability_mean"] for row in bins],
            [row["lesion_share"] for row in bins],
            "o-",
            color=colour(place),
            markersize=3.5,
            linewidth=1.4,
        )
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    alt = f"Share of lesion pixels over predicted probability; dashes: perfect. {_values(runs, 'ece', 'ECE', 4)}"
    return _plot(figure, axes, runs, "Calibration", alt)


def _lesion_size(runs: Sequence[Run], key: str, title: str, label: str) -> dict[str, str]:
    figure, axes = _figure("size of lesion, mm; number of lesions", label)
    first = runs[0].metrics["sizes"]
    for place, run in enumerate(runs):
        shift = 0.5 * (place - (len(runs) - 1) / 2) / len(runs)
        filled = [(at + shift, row) for at, row in enumerate(run.metrics["sizes"]) if row["lesions"]]
        for at, row in filled:
            _bar(axes, at, row[f"{key}_interval"], colour(place))
        axes.plot([at for at, _ in filled], [row[key] for _, row in filled], "o", color=colour(place), markersize=4.5)
    axes.set_xticks(range(len(first)), [f"{size_text(row)}\n{row['lesions']}" for row in first], fontsize=8)
    axes.set(xlim=(-0.5, len(first) - 0.5), ylim=(-0.02, 1.02))
    return _plot(figure, axes, runs, title, f"{title}: {label} in each bin, with 95 % intervals over patients.")


def size_text(row: dict[str, Any]) -> str:
    """A size bin in mm."""
    return f"{row['from_mm']:.0f}-{row['to_mm']:.0f}" if row["to_mm"] is not None else f"{row['from_mm']:.0f} up"


def _values(runs: Sequence[Run], name: str, label: str, digits: int = 3) -> str:
    known = [(run.name, run.scores[name]) for run in runs]
    texts = [f"{run}: {'undefined' if value is None else format(value, f'.{digits}f')}" for run, value in known]
    return f"{label} of {'; '.join(texts)}."


def _bar(axes: Axes, place: float, ends: Sequence[float | None], ink: str) -> None:
    known = [end for end in ends if end is not None]
    if len(known) == 2:
        axes.plot([place, place], known, color=ink, alpha=0.35, linewidth=4, solid_capstyle="butt")


def _figure(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE_IN, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _plot(figure: Figure, axes: Axes, runs: Sequence[Run], title: str, alt: str) -> dict[str, str]:
    if 1 < len(runs) <= _LEGEND_ROWS_MAX:
        lines = [axes.plot([], [], color=colour(place), label=run.name)[0] for place, run in enumerate(runs)]
        styles = axes.get_legend() is not None
        axes.legend(handles=lines, fontsize=8, frameon=False, loc="center left" if styles else "best")
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": title, "svg.fonttype": "path"}):
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None})
    return {"title": title, "alt": alt, "svg": text.getvalue()}
