"""Annotations as other programs write them, and what an import makes of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage, generate_uid

from data_pipeline.intake.build import ImportOptions, ImportOutcome, import_source
from data_pipeline.intake.folder import load_masks
from tests.user_files import COLUMNS, LESIONS, ROWS, body_scan, lesion_mask, nm_header, save_dicom, save_picture

SHAPE = (ROWS, COLUMNS)
TRUTH = lesion_mask() > 0
CORNERS = [[[c, r], [c + w, r], [c + w, r + h], [c, r + h]] for r, c, h, w in LESIONS]


def imported(source: Path, **options: Any) -> tuple[ImportOutcome, dict[str, np.ndarray | None]]:
    """The outcome, and by file of the source its lesion mask, None where there is none."""
    out = source.parent / f"set{len(list(source.parent.glob('set*')))}"
    outcome = import_source(source, out, ImportOptions(**options), progress=False)
    with (out / "private" / "sources.csv").open() as text:
        rows = {row["image_id"]: (row["source_file"], row["frame"]) for row in csv.DictReader(text)}
    masks: dict[str, np.ndarray | None] = {}
    for entry in outcome.entries:
        name, frame = rows[entry.image_id]
        key = name if name not in masks else f"{name}, {frame}"
        masks[key] = load_masks(out, entry, ("lesions",))["lesions"] > 0 if "lesions" in entry.masks else None
    return outcome, masks


def is_refused(source: Path, said: str, name: str = "scan1.png") -> None:
    """One line names the annotation, one the scan; the scan has no mask, whatever is said of scans without one."""
    for way in ("left-out", "no-lesion"):
        outcome, masks = imported(source, scans_without_mask=way)
        assert masks[name] is None
        assert sum(said in line for line in outcome.problems) == 1, outcome.problems
        assert any(f"{name}: an annotation of this scan cannot be used" in line for line in outcome.problems)


def shapes(kind: str, corners: Sequence[Any] = CORNERS, label: str = "lesion", **more: Any) -> dict[str, Any]:
    shapes = [{"label": label, "shape_type": kind, "points": points, "group_id": None} | more for points in corners]
    return {"imagePath": "scan1.png", "imageHeight": ROWS, "imageWidth": COLUMNS, "shapes": shapes}


def labelme(folder: Path, content: dict[str, Any]) -> Path:
    save_picture(body_scan(), folder / "scan1.png")
    (folder / "scan1.json").write_text(json.dumps(content))
    return folder


def seg(path: Path, references: Sequence[Any], *, label: str = "Lesion", meaning: str = "", **changes: Any) -> Path:
    """A segmentation of one frame and one segment, as programs write it that check little."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = SegmentationStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid()
    header.Modality, header.SegmentationType = "SEG", "FRACTIONAL"
    header.MaximumFractionalValue = 255
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 8, 8, 7, 0
    header.NumberOfFrames, header.Rows, header.Columns = 1, ROWS, COLUMNS
    segment, kind, group, derivation, which = Dataset(), Dataset(), Dataset(), Dataset(), Dataset()
    segment.SegmentNumber, segment.SegmentLabel = 1, label
    kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning = "x", "SCT", meaning
    segment.SegmentedPropertyTypeCodeSequence = [kind] if meaning else []
    derivation.SourceImageSequence = []
    for reference in references:
        source = Dataset()
        source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = reference.SOPClassUID, reference.SOPInstanceUID
        derivation.SourceImageSequence.append(source)
    which.ReferencedSegmentNumber = 1
    group.DerivationImageSequence, group.SegmentIdentificationSequence = [derivation], [which]
    header.SegmentSequence, header.PerFrameFunctionalGroupsSequence = [segment], [group]
    header.PixelData = lesion_mask().tobytes()
    for key, value in changes.items():
        setattr(header, key, value)
    return save_dicom(header, path)


def two_scans(folder: Path) -> tuple[Any, Any]:
    ant, post = nm_header(body_scan(1)), nm_header(body_scan(2), views=("Posterior",))
    save_dicom(ant, folder / "a.dcm")
    save_dicom(post, folder / "p.dcm")
    return ant, post


HOT = 9999
"""Counts of the lesions in scans that show them."""
