"""Files of a source -> scans, each with the annotations that belong to it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from data_pipeline.annotations import coco, outlines
from data_pipeline.errors import RequestError
from data_pipeline.intake import strangers
from data_pipeline.readers import names
from data_pipeline.readers.dicom_file import quiet, read_dicom_file
from data_pipeline.readers.sources import Source, SourceFile
from data_pipeline.reading import as_record
from data_pipeline.scan import ScanError, View

Key = tuple[tuple[str, ...], str]
CocoImage = tuple[SourceFile, Mapping[str, Any], list[Mapping[str, Any]]]
Facts = list[dict[str, Any]]
"""What patient.json says of the lesions in a view; it is copied, not understood."""

_ALONE = "no scan of that name; name it as its scan with _mask behind, or remove it"
_SEVERAL = "several scans have that name; name it as one of them, in the same folder and with the same capitals"
_PEEKED = ("Modality", "SOPInstanceUID", "ImageType", "PatientID", "IssuerOfPatientID", "StudyInstanceUID")
_NRRD = {".nrrd", ".nhdr"}


@dataclasses.dataclass(frozen=True)
class _SimulatedView:
    """A view in patient.json, as far as it is read."""

    lesions: Facts = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class ScanFile:
    """A file that holds a scan (or two views), and what was found to annotate it.

    Attributes:
      file: the scan.
      dicom: whether it may be a DICOM, that is, no picture and no array.
      uid: SOP instance UID of a DICOM, or empty.
      simulated: whether its header or folder says so.
      modality: of a DICOM, or empty.
      identity: who the header says the patient is; for the splits' hash only, never written.
      masks: (view or None, kind) -> file of pixels; a view only where the mask's name has one that the scan's has not.
      labelme: view or None -> JSON file.
      coco: view or None -> (file, image entry, annotations).
      voc: view or None -> XML file.
      label: of the image as a whole.
      facts: by view, of simulated patients.
      refused: whether an annotation that belongs to it, or seems to by its name, cannot be used.
    """

    file: SourceFile
    dicom: bool = False
    uid: str = ""
    simulated: bool = False
    modality: str = ""
    identity: str = ""
    masks: dict[tuple[View | None, str], SourceFile] = dataclasses.field(default_factory=dict)
    labelme: dict[View | None, SourceFile] = dataclasses.field(default_factory=dict)
    coco: dict[View | None, CocoImage] = dataclasses.field(default_factory=dict)
    voc: dict[View | None, SourceFile] = dataclasses.field(default_factory=dict)
    label: str = ""
    facts: Mapping[str, Facts] = dataclasses.field(default_factory=dict)
    refused: bool = False


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

    The rules are those of `imports.names`, in this order: the same name after endings such as `_mask` and folders such
    as `masks` are taken off; else the only scan of that name in the whole source.

    Args:
      source: its files.
      channels: whether images end in nnU-Net's number of a channel.
    """
    found = _Sorted()
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


class _Sorted:
    """Files by what they are."""

    def __init__(self) -> None:
        self.scans: list[ScanFile] = []
        self.masks: list[tuple[SourceFile, str]] = []
        self.segmentations: list[SourceFile] = []
        self.labelme: list[tuple[SourceFile, str]] = []
        self.coco: list[tuple[SourceFile, Any]] = []
        self.voc: list[SourceFile] = []
        self.patients: dict[str, dict[str, Facts]] = {}
        self.problems: list[tuple[SourceFile, str]] = []
        self.ignored = 0

    def take(self, file: SourceFile) -> None:
        """Sorts one file in."""
        suffix = names.suffix_of(file.name)
        if suffix in _NRRD:
            self.problems.append((file, "NRRD is not read; save it as .nii.gz (in 3D Slicer: Export to file)"))
        elif line := strangers.of_text(file, suffix):
            self.problems.append((file, line))
        elif names.is_derived(file.name) or suffix in names.NOT_IMAGES:
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
            content = outlines.annotation_json(file.path)
        except ScanError as error:
            self.problems.append((file, str(error)))
            return
        if outlines.is_labelme(content):
            # Not the content: LabelMe keeps the whole picture in it.
            self.labelme.append((file, str(content["imagePath"]).replace("\\", "/")))
        elif coco.is_coco(content):
            self.coco.append((file, content))
        elif isinstance(content, dict) and "PhantomBone" in str(content.get("note", "")) and "views" in content:
            self._take_patient(file, content["views"])
        elif content is None:
            self.problems.append((file, "is not a readable JSON; remove it, or export the annotation again"))
        elif (
            names.stem_of(file.name).endswith("_lesions") and isinstance(content, dict) and set(content) == {"lesions"}
        ):
            self.ignored += 1  # what a data set knows of the lesions in the mask beside it
        elif line := strangers.of_json(content):
            self.problems.append((file, line))
        else:
            self.ignored += 1

    def _take_patient(self, file: SourceFile, views: Any) -> None:
        try:
            known = as_record(views, dict[str, _SimulatedView], where="views", remedy="simulate the patient again")
        except RequestError as error:
            self.problems.append((file, str(error)))
            return
        self.patients[str(PurePosixPath(file.name).parent)] = {name: view.lesions for name, view in known.items()}

    def _take_dicom(self, file: SourceFile) -> None:
        modality, uid, simulated, identity = peek(file.path)
        if modality == "SEG":
            self.segmentations.append(file)
        elif line := strangers.of_modality(modality):
            self.problems.append((file, line))
        else:
            self.scans.append(ScanFile(file, True, uid, simulated, modality, identity))


def peek(path: Path) -> tuple[str, str, bool, str]:
    """Modality, SOP instance UID, whether simulated, and the patient; empty where the file is not a DICOM."""
    with quiet(), contextlib.suppress(Exception):  # what is wrong with a scan its reader says
        header = read_dicom_file(path, pixels=False, only=list(_PEEKED))
        kind = [str(part) for part in header.get("ImageType", None) or ()]
        number, issuer, study = (str(header.get(key, "") or "").strip() for key in _PEEKED[-3:])
        identity = f"patient {issuer} {number}" if number else f"study {study}" if study else ""
        return str(header.get("Modality", "")), str(header.get("SOPInstanceUID", "")), "SIMULATED" in kind, identity
    return "", "", False, ""


def _attach(pairing: Pairing, found: _Sorted, finder: Finder) -> None:
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
