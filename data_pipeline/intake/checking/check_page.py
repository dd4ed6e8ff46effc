"""check.json and check.html: the figures, the problems, and a picture of every scan with its masks and thorax box.

The page is one file without scripts; it names images by their pseudonyms only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from data_pipeline.errors import RequestError
from data_pipeline.files import writable_folder, write_json, write_text
from data_pipeline.intake.checking.findings import CheckedImage, Report
from data_pipeline.intake.folder import load_boxes, load_masks, load_scan
from data_pipeline.normalize import black_level
from data_pipeline.pages import NOTICE, render
from data_pipeline.pages.palette import FIELD, MASKS, WEAK_BOX, rgb
from data_pipeline.windows import crop

PICTURE_ROWS = 400
PICTURES_MAX = 600
"""Of larger sets the page shows those with problems first, then as many others as fit."""

_GAP_PX = 6
Box = tuple[float, float, float, float]
"""Row, column, rows and columns in pixels of the scan."""

_TEMPLATE = Path(__file__).with_name("templates") / "check.html.jinja"


def write_check(report: Report, out: Path) -> None:
    """Writes both files into `out`.

    Raises:
      RequestError: `out` cannot be written.
    """
    writable_folder(out, "--out")
    write_json(out / "check.json", as_json(report))
    write_text(out / "check.html", page(report))


def describe(report: Report) -> str:
    """The fingerprint in a few lines."""
    figures = report.fingerprint
    views = ", ".join(f"{number} {view}" for view, number in figures["views"].items())
    pixels = ", ".join(f"{size} mm ({number})" for size, number in figures["pixel_sizes_mm"].items())
    sizes = figures["lesion_size_mm"]
    lesions = f", {sizes['low']:g} to {sizes['high']:g} mm (median {sizes['median']:g})" if sizes else ""
    splits = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in figures["patients_by_split"].items())
    counts = figures["counts_per_scan"]
    lines = [
        f"{figures['scans']} scans of {figures['patients']} patients ({views}); patients by split: {splits}",
        f"pixels: {pixels}; counts per scan: {_short(counts)}" if counts else f"pixels: {pixels}",
        f"{figures['lesions']} lesions in {figures['scans_with_lesion_mask']} scans with a mask{lesions}; "
        f"{figures['scans_with_empty_mask']} masks are empty",
        *report.notes,
        f"{len(report.problems)} problem(s)" if report.problems else "no problem found",
    ]
    return "\n".join(lines)


def _short(counts: dict[str, float]) -> str:
    return f"{counts['low'] / 1e6:.2f} to {counts['high'] / 1e6:.2f} million (median {counts['median'] / 1e6:.2f})"


def as_json(report: Report) -> dict[str, object]:
    """The report for programs."""
    return {
        "notice": NOTICE,
        "fingerprint": report.fingerprint,
        "problems": [dataclasses.asdict(problem) for problem in report.problems],
        "notes": report.notes,
    }


def page(report: Report) -> str:
    """The page."""
    patients: dict[str, list[tuple[CheckedImage, bytes]]] = {}
    bad = {image.entry.patient for image in report.images if image.problems}
    for image in sorted(report.images, key=lambda image: image.entry.patient not in bad)[:PICTURES_MAX]:
        patients.setdefault(image.entry.patient, []).append((image, _picture(report.data_set.folder, image)))
    figures = {
        re.sub(r" (mm|px)$", r", \1", name.replace("_", " ")): _figure_text(value)
        for name, value in report.fingerprint.items()
        if value not in (None, {})
    }
    return render(
        _TEMPLATE,
        report=report,
        simulated=report.data_set.origin == "simulated",
        figures=figures,
        legend=_legend(report),
        patients=patients,
        left_out=max(len(report.images) - PICTURES_MAX, 0),
    )


def _figure_text(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    if set(value) == {"low", "median", "high"}:
        low, median, high = (
            f"{value[key]:,.0f}" if abs(value[key]) >= 1000 else f"{value[key]:g}" for key in ("low", "median", "high")
        )
        return f"{low} to {high}, median {median}"
    return ", ".join(f"{key.replace('_', ' ')}: {number}" for key, number in value.items())


def _legend(report: Report) -> dict[str, str]:
    """What an outline means -> its colour."""
    present = {kind for image in report.images for kind in image.entry.masks}
    legend = {kind.replace("_", " "): colour for kind, colour in MASKS.items() if kind in present}
    weak = {"weak box": WEAK_BOX} if any(image.entry.weak_boxes for image in report.images) else {}
    return legend | {"thorax field": FIELD} | weak


def _picture(folder: Path, image: CheckedImage) -> bytes:
    """JPEG of the whole scan, and the thorax field enlarged next to it; nothing where the scan cannot be read."""
    entry, box = image.entry, image.entry.thorax
    try:
        scan = load_scan(folder, entry)
    except RequestError:
        return b""
    outlines: list[tuple[np.ndarray, str]] = []
    for kind, colour in reversed([(kind, colour) for kind, colour in MASKS.items() if kind in entry.masks]):
        with contextlib.suppress(RequestError):  # the check names it
            outlines += [(ids, colour) for ids in load_masks(folder, entry, (kind,)).values()]
    boxes: list[tuple[Box, str]] = []
    with contextlib.suppress(RequestError):
        boxes = [((weak.row, weak.column, weak.rows, weak.columns), WEAK_BOX) for weak in load_boxes(folder, entry)]
    black = black_level(scan.counts)
    moved = [((a - box.row, b - box.column, rows, columns), colour) for (a, b, rows, columns), colour in boxes]
    picture = _panel(crop(scan.counts, box), black, [(crop(ids, box), colour) for ids, colour in outlines], moved)
    if max(scan.counts.shape) > box.size_px:
        whole = _panel(scan.counts, black, outlines, [((box.row, box.column, box.size_px, box.size_px), FIELD), *boxes])
        both = Image.new("RGB", (whole.width + _GAP_PX + picture.width, PICTURE_ROWS), "white")
        both.paste(whole, (0, 0))
        both.paste(picture, (whole.width + _GAP_PX, 0))
        picture = both
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def _panel(
    counts: np.ndarray,
    black: float,
    outlines: Sequence[tuple[np.ndarray, str]],
    boxes: Sequence[tuple[Box, str]],
) -> Image.Image:
    """Counts in inverse grey, `PICTURE_ROWS` high, with masks outlined and boxes drawn, each in its colour."""
    level = 255.0 * (1.0 - np.sqrt(np.clip(counts / black, 0.0, 1.0)))
    scale = PICTURE_ROWS / counts.shape[0]
    size = max(1, round(scale * counts.shape[1])), PICTURE_ROWS
    grey = Image.fromarray(level.astype(np.uint8)).resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(grey.convert("RGB")).copy()
    for ids, colour in outlines:
        _outline(pixels, ids, rgb(colour))
    drawn = Image.fromarray(pixels)
    for box, colour in boxes:
        _rectangle(ImageDraw.Draw(drawn), box, scale, colour)
    return drawn


def _outline(pixels: np.ndarray, ids: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Colours two pixels just outside the mask; a lesion smaller than a pixel of the picture still shows."""
    rows, columns = pixels.shape[:2]
    nearest = np.ix_(np.arange(rows) * ids.shape[0] // rows, np.arange(columns) * ids.shape[1] // columns)
    region = ids[nearest] > 0
    row, column = np.nonzero(ids)
    region[row * rows // ids.shape[0], column * columns // ids.shape[1]] = True
    pixels[ndimage.binary_dilation(region, np.ones((3, 3), bool), iterations=2) & ~region] = colour


def _rectangle(draw: ImageDraw.ImageDraw, box: Box, scale: float, colour: str) -> None:
    row, column, rows, columns = (scale * value for value in box)
    width, height = draw.im.size
    left, top = max(column, 0), max(row, 0)
    right, bottom = min(column + columns, width) - 1, min(row + rows, height) - 1
    if right > left and bottom > top:
        draw.rectangle((left, top, right, bottom), outline=colour)
