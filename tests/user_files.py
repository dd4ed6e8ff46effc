"""Files as users have them: scans with a body, lesions whose place is known, headers with a patient in them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, NuclearMedicineImageStorage, generate_uid

from data_pipeline.intake.manifest import ImageEntry
from data_pipeline.scan import View
from data_pipeline.windows import ThoraxBox

ROWS, COLUMNS = 512, 128
LESIONS = ((120, 50, 6, 4), (140, 74, 5, 5), (170, 60, 3, 8))
"""Row, column, rows, columns."""

NAME, NUMBER, BIRTH, PLACE = "MUSTERFRAU^ERIKA", "HOSP-77123", "19640812", "Sankt Gertrauden"
SECRETS = ("MUSTERFRAU", "ERIKA", "77123", "19640812", "1964", "Gertrauden", "Roentgenblick")


def without_random_numbers(content: bytes) -> bytes:
    """The content without UIDs and digests: among their digits any short number turns up by chance."""
    return re.sub(rb"[0-9a-f]{15,}", b"", content)


def body_scan(seed: int = 0, lesions: Sequence[tuple[int, int, int, int]] = LESIONS) -> np.ndarray:
    """Counts `[512, 128]` int32: head, trunk with one arm hanging lower, legs, hot lesions."""
    expected = np.full((ROWS, COLUMNS), 0.3)
    expected[45:90, 48:80] = 30.0
    expected[90:225, 24:104] = 34.0
    expected[225:425, 32:96] = 24.0
    expected[120:250, 12:22] = 18.0
    for row, column, rows, columns in lesions:
        expected[row : row + rows, column : column + columns] = 150.0
    return np.random.default_rng(seed).poisson(expected).astype(np.int32)


def lesion_mask(lesions: Sequence[tuple[int, int, int, int]] = LESIONS, value: int = 255) -> np.ndarray:
    """Mask `[512, 128]` uint8 of the lesions; value 0 numbers them from 1."""
    mask = np.zeros((ROWS, COLUMNS), np.uint8)
    for number, (row, column, rows, columns) in enumerate(lesions, start=1):
        mask[row : row + rows, column : column + columns] = value or number
    return mask


def nm_header(frames: np.ndarray, *, patient: str = NUMBER, views: Sequence[str] = ("Anterior",)) -> Dataset:
    """A planar NM study of one or two detectors, with a patient in it."""
    frames = frames[None] if frames.ndim == 2 else frames
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = NuclearMedicineImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid()
    header.Modality, header.PatientName, header.PatientID, header.PatientBirthDate = "NM", NAME, patient, BIRTH
    header.StudyDate = header.ContentDate = "20240229"
    header.StudyTime = header.ContentTime = "101112"
    header.InstitutionName, header.OperatorsName = PLACE, "Roentgenblick^Otto"
    header.PatientSex, header.StudyID, header.SeriesNumber, header.InstanceNumber = "F", "1", 1, 1
    header.ReferringPhysicianName, header.AccessionNumber = "Roentgenblick^Otto", ""
    header.StudyInstanceUID, header.SeriesInstanceUID = generate_uid(), generate_uid()
    header.ImageType = ["ORIGINAL", "PRIMARY", "WHOLE BODY", "EMISSION"]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 0
    header.PixelSpacing = [4.52, 4.52]
    header.DetectorVector = list(range(1, len(views) + 1)) if len(views) > 1 else 1
    header.DetectorInformationSequence = []
    for view in views:
        detector, code = Dataset(), Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "x", "99TEST", view
        detector.ViewCodeSequence = [code]
        header.DetectorInformationSequence.append(detector)
    header.NumberOfFrames, header.Rows, header.Columns = frames.shape
    header.PixelData = frames.astype("<u2").tobytes()
    return header


def save_dicom(header: Dataset, path: Path) -> Path:
    """Writes a standard file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return path


def save_picture(values: np.ndarray, path: Path) -> Path:
    """8 or 16 bit PNG (or what the suffix says)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values if values.dtype == np.uint8 else values.astype(np.uint16)).save(path)
    return path


def picture_source(folder: Path, patients: int = 6, *, healthy: int = 2) -> Path:
    """PNG scans with masks beside them, the last `healthy` patients without lesions."""
    for number in range(patients):
        lesions = LESIONS if number < patients - healthy else ()
        save_picture(body_scan(number, lesions), folder / f"case{number}_ant.png")
        save_picture(lesion_mask(lesions), folder / f"case{number}_ant_mask.png")
    return folder


def save_segmentation(scan: Path, path: Path, *, frame: int | None = None) -> None:
    """The lesions as a DICOM SEG by highdicom, one segment each, that references `scan` and perhaps its frame."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import highdicom
        from pydicom.sr.codedict import codes

        regions = np.stack([lesion_mask([place]) > 0 for place in LESIONS], axis=-1)[None].astype(np.uint8)
        seg = _segmentation(highdicom, codes, scan, regions)
        for group in seg.PerFrameFunctionalGroupsSequence if frame else ():
            group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber = frame
        seg.save_as(path)


def _segmentation(highdicom: Any, codes: Any, source: Path, regions: np.ndarray) -> Any:
    import pydicom

    single = pydicom.dcmread(source)
    # A frame without a place in space: highdicom takes it only as a class that has no frames.
    single.SOPClassUID = single.file_meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"lesion {number}",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Neoplasm,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number in range(1, regions.shape[-1] + 1)
    ]
    return highdicom.seg.Segmentation(
        source_images=[single],
        pixel_measures=highdicom.PixelMeasuresSequence(pixel_spacing=(4.52, 4.52), slice_thickness=1.0),
        pixel_array=regions,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=highdicom.UID(),
        series_number=2,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="x",
        device_serial_number="x",
    )


def image_entry(patient: str, view: View = View.ANTERIOR) -> ImageEntry:
    """One image of a data set folder."""
    return ImageEntry(
        image_id=f"{patient}-{view}",
        patient=patient,
        view=view,
        pixel_size_mm=(4.5, 4.5),
        pixel_size_from="file",
        thorax=ThoraxBox(0, 0, 128),
        counts=f"counts/{patient}-{view}.png",
        masks={"lesions": f"masks/{patient}-{view}_lesions.png"},
    )


def bad_files(source: Path) -> dict[str, str]:
    """Bad files; name -> what must be said of it."""
    good = save_dicom(nm_header(body_scan(1)), source / "good.dcm").read_bytes()
    save_picture(lesion_mask(), source / "good_mask.png")
    (source / "short.dcm").write_bytes(good[: len(good) // 2])
    (source / "text.dcm").write_text("not a scan")
    header = nm_header(body_scan(2))
    del header.PixelData
    save_dicom(header, source / "header_only.dcm")
    unknown = good.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")
    (source / "strange.dcm").write_bytes(unknown)
    for name, modality in (("ct.dcm", "CT"), ("volume.dcm", "NM")):
        header = nm_header(body_scan(4))
        header.Modality = modality
        header.ImageType = ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
        save_dicom(header, source / name)
    header = nm_header(body_scan(5))
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PlanarConfiguration = 3, "RGB", 0
    save_dicom(header, source / "colour.dcm")
    np.save(source / "holes.npy", np.where(body_scan(6) > 20, np.nan, 1.0))
    np.save(source / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    save_picture(body_scan(7), source / "wide.png")
    save_picture(np.kron(lesion_mask(), np.ones((2, 2), np.uint8)), source / "wide_mask.png")
    return {
        "short.dcm": "truncated",
        "text.dcm": "is not a DICOM",
        "header_only.dcm": "has no pixel data",
        "strange.dcm": "cannot be decoded",
        "ct.dcm": "modality CT",
        "volume.dcm": "tomographic",
        "colour.dcm": "a colour picture",
        "holes.npy": "NaN or infinite",
        "pickle.npy": "pickled objects, which are never read",
        "wide_mask.png": "a mask of 1024 x 256 pixels for a scan of 512 x 128",
        "wide.png": "an annotation of this scan cannot be used",
    }
