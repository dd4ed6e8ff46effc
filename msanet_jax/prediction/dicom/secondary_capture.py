"""The overlay as a DICOM Secondary Capture, which every archive and viewer shows; research use is burned in."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pydicom
from matplotlib.image import imread
from pydicom.dataset import Dataset, FileMetaDataset

from data_pipeline.readers.formats.dicom_file import quiet
from msanet_jax.prediction.dicom.seg_header import TAKEN_OVER, series_number
from msanet_jax.prediction.dicom.write_dicom_seg import content_uid, planar_source
from msanet_jax.prediction.overlay import Drawing, save_overlay
from msanet_jax.prediction.segmentation import Segmentation
from msanet_jax.runtime.versions import VERSION

STAMP = "RESEARCH ONLY - NOT FOR DIAGNOSIS"
_SERIES_FROM = 8000


def save_secondary_capture(
    result: Segmentation, drawing: Drawing, header: Dataset, path: Path, *, anonymous: bool = False
) -> tuple[str, ...]:
    """Writes the overlay as one RGB image, in a series of its own in the study of the scan.

    Args:
      result: the segmented view.
      drawing: its overlay.
      header: of the file it was read from (`write_dicom_seg.read_header`).
      path: where to.
      anonymous: pseudonyms and keyed UIDs instead of the patient's and the study's own.

    Returns:
      Keywords of the scan's entries that break the standard and were left empty.
    """
    content = io.BytesIO()
    save_overlay(drawing, content, stamp=STAMP)
    content.seek(0)
    picture = np.rint(255.0 * imread(content)[..., :3]).astype(np.uint8)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote the source's header
        source, emptied = planar_source(header, result, anonymous=anonymous)
        capture = _capture(result, source, picture, number=_SERIES_FROM + series_number(header) % 1000)
        # The picture names its file, which may name its patient.
        capture.BurnedInAnnotation = "NO" if anonymous else "YES"
        capture.save_as(path, enforce_file_format=True)
    return emptied


def _capture(result: Segmentation, source: Dataset, picture: np.ndarray, *, number: int) -> Dataset:
    """Patient and study of the source, and the picture."""
    capture = Dataset()
    for key in ("SpecificCharacterSet", "StudyInstanceUID", *TAKEN_OVER):
        if key in source:
            capture.add(source[key])
    uid = content_uid(result, source)
    capture.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    capture.SOPInstanceUID, capture.SeriesInstanceUID = f"{uid}.4", f"{uid}.3"
    capture.Modality, capture.ConversionType = "OT", "WSD"
    capture.SeriesNumber, capture.InstanceNumber = number, 1 + result.scan.frame
    capture.SeriesDescription = "Marked lesions, picture, research, not for diagnosis"
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.DerivationDescription = "Drawn by msanet-jax; research software, not for diagnosis"
    capture.Manufacturer, capture.ManufacturerModelName, capture.SoftwareVersions = "msanet-jax", "msanet-jax", VERSION
    capture.PatientOrientation = capture.Laterality = ""
    capture.SamplesPerPixel, capture.PhotometricInterpretation, capture.PlanarConfiguration = 3, "RGB", 0
    capture.Rows, capture.Columns = picture.shape[:2]
    capture.BitsAllocated, capture.BitsStored, capture.HighBit, capture.PixelRepresentation = 8, 8, 7, 0
    pixels = picture.tobytes()
    capture.PixelData = pixels + b"\0" * (len(pixels) % 2)
    capture["PixelData"].VR = "OB"
    capture.file_meta = FileMetaDataset()
    capture.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    return capture
