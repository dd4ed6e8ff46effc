"""Nuclear medicine DICOM -> scans: one frame, or two (anterior and posterior)."""

from __future__ import annotations

import contextlib
import logging
import warnings as python_warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from data_pipeline.readers.pseudonyms import pseudonym
from data_pipeline.readers.values import check_pixels, to_counts
from data_pipeline.readers.views import view_of_file_name, view_of_text
from data_pipeline.scan import Scan, ScanError, View

# Codes of DICOM context group 26, projections in nuclear medicine; older files are recognised by their wording.
_VIEW_CODES = {"399321004": View.ANTERIOR, "399001007": View.POSTERIOR}
# On two-headed whole-body cameras detector 1 is above the patient, who lies on the back.
_VIEW_OF_DETECTOR = {1: View.ANTERIOR, 2: View.POSTERIOR}
# Codes of modalities that may be repeated in a message; anything else in that field may be free text.
_MODALITIES = {"CR", "CT", "DX", "ECG", "ES", "IO", "KO", "MG", "MR", "NM", "OT", "PR", "PT", "REG", "RF"} | {
    "RTDOSE",
    "RTIMAGE",
    "RTPLAN",
    "RTSTRUCT",
    "SC",
    "SEG",
    "SR",
    "US",
    "XA",
    "XC",
}
T = TypeVar("T")
_LOSSY_JPEG = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"}
_NOT_PLANAR = ("TOMO", "DYNAMIC", "GATED", "RECON")
# Relative difference of two spacings (or of two sums of counts) that is still rounding.
_PIXEL_ASPECT_TOLERANCE = 0.05
_SUM_TOLERANCE = 0.001


def read_dicom(path: Path) -> list[Scan]:
    """Reads the planar frames of one DICOM file.

    What counts is the modality and the geometry: real bone scans come under several SOP classes.

    Raises:
      ScanError: no DICOM, another modality, not planar, colour, without or with damaged pixel data.
    """
    with quiet():
        header = _open(path)
        try:
            _check_planar(header, path)
            frames = _decode(header, path)
            return _scans(header, frames, path)
        except _EntryError as error:
            raise ScanError(f"{path}: the header entry cannot be read ({error}); export the file again") from None
        except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
            if isinstance(error, ScanError):
                raise
            kind = type(error).__name__
            raise ScanError(f"{path}: a header entry cannot be read ({kind}); export the file again") from None


def read_modality(path: Path) -> str:
    """Code of the modality of a DICOM file; empty where there is none, or none that is known."""
    with quiet(), contextlib.suppress(Exception):  # what is wrong with a file its reader says
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality"])
        code = str(header.get("Modality", ""))
        return code if code in _MODALITIES else ""
    return ""


class _EntryError(Exception):
    """Keyword of a header entry and the type of its failure: never the value, which may be about the patient."""


def _entry(header: pydicom.Dataset, keyword: str, convert: Callable[[Any], T], absent: T) -> T:
    """An entry's value as a type of ours; `absent` where it is missing or empty."""
    try:
        value = header.get(keyword, None)
        return absent if value is None or value == "" else convert(value)
    except Exception as error:  # pydicom converts late, and fails in many ways
        raise _EntryError(f"{keyword}, {type(error).__name__}") from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences pydicom, whose complaints quote the header: a patient's name must not reach a log.

    Private and old files break rules that do not matter here; what matters is checked in this module.
    """
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _open(path: Path) -> pydicom.Dataset:
    try:
        header = pydicom.dcmread(path)
        if len(header) == 0:  # what pydicom returns when the file ends within its compressed pixels
            raise EOFError
        return header
    except InvalidDicomError:
        pass
    except Exception as error:  # damaged files fail in many ways
        raise ScanError(f"{path}: damaged or truncated DICOM ({type(error).__name__}); copy it again") from None
    try:  # files from before 1996 have no preamble
        header = pydicom.dcmread(path, force=True)
        if "Modality" in header and "Rows" in header:
            return header
    except Exception:  # any text fails somehow; the message below says it
        pass
    raise ScanError(f"{path}: is no DICOM, PNG, JPEG, TIFF, NPY or NIfTI file; export the scan in one of these formats")


def _check_planar(header: pydicom.Dataset, path: Path) -> None:
    modality = _entry(header, "Modality", str, "")
    if not modality:
        raise ScanError(f"{path}: the header states no modality; it was cut short or emptied: copy or export it again")
    if modality != "NM":
        shown = modality if modality in _MODALITIES else "unknown"
        raise ScanError(f"{path}: modality {shown}; a planar bone scan has modality NM: export the scan itself")
    if "PixelData" not in header:
        raise ScanError(f"{path}: has no pixel data (header only, or truncated); export it with the image")
    if _entry(header, "SamplesPerPixel", int, 1) != 1:
        raise ScanError(f"{path}: a colour picture (secondary capture?); export the original scan")
    if _entry(header, "PhotometricInterpretation", str, "MONOCHROME2") not in ("MONOCHROME1", "MONOCHROME2"):
        raise ScanError(f"{path}: a palette or colour picture; export the original scan")
    kind = " ".join(_entry(header, "ImageType", lambda value: [str(part) for part in value], []))
    if any(word in kind.upper() for word in _NOT_PLANAR) or (_entry(header, "NumberOfSlices", int, 1) or 1) > 1:
        raise ScanError(f"{path}: a tomographic, dynamic or gated study, not a planar scan; export the whole-body scan")
    frames = _entry(header, "NumberOfFrames", int, 1) or 1
    if frames > 64:
        raise ScanError(f"{path}: {frames} frames; a planar scan has one or two (anterior, posterior)")
    check_pixels(frames, (_entry(header, "Rows", int, 0), _entry(header, "Columns", int, 0)), str(path))


def _decode(header: pydicom.Dataset, path: Path) -> np.ndarray:
    """Stored values `[frames, rows, columns]`."""
    header.ensure_file_meta()
    if "TransferSyntaxUID" not in header.file_meta:
        header.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian  # what the standard assumes
    syntax = header.file_meta.TransferSyntaxUID
    try:
        values = header.pixel_array
    except Exception as error:  # every decoder has its own errors, which may quote the header
        name = syntax.name if syntax.name != syntax else "unknown"
        if syntax in _LOSSY_JPEG:
            remedy = "lossy JPEG of that kind is not read, or the file is truncated: export it lossless or uncompressed"
        else:
            remedy = "the file is truncated, or export it uncompressed"
        raise ScanError(
            f"{path}: the pixel data cannot be decoded (transfer syntax {name}, {type(error).__name__}); {remedy}"
        ) from None
    return values[None] if values.ndim == 2 else values


def _scans(header: pydicom.Dataset, frames: np.ndarray, path: Path) -> list[Scan]:
    windows = _vector(header, "EnergyWindowVector", len(frames))
    notes: tuple[str, ...] = ()
    chosen = [index for index in range(len(frames)) if windows[index] == windows[0]]
    if len(chosen) < len(frames):
        notes += ("several energy windows: the first is used",)
    if len(chosen) > 2:
        raise ScanError(f"{path}: {len(chosen)} frames; a planar scan has one or two (anterior, posterior): split it")
    notes += _notes_on_counts(header, frames[chosen])
    views, assumed = _views(header, chosen, path, len(frames))
    if assumed:
        notes += ("view not stated: taken from the detector's number (1 anterior, 2 posterior)",)
    elif View.UNKNOWN in views:
        notes += ("view not stated",)
    pixel_size = _pixel_size(header, path)
    if pixel_size is None:
        notes += ("no pixel size in the file: lengths in mm are unknown",)
    scans = []
    for index, view in zip(chosen, views, strict=True):
        counts, mended = to_counts(frames[index], str(path))
        scans.append(Scan(counts, pixel_size, view, _patient(header, path), path.name, mended + notes, index))
    return scans


def _notes_on_counts(header: pydicom.Dataset, frames: np.ndarray) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    if _entry(header, "LossyImageCompression", str, "00") == "01":
        notes += ("lossy compression: the counts are not original",)
    slope, intercept = _entry(header, "RescaleSlope", float, 1.0) or 1.0, _entry(header, "RescaleIntercept", float, 0.0)
    if (slope, intercept) != (1.0, 0.0):
        notes += (f"rescale slope {slope:g} and intercept {intercept:g} ignored: stored values are taken as counts",)
    stated, summed = _entry(header, "CountsAccumulated", int, 0), int(np.maximum(frames, 0).sum(dtype=np.int64))
    if len(frames) == 1 and stated and abs(stated - summed) > _SUM_TOLERANCE * stated:
        notes += (f"the header states {stated} counts, the pixels sum to {summed}",)
    return notes


def _pixel_size(header: pydicom.Dataset, path: Path) -> tuple[float, float] | None:
    spacing: list[float] = _entry(header, "PixelSpacing", lambda value: [float(side) for side in value], [])
    if len(spacing) != 2:
        return None
    row, column = spacing
    if not (row > 0 and column > 0):
        return None
    if abs(row - column) > _PIXEL_ASPECT_TOLERANCE * column:
        raise ScanError(f"{path}: pixels of {row:g} x {column:g} mm; resample the scan to square pixels")
    return row, column


def _views(header: pydicom.Dataset, chosen: list[int], path: Path, frames: int) -> tuple[list[View], bool]:
    """Views of the chosen frames, and whether they are only the convention of detector numbers."""
    detectors = _vector(header, "DetectorVector", frames)
    stated = [_view_of_code(header, detectors[index]) for index in chosen]
    if len(chosen) == 1 and stated[0] == View.UNKNOWN:
        texts = [_entry(header, key, str, "") for key in ("ImageID", "SeriesDescription", "ProtocolName")]
        named = [view_of_text(text) for text in texts] + [view_of_file_name(path.stem)]
        stated = [next((view for view in named if view != View.UNKNOWN), View.UNKNOWN)]
    if View.UNKNOWN not in stated and len(set(stated)) == len(stated):
        return stated, False
    if len(chosen) == 2 and detectors[chosen[0]] == detectors[chosen[1]]:
        return stated, False
    if "DetectorVector" not in header:
        return stated, False
    return [_VIEW_OF_DETECTOR.get(detectors[index], View.UNKNOWN) for index in chosen], True


def _view_of_code(header: pydicom.Dataset, detector: int) -> View:
    sequence = header.get("DetectorInformationSequence", None) or []
    if not 1 <= detector <= len(sequence):
        return View.UNKNOWN
    for code in sequence[detector - 1].get("ViewCodeSequence", None) or []:
        view = _VIEW_CODES.get(str(code.get("CodeValue", "")), view_of_text(str(code.get("CodeMeaning", ""))))
        if view != View.UNKNOWN:
            return view
    return View.UNKNOWN


def _vector(header: pydicom.Dataset, keyword: str, frames: int) -> list[int]:
    """A frame-wise index vector; all ones where it is absent or of another length."""
    values: list[int] = _entry(
        header, keyword, lambda value: [int(v) for v in ([value] if isinstance(value, int) else value)], []
    )
    return values if len(values) == frames else [1] * frames


def _patient(header: pydicom.Dataset, path: Path) -> str:
    """Pseudonym of the patient, or of the study or the file where the header names none."""
    patient, issuer = _entry(header, "PatientID", str, "").strip(), _entry(header, "IssuerOfPatientID", str, "")
    study = _entry(header, "StudyInstanceUID", str, "").strip()
    if patient:
        return pseudonym(f"patient {issuer} {patient}")
    return pseudonym(f"study {study}") if study else pseudonym(f"file {path.name}")
