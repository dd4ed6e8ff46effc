"""check.json and check.html: the figures, the problems, and a thumbnail of every scan with its masks and thorax box.

The page is one file without scripts; it names images by their pseudonyms only.
"""

from __future__ import annotations

import base64
import html
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from data_pipeline.errors import RequestError
from data_pipeline.files import writable_folder, write_json, write_text
from data_pipeline.intake.check import CheckedImage, Report
from data_pipeline.intake.folder import load_masks, load_scan
from data_pipeline.scan import Scan

NOTICE = "Research software, not for diagnosis."
THUMBNAIL_ROWS = 600
THUMBNAILS_MAX = 600
"""Of larger sets the page shows those with problems first, then as many others as fit."""

_COLOURS = {
    "lesions": (213, 94, 0),
    "benign": (0, 158, 115),
    "reader_1": (86, 180, 233),
    "reader_2": (204, 121, 167),
}
_BOX_COLOUR, _WEAK_COLOUR = (0, 114, 178), (148, 103, 189)
_BLACK_PERCENTILE = 99.3

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #212529; margin: 2rem auto; max-width: 1180px; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top }
th { font-weight: 600; white-space: nowrap } code { font-size: .86rem; overflow-wrap: anywhere }
.bad { color: #b02a37 } .good { color: #1b7a43 } .faint { color: #6c757d }
.legend span { margin-right: 1.2rem; white-space: nowrap }
.legend i { display: inline-block; width: .9rem; height: .9rem; margin-right: .35rem; vertical-align: -.1rem }
.images { display: flex; flex-wrap: wrap; gap: 1.1rem }
figure { margin: 0; width: 190px; padding: .6rem; border: 1px solid #dee2e6; border-radius: 6px }
figure.bad-image { border-color: #b02a37 } figure img { display: block; margin: 0 auto; max-width: 100% }
figcaption { font-size: .8rem; overflow-wrap: anywhere; margin-top: .4rem; color: #212529 }
"""


def write_check(report: Report, out: Path) -> None:
    """Writes both files into `out`.

    Raises:
      RequestError: `out` cannot be written.
    """
    writable_folder(out, "--out")
    write_json(out / "check.json", as_json(report))
    write_text(out / "check.html", page(report))


def as_json(report: Report) -> dict[str, object]:
    """The report for programs."""
    return {
        "notice": NOTICE,
        "fingerprint": report.fingerprint,
        "problems": [
            {"file": problem.file, "what": problem.what, "remedy": problem.remedy} for problem in report.problems
        ],
        "notes": report.notes,
    }


def page(report: Report) -> str:
    """The page."""
    shown = sorted(report.images, key=lambda image: not image.problems)[:THUMBNAILS_MAX]
    figures = "\n".join(_figure(report, image) for image in shown)
    rest = len(report.images) - len(shown)
    more = f"<p class='faint'>{rest} more images without problems are not shown.</p>" if rest > 0 else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Data set check</title><style>{_STYLE}</style></head><body>
<h1>Data set check</h1>
<p class="faint">{_origin(report)} {NOTICE}</p>
{_problems(report)}
<h2>What is in it</h2>
{_figures_table(report)}
<h2>Scans</h2>
<p class="legend">{_legend(report)}</p>
<div class="images">
{figures}
</div>
{more}
</body></html>
"""


def _origin(report: Report) -> str:
    if report.data_set.origin == "simulated":
        return "Simulated scans: scores on them are not comparable with scores on clinical data."
    return "Scans imported by their owner."


def _problems(report: Report) -> str:
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in report.notes)
    notes = f"<h2>To know</h2><ul>{notes}</ul>" if notes else ""
    if not report.problems:
        return f"<p class='good'>No problem found.</p>{notes}"
    rows = "".join(
        f"<tr><td><code>{html.escape(problem.file)}</code></td><td>{html.escape(problem.what)}</td>"
        f"<td>{html.escape(problem.remedy)}</td></tr>"
        for problem in report.problems
    )
    head = "<tr><th>File</th><th>Problem</th><th>Remedy</th></tr>"
    return f"<h2 class='bad'>{len(report.problems)} problem(s)</h2><table>{head}{rows}</table>{notes}"


def _figures_table(report: Report) -> str:
    rows = []
    for name, value in report.fingerprint.items():
        if value is None or value == {}:
            continue
        if isinstance(value, dict) and set(value) == {"low", "median", "high"}:
            text = (
                f"{_figure_text(value['low'])} to {_figure_text(value['high'])}, median {_figure_text(value['median'])}"
            )
        elif isinstance(value, dict):
            text = ", ".join(f"{key.replace('_', ' ')}: {number}" for key, number in value.items())
        else:
            text = str(value)
        rows.append(f"<tr><th>{html.escape(name.replace('_', ' '))}</th><td>{html.escape(text)}</td></tr>")
    return f"<table>{''.join(rows)}</table>"


def _figure_text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _legend(report: Report) -> str:
    present = {kind for image in report.images for kind in image.entry.masks if kind in _COLOURS}
    entries = [(kind.replace("_", " "), colour) for kind, colour in _COLOURS.items() if kind in present]
    entries.append(("thorax field", _BOX_COLOUR))
    if any(image.entry.weak_boxes for image in report.images):
        entries.append(("weak box", _WEAK_COLOUR))
    return "".join(f"<span><i style='background: rgb{colour}'></i>{name}</span>" for name, colour in entries)


def _figure(report: Report, image: CheckedImage) -> str:
    entry = image.entry
    picture = _thumbnail(report.data_set.folder, image)
    shown = f"<img alt='' src='data:image/jpeg;base64,{picture}'>" if picture else "<p class='bad'>cannot be read</p>"
    lesions = f"{len(image.lesions)} lesion{'' if len(image.lesions) == 1 else 's'}"
    masked = lesions if image.measured else "no lesion mask"
    label = f", {html.escape(entry.image_label)}" if entry.image_label else ""
    problems = "".join(f"<br><span class='bad'>{html.escape(problem.what)}</span>" for problem in image.problems)
    return (
        f"<figure{' class=bad-image' if image.problems else ''}>{shown}<figcaption><code>{html.escape(entry.image_id)}"
        f"</code><br>{image.split.replace('_', ' ')}, {masked}{label}, {image.counts / 1e6:.2f} M counts{problems}"
        "</figcaption></figure>"
    )


def _thumbnail(folder: Path, image: CheckedImage) -> str:
    """Base64 JPEG, or nothing where the scan cannot be read."""
    entry = image.entry
    try:
        scan = load_scan(folder, entry)
    except RequestError:
        return ""
    picture = _grey(scan)
    scale = picture.height / scan.counts.shape[0]
    pixels = np.asarray(picture).copy()
    for kind, colour in reversed(_COLOURS.items()):
        if kind not in entry.masks:
            continue
        try:
            ids = load_masks(folder, entry, (kind,))[kind]
        except RequestError:
            continue
        _outline(pixels, ids, colour)
    drawn = Image.fromarray(pixels)
    draw = ImageDraw.Draw(drawn)
    box = entry.thorax
    _rectangle(draw, box.row, box.column, box.size_px, box.size_px, scale, _BOX_COLOUR)
    if entry.weak_boxes:
        for weak in json.loads((folder / entry.weak_boxes).read_text(encoding="utf-8")).get("boxes", []):
            _rectangle(draw, weak["row"], weak["column"], weak["rows"], weak["columns"], scale, _WEAK_COLOUR)
    buffer = io.BytesIO()
    drawn.save(buffer, format="JPEG", quality=88)
    return base64.b64encode(buffer.getvalue()).decode()


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
    colour: tuple[int, int, int],
) -> None:
    width, height = draw.im.size
    left, top = max(column * scale, 0), max(row * scale, 0)
    right, bottom = min((column + columns) * scale, width) - 1, min((row + rows) * scale, height) - 1
    if right > left and bottom > top:
        draw.rectangle((left, top, right, bottom), outline=colour)
