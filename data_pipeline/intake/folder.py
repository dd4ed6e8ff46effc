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

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_pipeline.annotations.kinds import KINDS, WeakBox, connected_instances
from data_pipeline.annotations.lesion_facts import LesionFacts
from data_pipeline.errors import RequestError
from data_pipeline.intake.manifest import MANIFEST, ImageEntry, read_entries
from data_pipeline.readers.formats.images import open_picture
from data_pipeline.readers.values import check_size
from data_pipeline.reading import as_record, read_json
from data_pipeline.scan import Scan
from data_pipeline.splits import SPLITS, check_disjoint

LAYOUT_VERSION = 1
DOCUMENT, SPLITS_FILE, PRIVATE = "dataset.json", "splits.json", "private"
LEFT_OUT = "left_out"
"""In splits.json: patients in no split, such as those without any mask."""

_MEND = f"mend it, or empty its cell in {MANIFEST}"


@dataclasses.dataclass(frozen=True)
class _Document:
    """What dataset.json holds."""

    layout_version: Literal[1]
    origin: Literal["simulated", "own"]


@dataclasses.dataclass(frozen=True)
class _Lesions:
    """What masks/ID_lesions.json holds."""

    lesions: list[LesionFacts]


@dataclasses.dataclass(frozen=True)
class _WeakBoxes:
    """What weak/ID.json holds."""

    boxes: list[WeakBox]


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
    document = read_json(folder / DOCUMENT, _Document, remedy="import the scans again")
    path = folder / MANIFEST
    entries = read_entries(folder)
    twice = sorted(name for name, number in Counter(entry.image_id for entry in entries).items() if number > 1)
    if twice:
        raise RequestError(f"{path}: image_id {twice[0]} occurs twice; every image needs its own")
    splits = _read_splits(folder / SPLITS_FILE, {entry.patient for entry in entries})
    return DataSetFolder(folder, entries, splits, document.origin)


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


def load_facts(folder: Path, entry: ImageEntry) -> list[LesionFacts]:
    """What the data set says of each lesion; none where there is no file.

    Raises:
      RequestError: the file is damaged.
    """
    if not entry.lesion_facts:
        return []
    return read_json(folder / entry.lesion_facts, _Lesions, remedy=_MEND).lesions


def load_boxes(folder: Path, entry: ImageEntry) -> list[WeakBox]:
    """Weak labels; none where there is no file.

    Raises:
      RequestError: the file is damaged.
    """
    if not entry.weak_boxes:
        return []
    return read_json(folder / entry.weak_boxes, _WeakBoxes, remedy=_MEND).boxes


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


def _read_splits(path: Path, patients: set[str]) -> dict[str, tuple[str, ...]]:
    remedy = "a split is a list of patients"
    content = read_json(path, dict[str, Any], remedy=remedy)
    allowed = (*SPLITS, LEFT_OUT)
    for name, members in content.items():
        if name not in allowed:
            raise RequestError(f"{path}: split {name!r} must be one of {', '.join(allowed)}")
        as_record(members, list[str], where=f"{path}: {name}", remedy=remedy)
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
