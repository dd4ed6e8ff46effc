"""The picture of one prediction: the whole scan as nuclear medicine shows it, the thorax enlarged, the lesions."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from data_pipeline.pages.palette import FAINT, FIELD, INK, LESION, LINE
from data_pipeline.scan import Scan, View
from data_pipeline.windows import ThoraxBox, crop
from msanet_jax.prediction.records import LesionRecord

_PANEL_HEIGHT_IN, _WHOLE_WIDTH_MAX_IN, _LIST_WIDTH_IN = 6.6, 3.3, 2.9
_TOP_IN, _BOTTOM_IN, _GAP_IN = 0.75, 0.45, 0.3
_DPI = 130
# Black is where this share of the patient's pixels ends, so that one bladder does not pale the bones.
_WINDOW_PERCENTILE = 99.3
_LIST_ROWS_MAX = 22
_SCALE_BAR_MM = 100.0


@dataclasses.dataclass(frozen=True)
class Drawing:
    """What the picture shows.

    Attributes:
      scan: the whole scan.
      box: thorax field.
      probability: of lesion, [rows, columns] of the scan.
      threshold: outlines are drawn at this probability.
      lesions: of the mask.
      title: the scan's name; its view is added where the name does not end in it.
      subtitle: one line on where the prediction comes from.
      notice: what must be said beside it.
    """

    scan: Scan
    box: ThoraxBox
    probability: np.ndarray
    threshold: float
    lesions: Sequence[LesionRecord]
    title: str
    subtitle: str
    notice: str


def save_overlay(drawing: Drawing, path: Path | IO[bytes], *, stamp: str = "") -> None:
    """Draws whole scan | thorax | list as PNG; inverse grey, darkness rises with the square root of the counts.

    Args:
      drawing: what is shown.
      path: where to.
      stamp: large words at the top right.
    """
    rows, columns = drawing.scan.counts.shape
    whole_width = min(_PANEL_HEIGHT_IN * columns / rows, _WHOLE_WIDTH_MAX_IN)
    width = 4 * _GAP_IN + whole_width + _PANEL_HEIGHT_IN + _LIST_WIDTH_IN
    height = _TOP_IN + _PANEL_HEIGHT_IN + _BOTTOM_IN
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)

    def panel(left: float, panel_width: float) -> Axes:
        return figure.add_axes((left / width, _BOTTOM_IN / height, panel_width / width, _PANEL_HEIGHT_IN / height))

    black = black_level(drawing.scan.counts)
    _draw_whole(panel(_GAP_IN, whole_width), drawing, black)
    _draw_thorax(panel(2 * _GAP_IN + whole_width, _PANEL_HEIGHT_IN), drawing, black)
    _draw_list(panel(3 * _GAP_IN + whole_width + _PANEL_HEIGHT_IN, _LIST_WIDTH_IN), drawing)
    left, top = _GAP_IN / width, 1.0 - 0.18 / height
    figure.text(left, top, _title(drawing), fontsize=14, color=INK, weight="bold", va="top", parse_math=False)
    figure.text(left, top - 0.29 / height, drawing.subtitle, fontsize=9, color=FAINT, va="top", parse_math=False)
    figure.text(1.0 - left, top, stamp, fontsize=13, color=LESION, weight="bold", va="top", ha="right")
    figure.text(left, 0.14 / height, drawing.notice, fontsize=9, color=INK, va="bottom", parse_math=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # letters of other scripts are drawn as boxes
        figure.savefig(path, format="png", dpi=_DPI)


def save_panel(drawing: Drawing, path: Path) -> None:
    """Draws whole scan | thorax as PNG, without words: the picture of a patient's page."""
    rows, columns = drawing.scan.counts.shape
    height = 3.4
    whole_width = min(height * columns / rows, height)
    width = whole_width + 0.06 + height
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    black = black_level(drawing.scan.counts)
    _draw_whole(figure.add_axes((0.0, 0.0, whole_width / width, 1.0)), drawing, black)
    _draw_thorax(figure.add_axes(((whole_width + 0.06) / width, 0.0, height / width, 1.0)), drawing, black)
    figure.savefig(path, format="png", dpi=150)


def _draw_whole(axes: Axes, drawing: Drawing, black: float) -> None:
    _show(axes, drawing.scan.counts, black)
    box = drawing.box
    rows, columns = drawing.scan.counts.shape
    first = (max(box.column, 0) - 0.5, max(box.row, 0) - 0.5)
    last = (min(box.column + box.size_px, columns) - 0.5, min(box.row + box.size_px, rows) - 0.5)
    axes.add_patch(Rectangle(first, last[0] - first[0], last[1] - first[1], fill=False, edgecolor=FIELD, linewidth=1.4))
    _outline(axes, drawing.probability, drawing.threshold, linewidth=0.9)


def _draw_thorax(axes: Axes, drawing: Drawing, black: float) -> None:
    box, scan = drawing.box, drawing.scan
    _show(axes, crop(scan.counts, box), black)
    _outline(axes, crop(drawing.probability, box), drawing.threshold, linewidth=1.5)
    for spine in axes.spines.values():
        spine.set(color=FIELD, linewidth=1.6)
    inside = (0.0, 0.96 * box.size_px)  # so that a number stays in the panel
    for lesion in drawing.lesions:
        radius = np.sqrt(lesion.area_px / np.pi)
        column = np.clip(lesion.centre_column_px - box.column + radius, *inside)
        row = np.clip(lesion.centre_row_px - box.row - radius, box.size_px - inside[1], None)
        axes.annotate(
            str(lesion.id),
            (column, row),
            xytext=(3, 2),
            textcoords="offset points",
            fontsize=9,
            color=LESION,
            weight="bold",
        )
    sides = {View.ANTERIOR: ("R", "L"), View.POSTERIOR: ("L", "R")}.get(scan.view, ("", ""))
    for side, where, align in zip(sides, (0.02, 0.98), ("left", "right"), strict=True):
        axes.text(where, 0.98, side, transform=axes.transAxes, ha=align, va="top", fontsize=12, color=INK)
    if scan.pixel_size_mm is not None:
        _draw_scale(axes, box.size_px, _SCALE_BAR_MM / scan.pixel_size_mm[1])


def _draw_scale(axes: Axes, size: int, length: float) -> None:
    row, column = 0.965 * size, 0.02 * size
    axes.plot([column, column + length], [row, row], color=INK, linewidth=2, solid_capstyle="butt")
    axes.text(column, row - 0.012 * size, f"{_SCALE_BAR_MM:g} mm", fontsize=8, color=INK, va="bottom")


def _draw_list(axes: Axes, drawing: Drawing) -> None:
    axes.axis("off")
    number = len(drawing.lesions)
    heading = {0: "No lesion marked", 1: "1 lesion marked"}.get(number, f"{number} lesions marked")
    axes.text(0, 1, heading, fontsize=12, weight="bold", color=LESION if number else INK, va="top")
    axes.text(0, 0.955, f"probability above {drawing.threshold:g}", fontsize=9, color=FAINT, va="top")
    if not number:
        return
    in_mm = drawing.scan.pixel_size_mm is not None
    places, step = (0.08, 0.36, 0.66, 1.0), 0.038
    for place, text in zip(places, ("no.", "length mm" if in_mm else "area px", "counts", "prob."), strict=True):
        axes.text(place, 0.9, text, fontsize=9, color=FAINT, va="top", ha="right")
    for index, lesion in enumerate(drawing.lesions[:_LIST_ROWS_MAX]):
        size = f"{lesion.major_axis_mm:.0f}" if in_mm else f"{lesion.area_px}"
        cells = (str(lesion.id), size, str(lesion.counts_max), f"{lesion.probability_max:.2f}")
        for place, text in zip(places, cells, strict=True):
            axes.text(place, 0.86 - step * index, text, fontsize=9.5, color=INK, va="top", ha="right")
    if number > _LIST_ROWS_MAX:
        more = f"and {number - _LIST_ROWS_MAX} more (JSON)"
        axes.text(0, 0.86 - step * _LIST_ROWS_MAX, more, fontsize=9, color=FAINT, va="top")


def _show(axes: Axes, counts: np.ndarray, black: float) -> None:
    axes.imshow(np.sqrt(counts), cmap="gray_r", vmin=0.0, vmax=np.sqrt(black), interpolation="bicubic")
    axes.set(xticks=[], yticks=[], xlim=(-0.5, counts.shape[1] - 0.5), ylim=(counts.shape[0] - 0.5, -0.5))
    for spine in axes.spines.values():
        spine.set(color=LINE, linewidth=0.8)


def _outline(axes: Axes, probability: np.ndarray, threshold: float, *, linewidth: float) -> None:
    """Contour at the threshold; a frame of zeros closes the outlines that reach the edge."""
    framed = np.pad(probability, 1)
    if framed.max() > threshold:
        rows, columns = np.arange(-1, framed.shape[0] - 1), np.arange(-1, framed.shape[1] - 1)
        axes.contour(columns, rows, framed, levels=[threshold], colors=[LESION], linewidths=linewidth)


def black_level(counts: np.ndarray) -> float:
    """Counts that are shown black."""
    inside = counts[counts > counts.mean()]
    return max(float(np.percentile(inside, _WINDOW_PERCENTILE)), 1.0) if inside.size else 1.0


def _title(drawing: Drawing) -> str:
    view = drawing.scan.view
    said = view == View.UNKNOWN or drawing.title.lower().endswith(view.value)
    return drawing.title if said else f"{drawing.title}, {view.value}"
