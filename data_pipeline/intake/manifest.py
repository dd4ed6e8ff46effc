"""manifest.csv of an imported data set: one row per image, which users may edit."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from data_pipeline.annotations.kinds import KINDS
from data_pipeline.errors import RequestError
from data_pipeline.files import resolved
from data_pipeline.reading import read_table
from data_pipeline.scan import View
from data_pipeline.windows import ThoraxBox

MANIFEST = "manifest.csv"
_PLAIN = ("image_id", "patient", "view", "pixel_row_mm", "pixel_column_mm", "pixel_size_from")
_THORAX = ("thorax_row", "thorax_column", "thorax_size_px")
_FILES = ("counts", *KINDS, "lesion_facts", "weak_boxes")
COLUMNS = (*_PLAIN, *_THORAX, *_FILES, "image_label", "notes")


@dataclasses.dataclass(frozen=True)
class ImageEntry:
    """A row of the manifest.

    Attributes:
      image_id: unique; also the stem of its files.
      patient: pseudonym.
      view: which side.
      pixel_size_mm: (row, column) spacing.
      pixel_size_from: `file` (stated there), `assumed`, or what the user writes.
      thorax: box in scan pixels.
      counts: file, relative to the folder.
      masks: kind -> file; a kind that is not here was not annotated.
      lesion_facts: JSON file with a row per lesion, or empty.
      weak_boxes: JSON file, or empty.
      image_label: of the whole image, or empty.
      notes: what the reader mended or assumed.
    """

    image_id: str
    patient: str
    view: View
    pixel_size_mm: tuple[float, float]
    pixel_size_from: str
    thorax: ThoraxBox
    counts: str
    masks: Mapping[str, str]
    lesion_facts: str = ""
    weak_boxes: str = ""
    image_label: str = ""
    notes: str = ""


def read_entries(folder: Path) -> tuple[ImageEntry, ...]:
    """The images of a data set folder.

    Raises:
      RequestError: no such file, a column is missing, or a cell is wrong (named by line).
    """
    path = folder / MANIFEST
    rows = read_table(path, COLUMNS, remedy="save it as UTF-8 CSV, columns must keep their names")
    if not rows:
        raise RequestError(f"{path}: has no images; import the scans again")
    return tuple(_entry(row, folder, f"{path}, line {line}") for line, row in rows)


def manifest_text(entries: Iterable[ImageEntry]) -> str:
    """The CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for entry in entries:
        writer.writerow(
            {
                **{name: getattr(entry, name) for name in COLUMNS if hasattr(entry, name)},
                **entry.masks,
                "view": str(entry.view),
                "pixel_row_mm": f"{entry.pixel_size_mm[0]:.6g}",
                "pixel_column_mm": f"{entry.pixel_size_mm[1]:.6g}",
                "thorax_row": entry.thorax.row,
                "thorax_column": entry.thorax.column,
                "thorax_size_px": entry.thorax.size_px,
            }
        )
    return text.getvalue()


def _entry(row: Mapping[str, str], folder: Path, where: str) -> ImageEntry:
    def file(name: str) -> str:
        value = row[name].strip()
        try:
            inside = resolved(folder / value).is_relative_to(resolved(folder))
            there = not value or (folder / value).is_file()
        except (OSError, ValueError):  # no name of a file at all
            inside, there = True, False
        if not inside:
            raise RequestError(f"{where}: {name} {value} lies out of the data set; copy the file into it")
        if not there:
            raise RequestError(f"{where}: {name} {value[:80]} is not there; restore the file or empty the cell")
        return value

    try:
        view = View(row["view"])
    except ValueError:
        raise RequestError(f"{where}: view {row['view'][:40]!r} must be one of {', '.join(View)}") from None
    try:
        pixel = (float(row["pixel_row_mm"]), float(row["pixel_column_mm"]))
        thorax = ThoraxBox(*(int(row[name]) for name in _THORAX))
    except (ValueError, TypeError):
        raise RequestError(f"{where}: pixel sizes and the thorax box must be numbers") from None
    near = max(abs(thorax.row), abs(thorax.column)) <= 1 << 16
    if not (0 < pixel[0] < 100 and 0 < pixel[1] < 100 and 16 <= thorax.size_px <= 8192 and near):
        size = row[_THORAX[2]][:20]
        raise RequestError(f"{where}: pixel size {pixel[0]:g} mm or thorax box of {size} px is impossible")
    if not row["image_id"] or not row["patient"] or not (counts := file("counts")):
        raise RequestError(f"{where}: image_id, patient and counts must be filled in")
    return ImageEntry(
        image_id=row["image_id"],
        patient=row["patient"],
        view=view,
        pixel_size_mm=pixel,
        pixel_size_from=row["pixel_size_from"],
        thorax=thorax,
        counts=counts,
        masks={kind: name for kind in KINDS if (name := file(kind))},
        lesion_facts=file("lesion_facts"),
        weak_boxes=file("weak_boxes"),
        image_label=row["image_label"],
        notes=row["notes"],
    )
