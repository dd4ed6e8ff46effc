"""One picture of a whole run: every scan small, with what was marked, to see at a glance whether it worked."""

from __future__ import annotations

import dataclasses
import io
import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import BboxImage
from matplotlib.transforms import Bbox, TransformedBbox
from PIL import Image
from scipy import ndimage

from data_pipeline.normalize import black_level
from data_pipeline.pages.palette import FAINT, FIELD, INK, LESION, rgb
from data_pipeline.windows import crop
from msanet_jax.prediction.overlay import save_picture
from msanet_jax.prediction.segmentation import Segmentation

SHOWN_MAX = 60
_TILE_HEIGHT_PX, _TILE_WIDTH_PX = 360, 180
_COLUMNS_MAX = 12
_THUMBNAIL_PX = 288
_TILE_IN, _CAPTION_IN, _HEAD_IN, _DPI = 1.35, 0.42, 0.75, 130


@dataclasses.dataclass(frozen=True)
class Tile:
    """A scan of the contact sheet.

    Attributes:
      picture: [height, width, 3] uint8.
      name: of the result.
      caption: one line below.
    """

    picture: np.ndarray
    name: str
    caption: str


def tile(result: Segmentation, name: str) -> Tile:
    """The whole scan in inverse grey with filled marks and the thorax field."""
    counts = result.scan.counts
    factor = min(_TILE_HEIGHT_PX / counts.shape[0], _TILE_WIDTH_PX / counts.shape[1])
    picture = _grey(counts, black_level(counts), factor)
    _frame(picture, result, factor)
    picture[_outline(result.mask, picture.shape[1::-1])] = rgb(LESION)
    count = result.record.lesion_count
    caption = f"{result.scan.view.value}, {count} marked" if result.scan.view != "unknown" else f"{count} marked"
    return Tile(picture, name, caption)


def thumbnail(result: Segmentation) -> bytes:
    """PNG of the thorax field with outlined marks; of the whole scan where marks lie outside the field."""
    inside = crop(result.mask, result.box)
    whole = inside.sum() < result.mask.sum()
    counts = result.scan.counts if whole else crop(result.scan.counts, result.box)
    factor = _THUMBNAIL_PX / max(counts.shape)
    grey = _grey(counts, black_level(result.scan.counts), factor)[:, :, 0]
    edges = _outline(result.mask if whole else inside, grey.shape[::-1])
    # 64 greys and the colour of marks: small files with the colour exact.
    small = Image.fromarray(np.where(ndimage.binary_dilation(edges), 64, grey // 4).astype(np.uint8), "P")
    small.putpalette([*np.repeat(np.arange(64) * 255 // 63, 3).tolist(), *rgb(LESION)])
    content = io.BytesIO()
    small.save(content, format="PNG", optimize=True)
    return content.getvalue()


def _grey(counts: np.ndarray, black: float, factor: float) -> np.ndarray:
    """[height, width, 3] uint8: counts at another size, inverse grey."""
    grey = 255.0 * (1.0 - np.clip(np.sqrt(counts / black), 0.0, 1.0))
    size = (max(1, round(counts.shape[1] * factor)), max(1, round(counts.shape[0] * factor)))
    small = np.asarray(Image.fromarray(grey.astype(np.uint8)).resize(size, Image.Resampling.BOX))
    return np.repeat(small[:, :, None], 3, axis=2)


def save_preview(tiles: list[Tile], path: Path, *, scans: int, failures: int, notice: str) -> None:
    """Writes the contact sheet as PNG.

    Args:
      tiles: what is shown, at most `SHOWN_MAX`.
      path: where to.
      scans: how many there were.
      failures: how many files gave none.
      notice: printed below the heading.
    """
    # An even number, so that the two views of a patient stay side by side.
    columns = min(_COLUMNS_MAX, 2 * max(2, math.ceil(math.sqrt(5.0 * len(tiles)) / 2)))
    rows = max(1, math.ceil(len(tiles) / columns))
    # A sheet of thorax pictures needs no room for legs.
    tall = max((picture.picture.shape[0] for picture in tiles), default=1)
    wide = max((picture.picture.shape[1] for picture in tiles), default=1)
    tile_height = _TILE_IN * tall / wide
    width = columns * (_TILE_IN + 0.1) + 0.2
    height = _HEAD_IN + rows * (tile_height + _CAPTION_IN) + 0.1
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    head = f"{scans} scan{'s' if scans != 1 else ''} segmented"
    head += f", {failures} file{'s' if failures != 1 else ''} skipped" if failures else ""
    head += f"; the first {len(tiles)} are shown" if scans > len(tiles) else ""
    figure.text(0.12 / width, 1 - 0.14 / height, head, fontsize=11, weight="bold", color=INK, va="top")
    figure.text(0.12 / width, 1 - 0.4 / height, notice, fontsize=8, color=FAINT, va="top", parse_math=False)
    for number, entry in enumerate(tiles):
        row, column = divmod(number, columns)
        left = 0.15 + column * (_TILE_IN + 0.1)
        bottom = height - _HEAD_IN - row * (tile_height + _CAPTION_IN) - tile_height
        tile_rows, tile_columns = entry.picture.shape[:2]
        pixel = min(_TILE_IN / tile_columns, tile_height / tile_rows)
        place = Bbox.from_bounds(
            left + (_TILE_IN - pixel * tile_columns) / 2,
            bottom + tile_height - pixel * tile_rows,
            pixel * tile_columns,
            pixel * tile_rows,
        )
        shown = BboxImage(TransformedBbox(place, figure.dpi_scale_trans), interpolation="nearest")
        shown.set_data(entry.picture)
        figure.add_artist(shown)
        name = entry.name if len(entry.name) <= 22 else f"{entry.name[:10]}…{entry.name[-11:]}"
        figure.text(left / width, (bottom - 0.05) / height, name, fontsize=6.5, color=INK, va="top", parse_math=False)
        figure.text(left / width, (bottom - 0.19) / height, entry.caption, fontsize=6.5, color=FAINT, va="top")
    save_picture(figure, path)


def _frame(picture: np.ndarray, result: Segmentation, factor: float) -> None:
    """The thorax field's border, one pixel wide, where it lies inside the picture."""
    box = result.box
    first = np.array([box.row, box.column]) * factor
    last = np.array([box.row + box.size_px, box.column + box.size_px]) * factor - 1
    limits = np.array(picture.shape[:2]) - 1
    top, left = np.clip(np.round(first), 0, limits).astype(int)
    bottom, right = np.clip(np.round(last), 0, limits).astype(int)
    picture[[top, bottom], left : right + 1] = rgb(FIELD)
    picture[top : bottom + 1, [left, right]] = rgb(FIELD)


def _outline(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[height, width] bool: the edge of every mark, and the whole of those too small to have an inside."""
    small = np.asarray(Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BOX)) > 0.25
    return small & ~ndimage.binary_erosion(small)
