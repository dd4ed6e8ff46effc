"""Files of a source -> scans, each with the annotations that belong to it."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from data_pipeline.annotations import coco
from data_pipeline.intake.sorting import ScanFile, Sorted
from data_pipeline.readers import names
from data_pipeline.readers.sources import Source, SourceFile
from data_pipeline.scan import ScanError, View

Key = tuple[tuple[str, ...], str]

_ALONE = "no scan of that name; name it as its scan with _mask behind, or remove it"
_SEVERAL = "several scans have that name; name it as one of them, in the same folder and with the same capitals"


@dataclasses.dataclass
class Pairing:
    """What `pair_files` made of a source.

    Attributes:
      scans: in the order of the source.
      segmentations: DICOM SEG files; they name their scans themselves.
      problems: (file, line) for what is left over; the line has no path.
      notes: lines about what was deliberately not read.
      finder: of the scans.
    """

    scans: list[ScanFile]
    segmentations: list[SourceFile]
    problems: list[tuple[SourceFile, str]]
    notes: list[str]
    finder: Finder


def pair_files(source: Source, *, channels: bool = False) -> Pairing:
    """Tells scans from annotations and gives every scan its own.

    The rules are those of `readers.names`, in this order: the same name after endings such as `_mask` and folders such
    as `masks` are taken off; else the only scan of that name in the whole source.

    Args:
      source: its files.
      channels: whether images end in nnU-Net's number of a channel.
    """
    found = Sorted()
    for file in source.files:
        found.take(file)
    scans: list[ScanFile] = []
    by_key: dict[Key, ScanFile] = {}
    copies = 0
    for scan in sorted(found.scans, key=lambda scan: names.rank(scan.file.name)):
        key = names.pairing_key(scan.file.name, channels=channels)
        if (better := by_key.get(key)) is not None and names.suffix_of(better.file.name) != names.suffix_of(
            scan.file.name
        ):
            copies += 1
            continue
        by_key.setdefault(key, scan)
        scans.append(scan)
    place = {file.name: number for number, file in enumerate(source.files)}
    scans.sort(key=lambda scan: place[scan.file.name])
    pairing = Pairing(scans, found.segmentations, found.problems, [], Finder(scans, channels=channels))
    if copies:
        pairing.notes.append(f"{copies} files beside a better one of the same name (DICOM before NPY before PNG)")
    if found.ignored:
        pairing.notes.append(f"{found.ignored} files that are no scans (texts, tables, results)")
    _attach(pairing, found, pairing.finder)
    for file, _ in pairing.problems:
        pairing.finder.refuse(file)
    return pairing


class Finder:
    """Finds the scan that an annotation belongs to."""

    def __init__(self, scans: list[ScanFile], *, channels: bool = False) -> None:
        self._channels = channels
        self._exact: dict[Key, list[ScanFile]] = defaultdict(list)
        self._folded: dict[Key, list[ScanFile]] = defaultdict(list)
        self._by_stem: dict[str, list[tuple[Key, ScanFile]]] = defaultdict(list)
        for scan in scans:
            key = names.pairing_key(scan.file.name, channels=channels)
            self._exact[key].append(scan)
            self._folded[names.folded(key)].append(scan)
            self._by_stem[names.folded(key)[1]].append((names.folded(key), scan))

    def __call__(self, *candidates: str) -> tuple[ScanFile | None, View | None]:
        """The scan of the first name that has one; a view with it where only the name without that view has one."""
        given = (*candidates, *(short for name in candidates if (short := names.without_upload(name)) != name))
        keys = [names.pairing_key(name, channels=self._channels) for name in given]
        for key in keys:
            if found := self._of_key(key):
                return (found[0] if len(found) == 1 else None), None
        for folders, stem in keys:
            view, rest = names.split_view(stem.lower())
            if view is not None and (found := self._of_key((folders, rest))):
                return (found[0] if len(found) == 1 else None), view
        return None, None

    def why_none(self, *candidates: str) -> str:
        """The line for an annotation that has no scan, or more than one."""
        keys = [names.pairing_key(name, channels=self._channels) for name in candidates]
        return _SEVERAL if any(len(self._of_key(key)) > 1 for key in keys) else _ALONE

    def refuse(self, file: SourceFile) -> None:
        """Takes note at the scans of that name, if there are any, that an annotation of them cannot be used."""
        key = names.pairing_key(file.name, channels=self._channels)
        scan, _ = self(file.name)
        for refused in [scan] if scan is not None else self._of_key(key):
            refused.refused = True

    def _of_key(self, key: Key) -> list[ScanFile]:
        """Scans of the same key; else those of that stem if there is one only, or one only in a folder above."""
        if key in self._exact:
            return self._exact[key]
        key = names.folded(key)
        if key in self._folded:
            return self._folded[key]
        alike = self._by_stem.get(key[1], [])
        if len(alike) > 1:
            alike = [(other, scan) for other, scan in alike if _above(other[0], key[0])]
        return [alike[0][1]] if len(alike) == 1 else []


def same_files(scans: Sequence[ScanFile]) -> bool:
    """Whether files are copies of one another."""
    return len(scans) < 2 or len({scan.file.path.read_bytes() for scan in scans}) == 1


def _above(folder: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return other[: len(folder)] == folder


def _attach(pairing: Pairing, found: Sorted, finder: Finder) -> None:
    for file, kind in found.masks:
        scan, view = finder(file.name)
        if scan is None:
            pairing.problems.append((file, finder.why_none(file.name)))
        elif (view, kind) in scan.masks:
            scan.refused = True
            pairing.problems.append((file, "a second mask of the same scan and kind; remove one"))
        else:
            scan.masks[view, kind] = file
    for file, picture in found.labelme:
        scan, view = finder(file.name, picture)
        if scan is None:
            pairing.problems.append((file, finder.why_none(file.name, picture)))
        else:
            _give(pairing, scan, scan.labelme, view, (file, file), "LabelMe file")
    for file in found.voc:
        scan, view = finder(file.name)
        if scan is None:
            pairing.problems.append((file, finder.why_none(file.name)))
        else:
            _give(pairing, scan, scan.voc, view, (file, file), "Pascal VOC file")
    for file, content in found.coco:
        try:
            images = coco.coco_annotations(content)
        except ScanError as error:
            pairing.problems.append((file, str(error)))
            for image in content["images"]:
                if isinstance(image, Mapping) and (scan := finder(str(image.get("file_name", "")))[0]) is not None:
                    scan.refused = True
            continue
        except Exception as error:  # what should be a list of objects may be anything
            pairing.problems.append((file, f"damaged ({type(error).__name__}); export it again"))
            continue
        for name, (image, entries) in images.items():
            scan, view = finder(name.replace("\\", "/"))
            if scan is None:
                pairing.problems.append((file, f"image {name!r} is not in the source; add the scan"))
            else:
                _give(pairing, scan, scan.coco, view, (file, (file, image, entries)), f"COCO annotation, {name!r},")
    for scan in pairing.scans:
        facts = found.patients.get(str(PurePosixPath(scan.file.name).parent))
        if facts is not None:
            scan.simulated, scan.facts = True, facts


def _give(
    pairing: Pairing,
    scan: ScanFile,
    slots: dict[View | None, Any],
    view: View | None,
    given: tuple[SourceFile, Any],
    what: str,
) -> None:
    """Puts what a file has for a scan into the slot of its view, unless the slot is taken."""
    file, value = given
    if view in slots:
        scan.refused = True
        pairing.problems.append((file, f"a second {what} of the same scan; remove one"))
    else:
        slots[view] = value
