"""Lesions of one view as a DICOM Segmentation that references the scan it was made from.

One binary segment per lesion, numbered as in the lesion list. It goes back to where the scan came from, so it carries
that scan's patient and study, as the standard demands; `anonymous` puts pseudonyms and keyed UIDs in their place.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID
from scipy import ndimage

from data_pipeline.readers.formats.dicom_file import entry, quiet, read_dicom_file, sequence
from data_pipeline.readers.orientation import AS_STORED, inverse, upright
from data_pipeline.readers.pseudonyms import keyed_digest
from data_pipeline.scan import View
from msanet_jax.prediction.dicom.seg_header import TAKEN_OVER, is_uid, series_number, valid_value
from msanet_jax.prediction.records import LesionRecord
from msanet_jax.prediction.segmentation import CONNECTIVITY, Segmentation
from msanet_jax.runtime.versions import VERSION

# Direction of rows and of columns: in an anterior view the patient's left is on the right.
_PATIENT_ORIENTATION = {View.ANTERIOR: ["L", "F"], View.POSTERIOR: ["R", "F"]}
# A projection has no thickness; validators want a number, viewers do not use it.
_NOMINAL_THICKNESS_MM = 1.0
_ASSUMED_PIXEL_MM = 1.0
# Between the frames of a file that states no spacing, as ITK takes it.
_ASSUMED_STEP_MM = 1.0
_ASSUMED_PLANE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_STAND_IN = pydicom.uid.SecondaryCaptureImageStorage
_LESION_RGB = np.array([232, 89, 12], np.uint8)
_ALWAYS_THERE = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
_UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


def read_header(path: Path) -> pydicom.Dataset | None:
    """Header of a DICOM file without its pixels; None for anything else."""
    with quiet():
        try:
            header = read_dicom_file(path, pixels=False, force=True)
        except Exception:  # damaged files fail in many ways; the reader has said so already
            return None
        return header if all(is_uid(header.get(key, None)) for key in ("SOPClassUID", *_UIDS)) else None


def save_seg(result: Segmentation, header: pydicom.Dataset, path: Path, *, anonymous: bool = False) -> tuple[str, ...]:
    """Writes the DICOM Segmentation of a result with at least one lesion, on the pixels as the scan's file stores them.

    Args:
      result: the segmented view.
      header: of the file it was read from (`read_header`).
      path: where to.
      anonymous: pseudonyms and keyed UIDs instead of the patient's and the study's own.

    Returns:
      Keywords of the scan's entries that break the standard and were left empty.
    """
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote the source's header
        source, emptied = planar_source(header, result, anonymous=anonymous)
        _build(result, header, source).save_as(path)
    return emptied


def _build(result: Segmentation, header: pydicom.Dataset, source: pydicom.Dataset) -> hd.seg.Segmentation:
    labels, number = ndimage.label(result.mask, CONNECTIVITY)
    labels = upright(labels, inverse(result.scan.orientation))
    planes = labels[None, :, :, None] == np.arange(1, number + 1)
    uid = content_uid(result, source)
    segmentation = hd.seg.Segmentation(
        source_images=[source],
        pixel_array=planes,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(row) for row in result.lesions],
        series_instance_uid=uid + ".1",
        series_number=9000 + series_number(header) % 1000,
        sop_instance_uid=uid + ".2",
        instance_number=1 + result.scan.frame,
        manufacturer="msanet-jax",
        manufacturer_model_name="msanet-jax",
        software_versions=VERSION,
        device_serial_number="none",
        content_description="Research, not for diagnosis",
        content_label="LESIONS",
        pixel_measures=_pixel_measures(result),
        # Compressed or not, a planar scan gives the same frames; the source's own syntax is none of the result's.
        transfer_syntax_uid=pydicom.uid.ExplicitVRLittleEndian,
    )
    segmentation.SeriesDescription = "Marked lesions, research, not for diagnosis"
    if result.scan.orientation == AS_STORED:
        segmentation.PatientOrientation = _PATIENT_ORIENTATION.get(result.scan.view, [])
    else:
        segmentation.PatientOrientation = header.get("PatientOrientation", None) or []
    segmentation.walk(lambda dataset, element: _reference(dataset, element, header, result.scan.frame))
    return segmentation


def planar_source(
    header: pydicom.Dataset, result: Segmentation, *, anonymous: bool
) -> tuple[pydicom.Dataset, tuple[str, ...]]:
    """The source as a single frame, and what of it was left empty.

    A second view has no place in space either, and its own segmentation. Only the modules of patient and study are
    taken over, as text in UTF-8, each entry only if the standard allows its value.
    """
    source, emptied = pydicom.Dataset(), []
    for key in ("Rows", "Columns", "BitsAllocated", "BitsStored", *_UIDS):
        if header.get(key, None) is not None:
            setattr(source, key, header[key].value)
    source.Modality = "NM"
    if anonymous:
        for key in _UIDS:
            number = int.from_bytes(keyed_digest(f"{key} {header[key].value}")[:16], "big")
            setattr(source, key, UID(f"2.25.{number}"))
        source.PatientID = result.scan.patient
        source.PatientName = f"Anonymous^{result.scan.patient}"
    else:
        for key in TAKEN_OVER:
            value, is_valid = valid_value(header, key)
            if not is_valid:
                emptied.append(key)
            if value or key in _ALWAYS_THERE:
                setattr(source, key, value)
    _place(source, header, result.scan.frame, anonymous=anonymous)
    for key in _ALWAYS_THERE:
        if key not in source:
            setattr(source, key, "")
    # highdicom takes every nuclear medicine file for an enhanced one with functional groups, which it is not.
    source.SOPClassUID = _STAND_IN
    source.SpecificCharacterSet = "ISO_IR 192"
    source.file_meta = pydicom.dataset.FileMetaDataset()
    source.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    return source, tuple(emptied)


def _place(source: pydicom.Dataset, header: pydicom.Dataset, frame: int, *, anonymous: bool) -> None:
    """Frame of reference, orientation and position: those in which viewers show the frame.

    They place a segmentation by its position, or turn it if its directions are not those of the scan. Of several frames
    they read the first detector's place and stack the frames behind it. Of a single one OHIF reads no detector. Where
    nothing is read, the plane is (x, y) at 0.
    """
    detectors = sequence(header, "DetectorInformationSequence")
    count = entry(header, "NumberOfFrames", int, 0)
    holders = [header, *(detectors[:1] if count != 1 else [])]
    orientation = _orientation(holders) or list(_ASSUMED_PLANE)
    corner = _first(holders, "ImagePositionPatient", 3) or [0.0, 0.0, 0.0]
    step = (_numbers(header, "SpacingBetweenSlices", 1) or [0.0])[0] or _ASSUMED_STEP_MM
    source.ImageOrientationPatient = orientation
    source.ImagePositionPatient = list(corner + frame * step * np.cross(orientation[:3], orientation[3:]))
    vector = _numbers(header, "DetectorVector", count or 1)
    own = max(int(vector[frame]) - 1, 0) if vector else frame
    stated = _orientation([header, *detectors[own : own + 1]])
    frame_of_reference = header.get("FrameOfReferenceUID", None)
    # A place that viewers give to a detector that stands elsewhere is none in the scan's space.
    if is_uid(frame_of_reference) and not anonymous and (stated is None or np.allclose(stated, orientation)):
        source.FrameOfReferenceUID = frame_of_reference
    else:
        number = int.from_bytes(keyed_digest(f"FrameOfReferenceUID {source.SeriesInstanceUID}")[:16], "big")
        source.FrameOfReferenceUID = UID(f"2.25.{number}")
    source.SliceThickness = _NOMINAL_THICKNESS_MM
    spacing = _numbers(header, "PixelSpacing", 2)
    source.PixelSpacing = spacing if spacing and min(spacing) > 0 else [_ASSUMED_PIXEL_MM, _ASSUMED_PIXEL_MM]


def _orientation(holders: Sequence[pydicom.Dataset]) -> list[float] | None:
    """Directions of rows and columns; None where none are stated, or what is stated is no plane."""
    found = _first(holders, "ImageOrientationPatient", 6)
    cosines = np.reshape(found or np.zeros(6), (2, 3))
    return found if np.allclose(cosines @ cosines.T, np.eye(2), atol=1e-3) else None


def _first(holders: Sequence[pydicom.Dataset], keyword: str, count: int) -> list[float] | None:
    return next((values for holder in holders if (values := _numbers(holder, keyword, count))), None)


def _numbers(holder: pydicom.Dataset, keyword: str, count: int) -> list[float] | None:
    """Values of an entry; None where it has another number of them, or one that is no number."""
    try:
        values = [float(value) for value in np.ravel(holder.get(keyword, None))]
    except (TypeError, ValueError):
        return None
    return values if len(values) == count and np.isfinite(values).all() else None


def _segment(row: LesionRecord) -> hd.seg.SegmentDescription:
    algorithm = hd.AlgorithmIdentificationSequence(
        name="msanet-jax", version=VERSION, family=codes.DCM.ArtificialIntelligence
    )
    return hd.seg.SegmentDescription(
        segment_number=row.id,
        segment_label=f"Lesion {row.id}",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=Code("52988006", "SCT", "Lesion"),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        display_color=hd.color.CIELabColor.from_rgb(*_LESION_RGB.tolist()),
    )


def _pixel_measures(result: Segmentation) -> hd.PixelMeasuresSequence:
    spacing = result.scan.pixel_size_mm or (_ASSUMED_PIXEL_MM, _ASSUMED_PIXEL_MM)
    if result.scan.orientation >= 5:  # the rows of the file are columns of the scan
        spacing = (spacing[1], spacing[0])
    return hd.PixelMeasuresSequence(pixel_spacing=spacing, slice_thickness=_NOMINAL_THICKNESS_MM)


def content_uid(result: Segmentation, source: pydicom.Dataset) -> str:
    """The same marks on the same scan are the same object, however often they are made."""
    text = f"{source.SOPInstanceUID} {result.scan.frame} {result.record.provenance} {result.record.threshold}"
    digest = hashlib.sha256(text.encode() + np.packbits(result.mask).tobytes()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"


def _reference(dataset: pydicom.Dataset, element: pydicom.DataElement, header: pydicom.Dataset, frame: int) -> None:
    """Names the source's true class wherever it is referenced, and its frame if the file has two views."""
    if element.keyword != "ReferencedSOPClassUID" or element.value != _STAND_IN:
        return
    element.value = header.SOPClassUID
    if "PurposeOfReferenceCodeSequence" in dataset and entry(header, "NumberOfFrames", int, 1) > 1:
        dataset.ReferencedFrameNumber = frame + 1
