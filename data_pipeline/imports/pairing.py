"""Files of a source -> scans, each with the annotations that belong to it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pydicom

from data_pipeline.annotations import outlines
from data_pipeline.imports import names
from data_pipeline.readers.dicom import quiet
from data_pipeline.readers.sources import Source, SourceFile
from data_pipeline.scan import ScanError, View

Key = tuple[tuple[str, ...], str]


@dataclasses.dataclass
class ScanFile:
    """A file that holds a scan (or two views), and what was found to annotate it.

    Attributes:
      file: the scan.
      dicom: whether it may be a DICOM, that is, no picture and no array.
      uid: SOP instance UID of a DICOM, or empty.
      simulated: whether its header or folder says so.
      masks: (view or None, kind) -> file of pixels; a view only where the mask's name has one that the scan's has not.
      labelme: JSON file.
      coco: (file, image entry, annotations).
      voc: XML file.
      label: of the image as a whole.
      facts: lesion rows by view, of simulated patients.
    """

    file: SourceFile
    dicom: bool = False
    uid: str = ""
    simulated: bool = False
    masks: dict[tuple[View | None, str], SourceFile] = dataclasses.field(default_factory=dict)
    labelme: SourceFile | None = None
    coco: tuple[SourceFile, Mapping[str, Any], list[Mapping[str, Any]]] | None = None
    voc: SourceFile | None = None
    label: str = ""
    facts: Mapping[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Pairing:
    """What `pair_files` made of a source.

    Attributes:
      scans: in the order of the source.
      segmentations: DICOM SEG files; they name their scans themselves.
      problems: (file, line) for what is left over; the line has no path.
      notes: lines about what was deliberately not read.
    """

    scans: list[ScanFile]
    segmentations: list[SourceFile]
    problems: list[tuple[SourceFile, str]]
    notes: list[str]


def pair_files(source: Source) -> Pairing:
    """Tells scans from annotations and gives every scan its own.

    The rules are those of `imports.names`, in this order: the same name after endings such as `_mask` and folders such
    as `masks` are taken off; else the only scan of that name in the whole source.
    """
    found = _Sorted()
    for file in source.files:
        found.take(file)
    pairing = Pairing([], found.segmentations, found.problems, [])
    by_key: dict[Key, ScanFile] = {}
    copies = 0
    for scan in sorted(found.scans, key=lambda scan: names.rank(scan.file.name)):
        key = names.pairing_key(scan.file.name)
        if (better := by_key.get(key)) is not None and names.suffix_of(better.file.name) != names.suffix_of(
            scan.file.name
        ):
            copies += 1
            continue
        by_key.setdefault(key, scan)
        pairing.scans.append(scan)
    place = {file.name: number for number, file in enumerate(source.files)}
    pairing.scans.sort(key=lambda scan: place[scan.file.name])
    if copies:
        pairing.notes.append(f"{copies} files beside a better one of the same name (DICOM before NPY before PNG)")
    if found.ignored:
        pairing.notes.append(f"{found.ignored} files that are no scans (texts, tables, results)")
    _attach(pairing, found, Finder(pairing.scans))
    return pairing


class Finder:
    """Finds the scan that an annotation belongs to."""

    def __init__(self, scans: list[ScanFile]) -> None:
        self._by_key = {names.pairing_key(scan.file.name): scan for scan in reversed(scans)}
        self._by_stem: dict[str, list[ScanFile]] = defaultdict(list)
        for scan in scans:
            self._by_stem[names.pairing_key(scan.file.name)[1]].append(scan)

    def __call__(self, name: str) -> ScanFile | None:
        """The scan of the same key; else the only one of that stem, or the only one in a folder above."""
        key = names.pairing_key(name)
        if key in self._by_key:
            return self._by_key[key]
        candidates = self._by_stem.get(key[1], [])
        if len(candidates) > 1:
            candidates = [scan for scan in candidates if _above(names.pairing_key(scan.file.name)[0], key[0])]
        return candidates[0] if len(candidates) == 1 else None

    def of_view(self, name: str) -> tuple[ScanFile, View] | None:
        """The scan of both views whose name is that of `name` without the word of a view."""
        folders, stem = names.pairing_key(name)
        view, rest = names.split_view(stem)
        if view is None:
            return None
        scan = self._by_key.get((folders, rest))
        return (scan, view) if scan is not None else None


def _above(folder: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return other[: len(folder)] == folder


class _Sorted:
    """Files by what they are."""

    def __init__(self) -> None:
        self.scans: list[ScanFile] = []
        self.masks: list[tuple[SourceFile, str]] = []
        self.segmentations: list[SourceFile] = []
        self.labelme: list[tuple[SourceFile, Any]] = []
        self.coco: list[tuple[SourceFile, Any]] = []
        self.voc: list[SourceFile] = []
        self.patients: dict[str, Any] = {}
        self.problems: list[tuple[SourceFile, str]] = []
        self.ignored = 0

    def take(self, file: SourceFile) -> None:
        """Sorts one file in."""
        suffix = names.suffix_of(file.name)
        if names.is_derived(file.name) or suffix in names.NOT_IMAGES:
            self.ignored += 1
        elif suffix == ".json":
            self._take_json(file)
        elif suffix == ".xml":
            self.voc.append(file)
        elif suffix in names.PICTURES or suffix in (".npy", ".nii"):
            kind = names.mask_kind(file.name)
            if kind is None:
                self.scans.append(ScanFile(file))
            else:
                self.masks.append((file, kind))
        else:
            self._take_dicom(file)

    def _take_json(self, file: SourceFile) -> None:
        try:
            content = outlines.read_json(file.path)
        except ScanError as error:
            self.problems.append((file, str(error)))
            return
        if outlines.is_labelme(content):
            self.labelme.append((file, content))
        elif outlines.is_coco(content):
            self.coco.append((file, content))
        elif isinstance(content, dict) and "PhantomBone" in str(content.get("note", "")) and "views" in content:
            self.patients[str(PurePosixPath(file.name).parent)] = content["views"]
        elif content is None:
            self.problems.append((file, "is no readable JSON; remove it, or export the annotation again"))
        else:
            self.ignored += 1

    def _take_dicom(self, file: SourceFile) -> None:
        modality, uid, simulated = peek(file.path)
        if modality == "SEG":
            self.segmentations.append(file)
        else:
            self.scans.append(ScanFile(file, True, uid, simulated))


def peek(path: Path) -> tuple[str, str, bool]:
    """Modality, SOP instance UID and whether simulated; empty where the file is no DICOM."""
    with quiet(), contextlib.suppress(Exception):  # what is wrong with a scan its reader says
        header = pydicom.dcmread(
            path, stop_before_pixels=True, specific_tags=["Modality", "SOPInstanceUID", "ImageType"]
        )
        kind = [str(part) for part in header.get("ImageType", None) or ()]
        return str(header.get("Modality", "")), str(header.get("SOPInstanceUID", "")), "SIMULATED" in kind
    return "", "", False


def _attach(pairing: Pairing, found: _Sorted, finder: Finder) -> None:
    alone = "no scan of that name; name it as its scan with _mask behind, or remove it"
    for file, kind in found.masks:
        scan, view = finder(file.name), None
        if scan is None and (of_view := finder.of_view(file.name)) is not None:
            scan, view = of_view
        if scan is None:
            pairing.problems.append((file, alone))
        elif (view, kind) in scan.masks:
            pairing.problems.append((file, "a second mask of the same scan and kind; remove one"))
        else:
            scan.masks[view, kind] = file
    for file, content in found.labelme:
        scan = finder(file.name) or finder(str(content["imagePath"]).replace("\\", "/"))
        if scan is None or scan.labelme is not None:
            pairing.problems.append((file, alone if scan is None else "a second LabelMe file of the scan; remove one"))
        else:
            scan.labelme = file
    for file, content in found.coco:
        for name, (image, entries) in outlines.coco_annotations(content).items():
            scan = finder(name.replace("\\", "/"))
            if scan is None:
                pairing.problems.append((file, f"image {name} is not in the source; add the scan"))
            else:
                scan.coco = (file, image, entries)
    for file in found.voc:
        if (scan := finder(file.name)) is None:
            pairing.problems.append((file, alone))
        else:
            scan.voc = file
    for scan in pairing.scans:
        views = found.patients.get(str(PurePosixPath(scan.file.name).parent))
        if views is not None:
            scan.simulated = True
            scan.facts = {name: view.get("lesions", []) for name, view in views.items() if isinstance(view, dict)}
