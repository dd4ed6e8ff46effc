"""The folder of an imported data set: what is in it, how it is read, and what a user may edit.

dataset.json     version of the layout, origin (simulated or the user's own), masks
manifest.csv     one row per image: patient, view, pixel size, thorax box, files
splits.json      split -> patients
counts/          whole scans, 16 bit PNG (NPY where counts are larger)
masks/           instance ids, 8 bit PNG of the scan's size
weak/            boxes, never training targets and never scored
private/         key of the pseudonyms, image -> file of the source: not to be shared
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.annotations.kinds import KINDS, connected_instances
from data_pipeline.errors import RequestError
from data_pipeline.readers.images import open_picture
from data_pipeline.readers.values import check_size
from data_pipeline.scan import Scan, View
from data_pipeline.splits import SPLITS, check_disjoint
from data_pipeline.windows import ThoraxBox

LAYOUT_VERSION = 1
DOCUMENT, MANIFEST, SPLITS_FILE, PRIVATE = "dataset.json", "manifest.csv", "splits.json", "private"
LEFT_OUT = "left_out"
"""In splits.json: patients in no split, such as those without any mask."""

ORIGINS = ("simulated", "own")

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


@dataclasses.dataclass(frozen=True)
class DataSetFolder:
    """An imported data set.

    Attributes:
      folder: where it is.
      entries: its images.
      splits: split -> patients, `left_out` included.
      origin: `simulated` or `own`.
    """

    folder: Path
    entries: tuple[ImageEntry, ...]
    splits: Mapping[str, tuple[str, ...]]
    origin: str

    def of_split(self, split: str) -> list[ImageEntry]:
        """Images of a split that have a lesion mask."""
        patients = set(self.splits.get(split, ()))
        return [entry for entry in self.entries if entry.patient in patients and "lesions" in entry.masks]

    def mask_kinds(self) -> tuple[str, ...]:
        """Kinds that every image in train, validation and test has; only these can be trained on or scored."""
        used = [entry for split in SPLITS for entry in self.of_split(split)]
        return tuple(kind for kind in KINDS if used and all(kind in entry.masks for entry in used))

    def digest(self) -> str:
        """SHA-256 over everything that training reads: changes when a mask, a box or a split is edited."""
        total = hashlib.sha256()
        names = {entry.counts for entry in self.entries} | {
            name for entry in self.entries for name in (*entry.masks.values(), entry.lesion_facts) if name
        }
        for name in (MANIFEST, SPLITS_FILE, *sorted(names)):
            total.update(name.encode() + b"\0" + (self.folder / name).read_bytes())
        return total.hexdigest()


def is_data_set(path: str | Path) -> bool:
    """Whether `path` is a folder that `msanet import` wrote."""
    return (Path(path) / MANIFEST).is_file()


def read_data_set(folder: str | Path) -> DataSetFolder:
    """Reads manifest and splits and checks that they hold together.

    Raises:
      RequestError: absent or damaged files, a wrong cell (named by line), a patient in two splits or in none.
    """
    folder = Path(folder)
    document = _json(folder / DOCUMENT)
    if document.get("layout_version") != LAYOUT_VERSION or document.get("origin") not in ORIGINS:
        raise RequestError(f"{folder / DOCUMENT}: of another version of the program; import the scans again")
    path = folder / MANIFEST
    try:
        # Spreadsheets add a byte-order mark, and some write semicolons.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: cannot be read ({error}); save it as UTF-8 CSV") from None
    delimiter = ";" if text.split("\n", 1)[0].count(";") > text.split("\n", 1)[0].count(",") else ","
    rows = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise RequestError(f"{path}: has no column {missing[0]}; columns must keep their names")
    entries = tuple(_entry(row, folder, f"{path}, line {line}") for line, row in enumerate(rows, start=2))
    if not entries:
        raise RequestError(f"{path}: has no images")
    twice = sorted(name for name, number in Counter(entry.image_id for entry in entries).items() if number > 1)
    if twice:
        raise RequestError(f"{path}: image_id {twice[0]} occurs twice; every image needs its own")
    splits = _read_splits(folder / SPLITS_FILE, {entry.patient for entry in entries})
    return DataSetFolder(folder, entries, splits, document["origin"])


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


def load_scan(folder: Path, entry: ImageEntry) -> Scan:
    """The whole scan of an entry.

    Raises:
      RequestError: its file is absent, damaged or no count image.
    """
    counts = read_stored(folder / entry.counts)
    return Scan(counts.astype(np.int32), entry.pixel_size_mm, entry.view, entry.patient, entry.image_id)


def load_masks(folder: Path, entry: ImageEntry, kinds: Iterable[str]) -> dict[str, np.ndarray]:
    """Instance ids uint8 of the given kinds.

    A mask of 0 and 255 alone, as drawing programs save it, has no lesion numbers: its connected regions are numbered,
    as in the import.

    Raises:
      RequestError: a file is absent or damaged, its size is not the scan's, or it has more than 255 regions.
    """
    shape = stored_shape(folder / entry.counts)
    masks = {}
    for kind in kinds:
        path = folder / entry.masks[kind]
        ids = read_stored(path)
        if ids.shape != shape:
            raise RequestError(
                f"{path}: {ids.shape[0]} x {ids.shape[1]} pixels, its scan has {shape[0]} x {shape[1]}; "
                "save the mask at the scan's size"
            )
        if ids.max(initial=0) > 255:
            raise RequestError(f"{path}: values above 255; a mask holds instance numbers 0 to 255")
        drawn = ids == 255
        masks[kind] = connected_instances(drawn, str(path)) if (drawn == (ids > 0)).all() else ids.astype(np.uint8)
    return masks


def load_facts(folder: Path, entry: ImageEntry) -> list[dict[str, Any]]:
    """Rows of facts per lesion; none where there is no file."""
    return _json(folder / entry.lesion_facts)["lesions"] if entry.lesion_facts else []


def read_stored(path: Path) -> np.ndarray:
    """Integers `[rows, columns]` of a PNG or NPY of the data set.

    Raises:
      RequestError: absent, damaged, colour.
    """
    try:
        if path.suffix == ".npy":
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            with open_picture(path) as picture:
                check_size(picture.size[::-1], str(path))
                values = np.asarray(picture)
    except RequestError:
        raise
    except Exception as error:  # PIL has many
        raise RequestError(f"{path}: cannot be read ({type(error).__name__}); import the scans again") from None
    if values.ndim != 2 or values.dtype.kind not in "iub":
        raise RequestError(f"{path}: must hold one whole number per pixel; save it as grey PNG")
    return np.asarray(values)


def stored_shape(path: Path) -> tuple[int, int]:
    """(rows, columns) of a stored image, without reading its pixels where it is a picture."""
    if path.suffix == ".npy":
        rows, columns = read_stored(path).shape
        return rows, columns
    try:
        with open_picture(path) as picture:
            return picture.size[1], picture.size[0]
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({type(error).__name__}); import the scans again") from None


def _json(path: Path) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise RequestError(f"{path}: is missing; is this a folder that `msanet import` wrote?") from None
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: is not readable JSON ({error})") from None
    if not isinstance(content, dict):
        raise RequestError(f"{path}: must hold a JSON object")
    return content


def _read_splits(path: Path, patients: set[str]) -> dict[str, tuple[str, ...]]:
    content = _json(path)
    allowed = (*SPLITS, LEFT_OUT)
    for name, members in content.items():
        if name not in allowed:
            raise RequestError(f"{path}: split {name!r} must be one of {', '.join(allowed)}")
        if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
            raise RequestError(f"{path}: {name} must be a list of patients")
    try:
        check_disjoint(content)
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from None
    listed = {member for members in content.values() for member in members}
    if unknown := sorted(listed - patients):
        raise RequestError(f"{path}: patient {unknown[0]} is not in {MANIFEST}")
    if absent := sorted(patients - listed):
        raise RequestError(f"{path}: patient {absent[0]} is in no split; add it to one, or to {LEFT_OUT}")
    return {name: tuple(content.get(name, ())) for name in allowed}


def _entry(row: Mapping[str, str], folder: Path, where: str) -> ImageEntry:
    def file(name: str) -> str:
        value = (row[name] or "").strip()
        try:
            inside = (folder / value).resolve().is_relative_to(folder.resolve())
            there = not value or (folder / value).is_file()
        except (OSError, ValueError) as error:  # a null byte, a name too long
            raise RequestError(f"{where}: {name} holds no name of a file ({type(error).__name__}); mend it") from None
        if not inside:
            raise RequestError(f"{where}: {name} {value} lies out of the data set; copy the file into it")
        if not there:
            raise RequestError(f"{where}: {name} {value} is not there; restore the file or empty the cell")
        return value

    try:
        view = View(row["view"])
    except ValueError:
        raise RequestError(f"{where}: view {row['view']!r} must be one of {', '.join(View)}") from None
    try:
        pixel = (float(row["pixel_row_mm"]), float(row["pixel_column_mm"]))
        thorax = ThoraxBox(*(int(row[name]) for name in _THORAX))
    except (ValueError, TypeError):
        raise RequestError(f"{where}: pixel sizes and the thorax box must be numbers") from None
    if not (0 < pixel[0] < 100 and 0 < pixel[1] < 100 and 16 <= thorax.size_px <= 8192):
        raise RequestError(f"{where}: pixel size {pixel[0]:g} mm or thorax box of {thorax.size_px} px is impossible")
    if not row["image_id"] or not row["patient"] or not (counts := file("counts")):
        raise RequestError(f"{where}: image_id, patient and counts must be filled in")
    return ImageEntry(
        image_id=row["image_id"],
        patient=row["patient"],
        view=view,
        pixel_size_mm=pixel,
        pixel_size_from=row["pixel_size_from"] or "",
        thorax=thorax,
        counts=counts,
        masks={kind: name for kind in KINDS if (name := file(kind))},
        lesion_facts=file("lesion_facts"),
        weak_boxes=file("weak_boxes"),
        image_label=row["image_label"] or "",
        notes=row["notes"] or "",
    )
