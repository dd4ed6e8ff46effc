"""Files of a source by what they are: scans, masks, outlines, segmentations, and what is none of them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from data_pipeline.annotations import coco, outlines
from data_pipeline.annotations.text_files import annotation_json
from data_pipeline.errors import RequestError
from data_pipeline.intake import strangers
from data_pipeline.readers import names
from data_pipeline.readers.formats.dicom_file import quiet, read_dicom_file
from data_pipeline.readers.sources import SourceFile
from data_pipeline.reading import as_record
from data_pipeline.scan import ScanError, View

CocoImage = tuple[SourceFile, Mapping[str, Any], list[Mapping[str, Any]]]
Facts = list[dict[str, Any]]
"""What patient.json says of the lesions in a view; it is copied, not understood."""

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


class Sorted:
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
        elif suffix in names.NOT_DICOM:
            kind = names.mask_kind(file.name)
            if kind is None:
                self.scans.append(ScanFile(file))
            else:
                self.masks.append((file, kind))
        else:
            self._take_dicom(file)

    def _take_json(self, file: SourceFile) -> None:
        try:
            content = annotation_json(file.path)
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
