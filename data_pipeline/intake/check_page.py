"""check.json and check.html: the figures, the problems, and a thumbnail of every scan with its masks and thorax box.

The page is one file without scripts; it names images by their pseudonyms only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from data_pipeline.errors import RequestError
from data_pipeline.files import writable_folder, write_json, write_text
from data_pipeline.intake.check import CheckedImage, Report
from data_pipeline.intake.folder import load_boxes, load_masks, load_scan
from data_pipeline.pages import NOTICE, render
from data_pipeline.pages.palette import FIELD, MASKS, WEAK_BOX, rgb
from data_pipeline.scan import Scan

THUMBNAIL_ROWS = 600
THUMBNAILS_MAX = 600
"""Of larger sets the page shows those with problems first, then as many others as fit."""

_BLACK_PERCENTILE = 99.3
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
    shown = sorted(report.images, key=lambda image: not image.problems)[:THUMBNAILS_MAX]
    figures = {name: _figure_text(value) for name, value in report.fingerprint.items() if value not in (None, {})}
    return render(
        _TEMPLATE,
        report=report,
        simulated=report.data_set.origin == "simulated",
        figures=figures,
        legend=_legend(report),
        images=[(image, _thumbnail(report.data_set.folder, image)) for image in shown],
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


def _thumbnail(folder: Path, image: CheckedImage) -> bytes:
    """JPEG, or nothing where the scan cannot be read."""
    entry = image.entry
    try:
        scan = load_scan(folder, entry)
    except RequestError:
        return b""
    picture = _grey(scan)
    scale = picture.height / scan.counts.shape[0]
    pixels = np.asarray(picture).copy()
    for kind, colour in reversed(MASKS.items()):
        if kind not in entry.masks:
            continue
        try:
            ids = load_masks(folder, entry, (kind,))[kind]
        except RequestError:
            continue
        _outline(pixels, ids, rgb(colour))
    drawn = Image.fromarray(pixels)
    draw = ImageDraw.Draw(drawn)
    box = entry.thorax
    _rectangle(draw, box.row, box.column, box.size_px, box.size_px, scale, FIELD)
    with contextlib.suppress(RequestError):  # the check names it
        for weak in load_boxes(folder, entry):
            _rectangle(draw, weak.row, weak.column, weak.rows, weak.columns, scale, WEAK_BOX)
    buffer = io.BytesIO()
    drawn.save(buffer, format="JPEG", quality=88)
    return buffer.getvalue()


def _grey(scan: Scan) -> Image.Image:
    counts = scan.counts
    inside = counts[counts > counts.mean()]
    black = max(float(np.percentile(inside, _BLACK_PERCENTILE)), 1.0) if inside.size else 1.0
    level = 255.0 * (1.0 - np.sqrt(np.clip(counts / black, 0.0, 1.0)))
    rows = min(THUMBNAIL_ROWS, 2 * counts.shape[0])
    columns = max(1, round(rows * counts.shape[1] / counts.shape[0]))
    small = Image.fromarray(level.astype(np.uint8)).resize((columns, rows), Image.Resampling.LANCZOS)
    return small.convert("RGB")


def _outline(pixels: np.ndarray, ids: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Colours the pixels just outside the mask; a lesion smaller than a thumbnail's pixel still shows."""
    rows, columns = pixels.shape[:2]
    region = np.zeros((rows, columns), bool)
    row, column = np.nonzero(ids)
    region[row * rows // ids.shape[0], column * columns // ids.shape[1]] = True
    pixels[ndimage.binary_dilation(region, np.ones((3, 3), bool)) & ~region] = colour


def _rectangle(
    draw: ImageDraw.ImageDraw,
    row: float,
    column: float,
    rows: float,
    columns: float,
    scale: float,
    colour: str,
) -> None:
    width, height = draw.im.size
    left, top = max(column * scale, 0), max(row * scale, 0)
    right, bottom = min((column + columns) * scale, width) - 1, min((row + rows) * scale, height) - 1
    if right > left and bottom > top:
        draw.rectangle((left, top, right, bottom), outline=colour)
