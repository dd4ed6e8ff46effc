"""A simulated view as a Nuclear Medicine Image of the DICOM standard (PS3.3 A.5), marked as simulated throughout."""

from __future__ import annotations

import uuid

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, NuclearMedicineImageStorage

from data_pipeline.phantom import VERSION
from data_pipeline.scan import Scan, View

TABLE_SPEED_MM_PER_S = 2.0
"""12 cm/min, within the usual 10 to 15; written to the header, the counts are drawn independently."""

FIXED_DATE = "20250101"
"""Simulated scans have no date; a fixed one keeps the bytes the same."""

_VIEW_CODES = {View.ANTERIOR: ("399321004", "Frontal"), View.POSTERIOR: ("399001007", "Posterior projection")}
# SNOMED CT, as context groups 19, 20 and 21 name them.
_RECUMBENT, _SUPINE, _HEAD_FIRST = ("102538003", "recumbent"), ("40199007", "supine"), ("102540008", "headfirst")
_TECHNETIUM, _PHARMACEUTICAL = ("72454003", "^99m^Technetium"), ("35321007", "^99m^Technetium medronate")
_INTRAVENOUS = ("47625008", "Intravenous route")


def to_dicom(scan: Scan, *, identity: str, sex: str, height_mm: float, camera: str) -> FileDataset:
    """The data set of one view.

    Args:
      scan: counts, pixel size and view.
      identity: names patient, noise and acquisition; all UIDs follow from it, so the same request gives the same bytes.
      sex: `male` or `female`.
      height_mm: of the patient.
      camera: name of the camera preset.
    """
    header = _file(uid(f"{identity} {scan.view}"))
    _patient_and_study(header, scan, identity, sex, height_mm)
    _series_and_equipment(header, scan, identity, camera)
    _image(header, scan)
    _isotope_and_detector(header, scan)
    return header


def uid(text: str) -> UID:
    """A unique identifier that is always the same for the same text (UUID version 5 under the root 2.25)."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, f'msanet-jax/phantom/{VERSION}/{text}').int}")


def _file(instance: UID) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = NuclearMedicineImageStorage
    meta.MediaStorageSOPInstanceUID = instance
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = uid("implementation")
    header = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID = NuclearMedicineImageStorage
    header.SOPInstanceUID = instance
    return header


def _patient_and_study(header: FileDataset, scan: Scan, identity: str, sex: str, height_mm: float) -> None:
    header.PatientName = f"SIMULATED^{scan.patient}"
    header.PatientID = f"SIMULATED-{scan.patient}"
    header.PatientBirthDate = ""
    header.PatientSex = sex[0].upper()
    header.PatientSize = f"{height_mm / 1000.0:.2f}"
    header.PatientComments = "Simulated scan of a virtual patient; not for diagnosis"
    header.StudyInstanceUID = uid(f"{identity} study")
    header.StudyID = "SIMULATED"
    header.StudyDate = header.SeriesDate = header.AcquisitionDate = header.ContentDate = FIXED_DATE
    header.StudyTime = header.SeriesTime = header.AcquisitionTime = header.ContentTime = "120000"
    header.StudyDescription = "SIMULATED whole-body bone scintigraphy"
    header.ReferringPhysicianName = header.AccessionNumber = ""


def _series_and_equipment(header: FileDataset, scan: Scan, identity: str, camera: str) -> None:
    header.Modality = "NM"
    header.SeriesInstanceUID = uid(f"{identity} series")
    header.SeriesNumber = 1
    header.SeriesDescription = "SIMULATED Whole Body Bone"
    header.BodyPartExamined = "WHOLEBODY"
    header.Manufacturer = "msanet-jax PhantomBone"
    header.ManufacturerModelName = f"simulated {camera} LEHR"
    header.SoftwareVersions = VERSION
    orientation = _code(*_RECUMBENT)
    orientation.PatientOrientationModifierCodeSequence = Sequence([_code(*_SUPINE)])
    header.PatientOrientationCodeSequence = Sequence([orientation])
    header.PatientGantryRelationshipCodeSequence = Sequence([_code(*_HEAD_FIRST)])
    header.InstanceNumber = 1 if scan.view is View.ANTERIOR else 2
    header.ImageComments = f"SIMULATED {scan.view} view of {scan.patient}"


def _image(header: FileDataset, scan: Scan) -> None:
    rows, columns = scan.counts.shape
    header.ImageType = ["ORIGINAL", "PRIMARY", "WHOLE BODY", "EMISSION", "SIMULATED"]
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.Rows, header.Columns = rows, columns
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 0
    header.NumberOfFrames = 1
    header.FrameIncrementPointer = [
        pydicom.tag.Tag("EnergyWindowVector"),
        pydicom.tag.Tag("DetectorVector"),
    ]
    header.EnergyWindowVector = header.DetectorVector = 1
    header.NumberOfEnergyWindows = header.NumberOfDetectors = 1
    assert scan.pixel_size_mm is not None
    # A decimal string holds 16 characters.
    header.PixelSpacing = [f"{size:.6f}" for size in scan.pixel_size_mm]
    header.CountsAccumulated = int(scan.counts.sum())
    length_mm = rows * scan.pixel_size_mm[0]
    header.ScanLength = round(length_mm)
    header.ScanVelocity = f"{TABLE_SPEED_MM_PER_S:.2f}"
    header.ActualFrameDuration = round(1000.0 * length_mm / TABLE_SPEED_MM_PER_S)
    header.WholeBodyTechnique = "1PS"
    header.AcquisitionTerminationCondition = "TIME"
    header.LossyImageCompression = "00"
    stored = np.ascontiguousarray(np.minimum(scan.counts, np.iinfo(np.uint16).max).astype("<u2"))
    header.add_new("PixelData", "OW", stored.tobytes())


def _isotope_and_detector(header: FileDataset, scan: Scan) -> None:
    window_range = Dataset()
    window_range.EnergyWindowLowerLimit, window_range.EnergyWindowUpperLimit = "126.45", "154.55"
    window = Dataset()
    window.EnergyWindowName = "Tc99m"
    window.EnergyWindowRangeSequence = Sequence([window_range])
    header.EnergyWindowInformationSequence = Sequence([window])
    agent = Dataset()
    agent.RadionuclideCodeSequence = Sequence([_code(*_TECHNETIUM)])
    agent.RadiopharmaceuticalCodeSequence = Sequence([_code(*_PHARMACEUTICAL)])
    agent.AdministrationRouteCodeSequence = Sequence([_code(*_INTRAVENOUS)])
    agent.Radiopharmaceutical = "Tc-99m MDP (simulated)"
    header.RadiopharmaceuticalInformationSequence = Sequence([agent])
    detector = Dataset()
    detector.CollimatorGridName = "LEHR"
    detector.CollimatorType = "PARA"
    # Required, but empty: a whole-body image has no frame of reference.
    detector.ImageOrientationPatient = detector.ImagePositionPatient = None
    code = _code(*_VIEW_CODES[scan.view])
    code.ViewModifierCodeSequence = Sequence([])
    detector.ViewCodeSequence = Sequence([code])
    header.DetectorInformationSequence = Sequence([detector])


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "SCT", meaning
    return code
