"""How every picture of scores is made: its axes, and PNG files that are never half-written."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from data_pipeline.files import write_bytes
from data_pipeline.pages.palette import FAINT, GREY, INK, LINE

_PAGE_COLOURS = {INK: "ink", FAINT: "faint", LINE: "line", GREY: "ink"}
"""What is drawn in a colour of the page follows it into the dark."""


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


def as_element(figure: Figure, title: str) -> str:
    """The figure as an SVG element of a page.

    It has no ground, takes the page's colours, and its ids begin with the title, so that no other element has them.
    """
    figure.patch.set_visible(False)
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": title, "svg.fonttype": "path"}):
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None})
    svg, name = text.getvalue(), re.sub(r"\W+", "-", title.lower())
    element = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    element = re.sub(r' xmlns(:xlink)?="[^"]*"| (width|height)="[0-9.]+pt"', "", element)
    element = element.replace("xlink:href", "href")
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', element))
    element = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", element)
    element = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", element)
    for colour, variable in _PAGE_COLOURS.items():
        element = element.replace(colour.lower(), f"var(--{variable})")
    return element


def line_of(values: Iterable[float | None]) -> np.ndarray:
    """What a line goes through, with a gap where a value is None."""
    return np.array(list(values), float)
