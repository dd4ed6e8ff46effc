"""FROC, precision-recall, calibration, scores by lesion size and training curves, drawn once for PNG and report page.

A drawing takes axes and runs, labels its lines where there is a single run, and returns what the picture shows in
words. The report page holds it as SVG, every run a colour, with the letters as outlines: it prints and needs no font.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import NullLocator, ScalarFormatter

from data_pipeline.files import nan_to_null
from data_pipeline.pages import number
from data_pipeline.pages.palette import BLUE, FAINT, GREEN, GREY, INK, LINE, ORANGE, PURPLE, SKY, YELLOW
from msanet_jax.evaluation.results import Curves, Evaluation, LesionBins, LesionScores, SizeBin, Summary
from msanet_jax.report.data import Run, Scored
from msanet_jax.report.figure import as_element, line_of, save, style
from msanet_jax.runs.history import HistoryRow, read_history

FALSE_POSITIVES_SHOWN = 10.0
_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY, GREY)
_LINES = ("-", "--", ":")
_LEGEND_RUNS_MAX = 8
Drawing = Callable[[Axes, Sequence[Scored]], str]


@dataclasses.dataclass(frozen=True)
class Plot:
    """A picture of the report page.

    Attributes:
      title: above it.
      alt: what it shows, in words.
      svg: the picture, an element of the page.
    """

    title: str
    alt: str
    svg: str


@dataclasses.dataclass(frozen=True)
class Panel:
    """A training curve.

    Attributes:
      title: above it.
      kind: of the rows in history.jsonl, `train` or `validation`.
      keys: of one run.
      compared: how many of the keys are drawn where runs are many.
      log: whether the keys differ by powers of ten.
    """

    title: str
    kind: str
    keys: tuple[str, ...]
    compared: int = 1
    log: bool = False


PANELS = (
    Panel("Generator: supervised loss", "train", ("supervised_loss", "dice_loss", "cross_entropy_loss"), log=True),
    Panel("Generator: validation patients", "validation", ("dsc_pooled", "precision_pooled", "recall_pooled")),
    Panel("Discriminator: loss", "train", ("discriminator_loss",)),
    Panel("Adversarial loss", "train", ("multi_scale_l1", "patch_gan", "adversarial_share"), compared=2),
    Panel("Gradient norms", "train", ("generator_gradient_norm", "discriminator_gradient_norm"), compared=2, log=True),
    Panel("Generator: learning rate", "train", ("learning_rate",)),
)


def colour(place: int) -> str:
    """Of the run at this place."""
    return _COLOURS[place % len(_COLOURS)]


def size_text(row: SizeBin) -> str:
    """A size bin in mm."""
    return f"{row.from_mm:.0f} up" if row.to_mm is None else f"{row.from_mm:.0f}-{row.to_mm:.0f}"


def write_curves(path: Path, history: Path, footer: str) -> None:
    """Draws every training curve of a run over epochs as one PNG."""
    rows = read_history(history)
    figure = Figure(figsize=(13.5, 6.8), layout=ConstrainedLayoutEngine(hspace=0.06, wspace=0.03))
    for axes, panel in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
        drawn = draw_history(style(axes), [rows], panel)
        _legend_above(axes, columns=3, title=panel.title)
        if not drawn:
            axes.text(0.5, 0.5, "not in this run", transform=axes.transAxes, ha="center", color=FAINT)
    save(figure, path, footer)


def write_score_plots(folder: Path, evaluation: Evaluation, footer: str) -> None:
    """Writes reliability.png, precision_recall.png, froc.png and lesion_size.png."""
    folder.mkdir(parents=True, exist_ok=True)
    scores, bins = evaluation.summary, msgspec.convert(nan_to_null(evaluation.lesion_bins), LesionBins)
    run = Scored("network", scores, bins, msgspec.convert(nan_to_null(evaluation.curves), Curves))
    figure = Figure(figsize=(5.6, 6.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    calibration = f"calibration error {_with_interval(scores, 'ece', 4)}\nabove the lowest bin "
    _single(upper, draw_calibration, run, calibration + _with_interval(scores, "ece_above_lowest_bin"))
    rows = run.curves.calibration
    low, high, pixels = [row.low for row in rows], [row.high for row in rows], [row.pixels for row in rows]
    style(lower).bar(low, pixels, width=np.subtract(high, low), align="edge", color=BLUE, edgecolor="white")
    lower.set(xlabel="predicted probability", ylabel="pixels", yscale="log")
    upper.set_xlabel("")
    save(figure, folder / "reliability.png", footer)
    for name, drawing, title in (
        ("precision_recall", draw_precision_recall, f"average precision {_with_interval(scores, 'average_precision')}"),
        ("froc", draw_froc, f"FROC score {_with_interval(scores, 'froc_score')}"),
    ):
        figure = Figure(figsize=(5.6, 5.0), layout="constrained")
        _single(figure.subplots(), drawing, run, title)
        save(figure, folder / f"{name}.png", footer)
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    (cloud, binned), sizes = figure.subplots(1, 2), bins.sizes
    _draw_lesions(style(cloud), evaluation.lesions)
    _draw_bins(style(binned), [("share found", BLUE, sizes, "recall"), ("mean DSC", ORANGE, sizes, "dsc_mean")])
    for axes in (cloud, binned):
        _legend_above(axes)
    save(figure, folder / "lesion_size.png", footer)


def learning_curves(runs: Sequence[Run]) -> list[Plot]:
    """Generator and discriminator over epochs; none if no run was trained."""
    plots = []
    for panel in PANELS:
        figure = Figure(figsize=(4.6, 3.5), layout="constrained")
        axes = style(figure.subplots())
        if shown := draw_history(axes, [run.history for run in runs], panel):
            keys = axes.get_legend_handles_labels()[0] if len(shown) > 1 else []
            alt = f"{panel.title} over epochs: {', '.join(shown)}."
            plots.append(Plot(panel.title, alt, _svg(figure, axes, runs, panel.title, keys)))
    return plots


def score_curves(runs: Sequence[Scored]) -> list[Plot]:
    """FROC, precision-recall, calibration, DSC and recall by lesion size."""
    plots = []
    for title, drawing in _SCORE_PLOTS.items():
        figure = Figure(figsize=(4.6, 3.5), layout="constrained")
        axes = style(figure.subplots())
        alt = drawing(axes, runs)
        plots.append(Plot(title, alt, _svg(figure, axes, runs, title, [])))
    return plots


def draw_history(axes: Axes, histories: Sequence[Sequence[HistoryRow]], panel: Panel) -> list[str]:
    """Draws one panel and returns what it shows: of one run every key a colour, of many every run a colour.

    Training that is 0 throughout is left out, as a discriminator's is that never ran.
    """
    shown, many = [], len(histories) > 1
    for order, key in enumerate(panel.keys[: panel.compared] if many else panel.keys):
        drawn = False
        for place, history in enumerate(histories):
            rows = [row for row in history if row.kind == panel.kind and row.values.get(key) is not None]
            points = [(row.epoch, row.values[key]) for row in rows]
            if any(value or panel.kind == "validation" for _, value in points):
                drawn = True
                line, ink = (_LINES[order], colour(place)) if many else ("-", colour(order))
                axes.plot(*zip(*points, strict=True), line, color=ink, linewidth=1.4, marker="o", markersize=2.5)
        if drawn:
            text = _label(key)
            shown.append(text)
            line, ink = (_LINES[order], FAINT) if many else ("-", colour(order))
            axes.plot([], [], line, color=ink, label=text)
    axes.set_xlabel("epoch")
    if len(shown) > 1 and panel.log:
        axes.set_yscale("log")
    if panel.kind == "validation":
        axes.set_ylim(0, 1)
    return shown


def draw_froc(axes: Axes, runs: Sequence[Scored]) -> str:
    """Share of lesions found over false positives per scan, as steps, with intervals at the operating points."""
    ticks, right = {0.0}, FALSE_POSITIVES_SHOWN
    for run in runs:
        points = run.curves.froc.operating_points
        ticks |= {point.false_positives_per_image for point in points if point.sensitivity is not None}
        right = max(right, 1.2 * points[-1].false_positives_per_image)
    for place, run in enumerate(runs):
        curve, scores, ink = run.curves.froc, run.scores, colour(place)
        across, up = curve.false_positives_per_image, line_of(curve.sensitivity)
        label = f"peaks of the map, {scores['lesions']} lesions"
        axes.plot(across, up, color=ink, linewidth=1.4, drawstyle="steps-post", label=label)
        if across[-1] < right:  # no candidates are left: more are allowed, none is found
            axes.plot([across[-1], right], [up[-1]] * 2, ":", color=ink)
        known = [point for point in curve.operating_points if point.sensitivity is not None]
        at = [point.false_positives_per_image for point in known]
        for point, x in zip(known, at, strict=True):
            _bar(axes, x, point.interval, ink)
        found = line_of(point.sensitivity for point in known)
        axes.plot(at, found, "o", color=ink, markersize=3.5, label="operating points, 95 % intervals")
        if not math.isnan(scores["lesion_recall"]):
            label = f"components at threshold {scores['threshold']:.3g}"
            _diamond(axes, scores["false_positives_per_image"], scores["lesion_recall"], ink, label)
    axes.set_xscale("symlog", linthresh=0.25, linscale=0.5)
    axes.set_xticks(sorted(ticks), [f"{tick:g}" for tick in sorted(ticks)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="false positives per scan", ylabel="share of lesions found", xlim=(0, right), ylim=(0, 1.02))
    axes.tick_params(axis="x", labelsize=8)
    return (
        "Sensitivity over false positives per scan for the peaks of the map, 95 % intervals at the operating points; "
        f"diamond: components at the run's threshold. {_values(runs, 'froc_score', 'FROC score')}"
    )


def draw_precision_recall(axes: Axes, runs: Sequence[Scored]) -> str:
    """Precision over recall of pixels at all thresholds, on lines of equal DSC."""
    for dsc in (0.2, 0.4, 0.6, 0.8):
        recall = np.linspace(dsc / (2 - dsc), 1.0, 500)
        axes.plot(recall, dsc * recall / (2 * recall - dsc), color=LINE, linewidth=1, zorder=0)
        axes.text(1.01, dsc / (2 - dsc), f"DSC {dsc:g}", color=FAINT, fontsize=7, va="center")
    for place, run in enumerate(runs):
        curve, scores = run.curves.precision_recall, run.scores
        if curve.recall:
            ink, label = colour(place), f"{run.name}, all thresholds"
            axes.plot(curve.recall, curve.precision, color=ink, linewidth=1.4, label=label)
        if not math.isnan(scores["precision_pooled"] + scores["recall_pooled"]):
            label = f"threshold {scores['threshold']:.3g}: DSC {number(scores['dsc_pooled'])}"
            _diamond(axes, scores["recall_pooled"], scores["precision_pooled"], colour(place), label)
    axes.set(xlabel="recall (pixels)", ylabel="precision (pixels)", xlim=(0, 1), ylim=(0, 1.02))
    return (
        "Precision over recall of pixels, all thresholds; diamond: the run's threshold; grey: equal DSC. "
        f"{_values(runs, 'average_precision', 'Average precision')}"
    )


def draw_calibration(axes: Axes, runs: Sequence[Scored]) -> str:
    """Share of lesion pixels over mean probability, a point per bin."""
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle="--", label="perfect")
    for place, run in enumerate(runs):
        bins = [row for row in run.curves.calibration if row.pixels]
        across, up = line_of(row.probability_mean for row in bins), line_of(row.lesion_share for row in bins)
        axes.plot(across, up, "o-", color=colour(place), markersize=3.5, linewidth=1.4, label=run.name)
    axes.set(xlabel="mean predicted probability", ylabel="share of lesion pixels", xlim=(0, 1), ylim=(0, 1.02))
    return f"Share of lesion pixels over predicted probability; dashes: perfect. {_values(runs, 'ece', 'ECE', 4)}"


def _draw_sizes(axes: Axes, runs: Sequence[Scored], key: str, label: str) -> str:
    _draw_bins(axes, [(run.name, colour(place), run.bins.sizes, key) for place, run in enumerate(runs)])
    axes.set_ylabel(label)
    return f"By lesion size: {label} in each bin, with 95 % intervals over patients."


_SCORE_PLOTS: dict[str, Drawing] = {
    "FROC": draw_froc,
    "Precision-recall": draw_precision_recall,
    "Calibration": draw_calibration,
    "DSC by lesion size": functools.partial(_draw_sizes, key="dsc_mean", label="mean DSC of lesions"),
    "Recall by lesion size": functools.partial(_draw_sizes, key="recall", label="share of lesions found"),
}


def _draw_bins(axes: Axes, series: Sequence[tuple[str, str, Sequence[SizeBin], str]]) -> None:
    """Points with intervals in bins of lesion size; `series` is (label, colour, rows of the bins, key)."""
    for place, (label, ink, rows, key) in enumerate(series):
        shift = min(0.16, 0.5 / len(series)) * (place - (len(series) - 1) / 2)
        filled = [(at + shift, row) for at, row in enumerate(rows) if row.lesions]
        for at, row in filled:
            _bar(axes, at, getattr(row, f"{key}_interval"), ink)
        centres, found = [at for at, _ in filled], [getattr(row, key) for _, row in filled]
        axes.plot(centres, found, "o", color=ink, markersize=4.5, label=label)
    rows = series[0][2]
    axes.set_xticks(range(len(rows)), [f"{size_text(row)}\n{row.lesions}" for row in rows], fontsize=8)
    axes.set(xlabel="size of lesion, mm; number of lesions", xlim=(-0.5, len(rows) - 0.5), ylim=(-0.02, 1.02))


def _draw_lesions(axes: Axes, rows: Sequence[LesionScores]) -> None:
    """DSC of every lesion over its size, isolated and clustered apart."""
    measured = [row for row in rows if row.size_mm is not None]
    for name, ink in (("isolated", BLUE), ("clustered", ORANGE)):
        chosen = [row for row in measured if row.clustered == (name == "clustered")]
        size, dsc = line_of(row.size_mm for row in chosen), [row.dsc for row in chosen]
        label = f"{name} ({len(chosen)})" if measured else None
        axes.plot(size, dsc, "o", color=ink, alpha=0.55, markersize=4, markeredgewidth=0, label=label)
    axes.set(xscale="log", xlabel="size of lesion, mm", ylabel="DSC of lesion", ylim=(-0.02, 1.02))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xticks([10, 20, 40, 80])
    axes.xaxis.set_minor_locator(NullLocator())


def _single(axes: Axes, drawing: Drawing, run: Scored, title: str) -> None:
    """A drawing of one run with its title and a legend."""
    drawing(style(axes), [run])
    _legend_above(axes, title=title)


def _legend_above(axes: Axes, handles: Sequence[Any] = (), *, columns: int = 2, title: str = "") -> None:
    """A legend between axes and title, where it covers nothing; of all that is labelled, or of `handles`."""
    shown = list(handles) or axes.get_legend_handles_labels()[0]
    if shown:
        place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": columns, "borderaxespad": 0.2}
        axes.legend(
            handles=shown, frameon=False, fontsize=8, labelcolor=INK, handlelength=1.6, columnspacing=1.2, **place
        )
    axes.set_title(title, fontsize=10, pad=6 + 13 * math.ceil(len(shown) / columns))


def _label(key: str) -> str:
    text = key.removesuffix("_gradient_norm").removesuffix("_pooled").replace("_", " ")
    return text.replace("dsc", "DSC").replace(" l1", " L1")


def _values(runs: Sequence[Scored], name: str, label: str, digits: int = 3) -> str:
    texts = [f"{run.name}: {number(run.scores[name], digits, unknown='undefined')}" for run in runs]
    return f"{label} of {'; '.join(texts)}."


def _with_interval(scores: Summary, name: str, digits: int = 3) -> str:
    low, high = (number(end, digits) for end in scores.intervals[name])
    return f"{number(scores[name], digits)} ({low} to {high})"


def _bar(axes: Axes, place: float, ends: Sequence[float | None], ink: str) -> None:
    known = [end for end in ends if end is not None]
    if len(known) == 2:
        axes.plot([place, place], known, color=ink, alpha=0.35, linewidth=4, solid_capstyle="butt")


def _diamond(axes: Axes, x: float, y: float, ink: str, label: str) -> None:
    axes.plot(x, y, "D", color=ink, markeredgecolor=INK, label=label)


def _svg(figure: Figure, axes: Axes, runs: Sequence[Scored], title: str, keys: Sequence[Any]) -> str:
    """The picture with a legend of `keys` and, where they are several, of the runs."""
    lines = list(keys)
    if 1 < len(runs) <= _LEGEND_RUNS_MAX:
        lines += [axes.plot([], [], color=colour(place), label=run.name)[0] for place, run in enumerate(runs)]
    if lines:
        _legend_above(axes, lines)
    axes.patch.set_visible(False)
    return as_element(figure, title)
