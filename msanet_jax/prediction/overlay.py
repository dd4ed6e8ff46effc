"""The picture of one prediction: the whole scan as nuclear medicine shows it, the thorax enlarged, the lesions."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from contourpy import LineType, contour_generator
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import BboxImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Affine2D, Bbox, BboxTransformTo, TransformedBbox
from PIL import Image

from data_pipeline.normalize import black_level
from data_pipeline.pages.palette import FAINT, FIELD, INK, LESION, LINE
from data_pipeline.scan import Scan, View
from data_pipeline.windows import ThoraxBox, crop
from msanet_jax.prediction.records import LesionRecord

_PANEL_HEIGHT_IN, _WHOLE_WIDTH_MAX_IN, _LIST_WIDTH_IN = 6.6, 3.3, 2.9
_TOP_IN, _BOTTOM_IN, _GAP_IN = 0.75, 0.45, 0.3
_DPI = 130
_PNG_LEVEL = 2  # a third of the time of matplotlib's level, and files as large
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

    def place(left: float, panel_width: float) -> Bbox:
        return Bbox.from_bounds(left, _BOTTOM_IN, panel_width, _PANEL_HEIGHT_IN)

    black = black_level(drawing.scan.counts)
    _draw_whole(figure, place(_GAP_IN, whole_width), drawing, black)
    _draw_thorax(figure, place(2 * _GAP_IN + whole_width, _PANEL_HEIGHT_IN), drawing, black)
    _draw_list(figure, place(3 * _GAP_IN + whole_width + _PANEL_HEIGHT_IN, _LIST_WIDTH_IN), drawing)
    left, top = _GAP_IN / width, 1.0 - 0.18 / height
    figure.text(left, top, _title(drawing), fontsize=14, color=INK, weight="bold", va="top", parse_math=False)
    figure.text(left, top - 0.29 / height, drawing.subtitle, fontsize=9, color=FAINT, va="top", parse_math=False)
    figure.text(1.0 - left, top, stamp, fontsize=13, color=LESION, weight="bold", va="top", ha="right")
    figure.text(left, 0.14 / height, drawing.notice, fontsize=9, color=INK, va="bottom", parse_math=False)
    save_picture(figure, path)


def save_panel(drawing: Drawing, path: Path | IO[bytes]) -> None:
    """Draws whole scan | thorax as PNG, without words: the picture of a patient's page."""
    rows, columns = drawing.scan.counts.shape
    height = 3.4
    whole_width = min(height * columns / rows, height)
    figure = Figure(figsize=(whole_width + 0.06 + height, height), dpi=150, facecolor="white")
    black = black_level(drawing.scan.counts)
    _draw_whole(figure, Bbox.from_bounds(0.0, 0.0, whole_width, height), drawing, black)
    _draw_thorax(figure, Bbox.from_bounds(whole_width + 0.06, 0.0, height, height), drawing, black)
    save_picture(figure, path)


def save_picture(figure: Figure, path: Path | IO[bytes]) -> None:
    """Writes a figure as PNG, fast: three colours without transparency, packed at a low level."""
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # letters of other scripts are drawn as boxes
        canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    picture.save(path, format="PNG", compress_level=_PNG_LEVEL, dpi=(figure.dpi, figure.dpi))


class _Panel:
    """Where a scan's pixels lie on a figure. Axes would do the same, and take longer than all that is drawn in them.

    Args:
      figure: it is drawn on.
      place: of the panel, in inches from the lower left; the scan keeps its proportions in its middle.
      counts: what is shown.
      black: counts that are shown black.
    """

    def __init__(self, figure: Figure, place: Bbox, counts: np.ndarray, black: float) -> None:
        rows, columns = counts.shape
        self.figure, self._inches = figure, figure.dpi_scale_trans
        pixel = min(place.width / columns, place.height / rows)
        left, bottom = place.x0 + (place.width - pixel * columns) / 2, place.y0 + (place.height - pixel * rows) / 2
        self.bounds = Bbox.from_bounds(left, bottom, pixel * columns, pixel * rows)
        shown = Affine2D().scale(pixel, -pixel).translate(left + pixel / 2, bottom + pixel * (rows - 0.5))
        self.pixels = shown + self._inches
        image = BboxImage(
            TransformedBbox(self.bounds, self._inches),
            cmap="gray_r",
            norm=Normalize(0.0, np.sqrt(black)),
            interpolation="bicubic",
        )
        image.set_data(np.sqrt(counts, dtype=np.float32))
        figure.add_artist(image)

    def rectangle(self, column: float, row: float, columns: float, rows: float, **style: Any) -> None:
        """A frame around pixels, cut off at the panel's edge."""
        self._add(Rectangle((column, row), columns, rows, fill=False, transform=self.pixels, **style))

    def lines(self, lines: Sequence[np.ndarray], **style: Any) -> None:
        """Lines of (column, row), cut off at the panel's edge."""
        self._add(LineCollection(lines, transform=self.pixels, **style))

    def border(self, colour: str, width: float) -> None:
        """The panel's own frame."""
        corner, size = self.bounds.p0, self.bounds.size
        self.figure.add_artist(
            Rectangle(tuple(corner), *size, fill=False, edgecolor=colour, linewidth=width, transform=self._inches)
        )

    def _add(self, artist: Artist) -> None:
        self.figure.add_artist(artist)
        artist.set_clip_path(None)
        artist.set_clip_box(TransformedBbox(self.bounds, self._inches))


def _draw_whole(figure: Figure, place: Bbox, drawing: Drawing, black: float) -> None:
    panel, box = _Panel(figure, place, drawing.scan.counts, black), drawing.box
    rows, columns = drawing.scan.counts.shape
    first = (max(box.column, 0) - 0.5, max(box.row, 0) - 0.5)
    last = (min(box.column + box.size_px, columns) - 0.5, min(box.row + box.size_px, rows) - 0.5)
    panel.rectangle(*first, last[0] - first[0], last[1] - first[1], edgecolor=FIELD, linewidth=1.4)
    _outline(panel, drawing.probability, drawing.threshold, linewidth=0.9)
    panel.border(LINE, 0.8)


def _draw_thorax(figure: Figure, place: Bbox, drawing: Drawing, black: float) -> None:
    box, scan = drawing.box, drawing.scan
    panel = _Panel(figure, place, crop(scan.counts, box), black)
    _outline(panel, crop(drawing.probability, box), drawing.threshold, linewidth=1.5)
    panel.border(FIELD, 1.6)
    size, pixel = box.size_px, panel.bounds.width / box.size_px

    def words(column: float, row: float, text: str, **style: Any) -> None:
        figure.text(column, row, text, transform=panel.pixels, **style)

    inside = (0.0, 0.96 * size)  # so that a number stays in the panel
    for lesion in drawing.lesions:
        radius = np.sqrt(lesion.area_px / np.pi)
        column = np.clip(lesion.centre_column_px - box.column + radius, *inside) + 3 / 72 / pixel
        row = np.clip(lesion.centre_row_px - box.row - radius, size - inside[1], None) - 2 / 72 / pixel
        words(column, row, str(lesion.id), fontsize=9, color=LESION, weight="bold")
    sides = {View.ANTERIOR: ("R", "L"), View.POSTERIOR: ("L", "R")}.get(scan.view, ("", ""))
    for side, where, align in zip(sides, (0.02, 0.98), ("left", "right"), strict=True):
        words(where * size - 0.5, 0.02 * size - 0.5, side, ha=align, va="top", fontsize=12, color=INK)
    if scan.pixel_size_mm is not None:
        row, column, length = 0.965 * size, 0.02 * size, _SCALE_BAR_MM / scan.pixel_size_mm[1]
        bar = np.array([[column, row], [column + length, row]])
        panel.lines([bar], color=INK, linewidth=2, capstyle="butt")
        rim = [withStroke(linewidth=2.5, foreground="white")]  # so that it can be read on a dark body
        words(column, row - 0.012 * size, f"{_SCALE_BAR_MM:g} mm", fontsize=8, color=INK, va="bottom", path_effects=rim)


def _draw_list(figure: Figure, place: Bbox, drawing: Drawing) -> None:
    within = BboxTransformTo(place) + figure.dpi_scale_trans

    def words(left: float, bottom: float, text: str, **style: Any) -> None:
        figure.text(left, bottom, text, transform=within, va="top", **style)

    number = len(drawing.lesions)
    heading = {0: "No lesion marked", 1: "1 lesion marked"}.get(number, f"{number} lesions marked")
    words(0, 1, heading, fontsize=12, weight="bold", color=LESION if number else INK)
    words(0, 0.955, f"probability above {drawing.threshold:.3g}", fontsize=9, color=FAINT)
    if not number:
        return
    in_mm = drawing.scan.pixel_size_mm is not None
    places, step = (0.08, 0.36, 0.66, 1.0), 0.038
    for left, text in zip(places, ("no.", "length mm" if in_mm else "area px", "counts", "prob."), strict=True):
        words(left, 0.9, text, fontsize=9, color=FAINT, ha="right")
    for index, lesion in enumerate(drawing.lesions[:_LIST_ROWS_MAX]):
        size = f"{lesion.major_axis_mm:.0f}" if in_mm else f"{lesion.area_px}"
        cells = (str(lesion.id), size, str(lesion.counts_max), f"{lesion.probability_max:.2f}")
        for left, text in zip(places, cells, strict=True):
            words(left, 0.86 - step * index, text, fontsize=9.5, color=INK, ha="right")
    if number > _LIST_ROWS_MAX:
        words(0, 0.86 - step * _LIST_ROWS_MAX, f"and {number - _LIST_ROWS_MAX} more (JSON)", fontsize=9, color=FAINT)


def _outline(panel: _Panel, probability: np.ndarray, threshold: float, *, linewidth: float) -> None:
    """Contour at the threshold; a frame of zeros closes the outlines that reach the edge."""
    framed = np.pad(probability, 1)
    if framed.max() > threshold:
        found = cast("list[np.ndarray]", contour_generator(z=framed, line_type=LineType.Separate).lines(threshold))
        panel.lines([line - 1.0 for line in found], color=LESION, linewidth=linewidth)


def _title(drawing: Drawing) -> str:
    view = drawing.scan.view
    said = view == View.UNKNOWN or drawing.title.lower().endswith(view.value)
    return drawing.title if said else f"{drawing.title}, {view.value}"
