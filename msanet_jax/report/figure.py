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


def style(axes: Axes) -> Axes:
    """A faint grid behind the curves, without a frame above and on the right."""
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def save(figure: Figure, path: Path, footer: str = "") -> None:
    """Writes a whole PNG; `footer` is the line below it."""
    if footer:
        figure.supxlabel(footer, fontsize=8, color="0.4")
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    write_bytes(path, picture.getvalue())


def line_of(values: Iterable[float | None]) -> np.ndarray:
    """What a line goes through, with a gap where a value is None."""
    return np.array(list(values), float)
