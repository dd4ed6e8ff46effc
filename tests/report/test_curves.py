"""The curves that PNG and report page share: every number drawn is one of the run's."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data_pipeline.pages.palette import FAINT, INK
from msanet_jax.evaluation.results import (
    CalibrationBin,
    Curves,
    Froc,
    LesionBins,
    OperatingPoint,
    PrecisionRecall,
    SizeBin,
    Summary,
)
from msanet_jax.report import curves
from msanet_jax.report import figure as figure_module
from msanet_jax.report.curves import (
    PANELS,
    colour,
    draw_calibration,
    draw_froc,
    draw_history,
    draw_precision_recall,
    learning_curves,
    score_curves,
)
from msanet_jax.report.data import Scored
from msanet_jax.runs.history import HistoryRow

SCORES = Summary(
    {
        "threshold": 0.5,
        "lesions": 4,
        "lesion_recall": 0.5,
        "false_positives_per_image": 0.75,
        "precision_pooled": 0.6,
        "recall_pooled": 0.4,
        "dsc_pooled": 0.48,
        "froc_score": 0.375,
        "average_precision": float("nan"),
        "ece": 0.0123,
    }
)
POINTS = (
    OperatingPoint(1.0, 0.25, (0.0, 0.5)),
    OperatingPoint(4.0, 0.5, (None, None)),
    OperatingPoint(20.0, None, (None, None)),
)
CURVES = Curves(
    calibration=(
        CalibrationBin(low=0.0, high=0.5, pixels=9, probability_mean=0.1, lesion_share=0.2),
        CalibrationBin(low=0.5, high=1.0, pixels=0, probability_mean=None, lesion_share=None),
    ),
    precision_recall=PrecisionRecall((0.9, 0.5), (0.6, 0.2), (0.4, 1.0)),
    froc=Froc((None, 0.5), (0.0, 2.0), (0.25, 0.5), POINTS),
)
BINS = LesionBins(sizes=(SizeBin(0.0, None, 4, 0.5, (0.2, 0.8), 0.3, (0.1, 0.4)),), bones=())
ROWS = [
    HistoryRow(1, 1, "train", {"supervised_loss": 2.0, "dice_loss": 0.5, "discriminator_loss": 0.0}),
    HistoryRow(2, 2, "train", {"supervised_loss": 1.0, "dice_loss": 0.25, "discriminator_loss": 0.0}),
    HistoryRow(2, 2, "validation", {"dsc_pooled": 0.0, "recall_pooled": None}),
]
RUN = Scored("one", SCORES, BINS, CURVES)


def _lines(drawing: Any, *more: Any, runs: tuple[Any, ...] = (RUN,)) -> tuple[dict[str, Any], Any]:
    axes = Figure().subplots()
    drawing(axes, runs, *more)
    return {line.get_label(): line for line in axes.lines}, axes


def _points(line: Any) -> list[tuple[float, float]]:
    return list(zip(map(float, line.get_xdata()), map(float, line.get_ydata()), strict=True))


def test_froc_is_a_staircase_through_its_operating_points() -> None:
    lines, axes = _lines(draw_froc)
    stairs = lines["peaks of the map, 4 lesions"]
    assert stairs.get_drawstyle() == "steps-post" and _points(stairs) == [(0.0, 0.25), (2.0, 0.5)]
    assert _points(lines["operating points, 95 % intervals"]) == [(1.0, 0.25), (4.0, 0.5)]
    assert _points(lines["components at threshold 0.5"]) == [(0.75, 0.5)]
    unnamed = [_points(line) for label, line in lines.items() if label.startswith("_")]
    # After the last candidate nothing more is found; of the intervals one is known.
    assert unnamed == [[(2.0, 0.5), (24.0, 0.5)], [(1.0, 0.0), (1.0, 0.5)]]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "1", "4"]
    assert axes.get_xlim() == (0.0, 24.0)


def test_undefined_points_and_empty_bins_are_left_out() -> None:
    lines, _ = _lines(draw_precision_recall)
    assert _points(lines["one, all thresholds"]) == [(0.4, 0.6), (1.0, 0.2)]
    assert _points(lines["threshold 0.5: DSC 0.480"]) == [(0.4, 0.6)]
    # On the first of the grey lines precision and recall give a DSC of 0.2.
    recall, precision = np.array(_points(next(iter(lines.values())))).T
    np.testing.assert_allclose(2 * recall * precision / (recall + precision), 0.2)
    lines, _ = _lines(draw_calibration)
    assert _points(lines["one"]) == [(0.1, 0.2)]


def test_training_that_never_ran_is_left_out_and_a_score_of_zero_is_not() -> None:
    assert [draw_history(Figure().subplots(), [ROWS], panel) for panel in PANELS] == [
        ["supervised loss", "dice loss"],
        ["DSC"],
        [],
        [],
        [],
        [],
    ]
    lines, axes = _lines(draw_history, PANELS[0], runs=(ROWS,))
    drawn = [_points(line) for line in lines.values() if len(line.get_xdata())]
    assert drawn == [[(1.0, 2.0), (2.0, 1.0)], [(1.0, 0.5), (2.0, 0.25)]]
    assert axes.get_yscale() == "log"


def test_of_many_runs_each_has_a_colour_and_only_the_first_key_is_drawn() -> None:
    lines, axes = _lines(draw_history, PANELS[0], runs=(ROWS, ROWS))
    assert [line.get_color() for line in axes.lines if len(line.get_xdata())] == [colour(0), colour(1)]
    assert lines["supervised loss"].get_color() == FAINT and axes.get_yscale() == "linear"


def test_legends_cover_no_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every legend, of one run and of several, lies above its axes, and below the title."""
    figures: list[Figure] = []
    monkeypatch.setattr(curves, "save", lambda figure, path, footer: figures.append(figure))

    def drawn(canvas: Any, file: Any, **_: Any) -> None:
        figures.append(canvas.figure)
        file.write("<svg>")

    monkeypatch.setattr(figure_module.FigureCanvasSVG, "print_svg", drawn)
    monkeypatch.setattr(curves, "read_history", lambda path: ROWS)
    curves.write_curves(Path(), Path(), "")
    two = [SimpleNamespace(name=name, history=ROWS, scores=SCORES, bins=BINS, curves=CURVES) for name in "ab"]
    for runs in (two[:1], two):
        learning_curves(runs)
        score_curves(runs)
    figures.append(Figure(figsize=(5.6, 5.0), layout="constrained"))
    curves._single(figures[-1].subplots(), draw_froc, RUN, "FROC")
    legends = 0
    for figure in figures:
        FigureCanvasAgg(figure).draw()
        for axes in figure.axes:
            if legend := axes.get_legend():
                legends += 1
                box = legend.get_window_extent()
                assert box.y0 >= axes.bbox.y1 - 1
                assert not axes.title.get_text() or axes.title.get_window_extent().y0 >= box.y1 - 1
    assert legends == 2 + 1 + 7 + 1


def test_words_beside_the_pictures() -> None:
    words = {
        plot.title: plot.alt
        for plot in (*score_curves([RUN]), *learning_curves([SimpleNamespace(name="one", history=ROWS)]))
    }
    assert words["FROC"].endswith("FROC score of one: 0.375.")
    assert words["Precision-recall"].endswith("Average precision of one: undefined.")
    assert words["Calibration"].endswith("ECE of one: 0.0123.")
    assert "mean DSC of lesions in each bin" in words["DSC by lesion size"]
    assert words["Generator: validation patients"] == "Generator: validation patients over epochs: DSC."


def test_pictures_of_a_page_take_its_colours_and_share_no_id() -> None:
    plots = score_curves([RUN])
    page = "".join(plot.svg for plot in plots)
    assert not re.search(f"{INK}|{FAINT}|#000|#fff|http|<metadata", page, re.IGNORECASE)
    assert {found for plot in plots for found in re.findall(r"var\((--\w+)\)", plot.svg)} == {
        "--ink",
        "--faint",
        "--line",
    }
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 0
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) == set(ids)
