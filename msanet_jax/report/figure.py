"""How every picture of scores is made: its axes, and PNG files that are never half-written."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data_pipeline.files import write_bytes
from data_pipeline.pages.palette import FAINT, INK, LINE


def style(axes: Axes) -> Axes:
    """A faint grid behind the curves, without a frame above and on the right; the colours of the pages."""
    axes.grid(color=LINE, alpha=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(which="both", color=FAINT, labelcolor=INK)
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
        text.set_color(INK)
    return axes


def save(figure: Figure, path: Path, footer: str = "") -> None:
    """Writes a whole PNG; `footer` is the line below it."""
    if footer:
        figure.supxlabel(footer, fontsize=8, color=FAINT)
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    write_bytes(path, picture.getvalue())


def line_of(values: Iterable[float | None]) -> np.ndarray:
    """What a line goes through, with a gap where a value is None."""
    return np.array(list(values), float)
