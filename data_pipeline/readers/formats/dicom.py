"""Nuclear medicine DICOM -> scans: one frame, or two (anterior and posterior)."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from data_pipeline.readers.formats.codestreams import decoded_pixels
from data_pipeline.readers.formats.dicom_file import EntryError, entry, numbers, quiet, read_dicom_file, texts
from data_pipeline.readers.formats.dicom_frames import choose_frames, orientation_of_frame, views_of
from data_pipeline.readers.pseudonyms import pseudonym
from data_pipeline.readers.settle import StoredImage, settle
from data_pipeline.readers.stated import Stated
from data_pipeline.readers.values import check_pixels
from data_pipeline.scan import Scan, ScanError

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
_LOSSY_JPEG = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"}
_NOT_PLANAR = ("TOMO", "DYNAMIC", "GATED", "RECON")
# Relative difference of two sums of counts that is still rounding.
_SUM_TOLERANCE = 0.001


def read_dicom(path: Path, stated: Stated | None = None) -> list[Scan]:
    """Reads the planar frames of one DICOM file.

    What counts is the modality and the geometry: real bone scans come under several SOP classes.

    Raises:
      ScanError: no DICOM, another modality, not planar, colour, without or with damaged pixel data, or what has to be
        settled by a flag.
    """
    with quiet():
        header = _open(path)
        try:
            _check_planar(header, path)
            stored = _decode(header, path)
            return _scans(header, stored, path, stated or Stated())
        except EntryError as error:
            raise ScanError(f"{path}: the header entry cannot be read ({error}); export the file again") from None
        except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
            if isinstance(error, ScanError):
                raise
            kind = type(error).__name__
            raise ScanError(f"{path}: a header entry cannot be read ({kind}); export the file again") from None


def read_modality(path: Path) -> str:
    """Code of the modality of a DICOM file; empty where there is none, or none that is known."""
    with quiet(), contextlib.suppress(Exception):  # what is wrong with a file its reader says
        header = read_dicom_file(path, pixels=False, only=["Modality"])
        code = str(header.get("Modality", ""))
        return code if code in _MODALITIES else ""
    return ""


def _open(path: Path) -> pydicom.Dataset:
    try:
        header = read_dicom_file(path)
        if len(header) == 0:  # what pydicom returns when the file ends within its compressed pixels
            raise EOFError
        return header
    except InvalidDicomError:
        pass
    except ScanError:
        raise
    except Exception as error:  # damaged files fail in many ways
        raise ScanError(f"{path}: damaged or truncated DICOM ({type(error).__name__}); copy it again") from None
    try:  # files from before 1996 have no preamble
        header = read_dicom_file(path, force=True)
        if "Modality" in header and "Rows" in header:
            return header
    except ScanError:
        raise
    except Exception:  # any text fails somehow; the message below says it
        pass
    raise ScanError(f"{path}: is not a DICOM, PNG, JPEG, TIFF, NPY or NIfTI file; export it as one of these")


def _check_planar(header: pydicom.Dataset, path: Path) -> None:
    modality = entry(header, "Modality", str, "")
    if not modality:
        raise ScanError(f"{path}: the header states no modality; it was cut short or emptied: copy or export it again")
    if modality != "NM":
        shown = modality if modality in _MODALITIES else "unknown"
        raise ScanError(f"{path}: modality {shown}; a planar bone scan has modality NM: export the scan itself")
    if "PixelData" not in header:
        raise ScanError(f"{path}: has no pixel data (header only, or truncated); export it with the image")
    if entry(header, "SamplesPerPixel", int, 1) != 1:
        raise ScanError(f"{path}: a colour picture (secondary capture?); export the original scan")
    if entry(header, "PhotometricInterpretation", str, "MONOCHROME2") not in ("MONOCHROME1", "MONOCHROME2"):
        raise ScanError(f"{path}: a palette or colour picture; export the original scan")
    kind = " ".join(entry(header, "ImageType", texts, []))
    if any(word in kind.upper() for word in _NOT_PLANAR) or (entry(header, "NumberOfSlices", int, 1) or 1) > 1:
        raise ScanError(f"{path}: a tomographic, dynamic or gated study, not a planar scan; export the whole-body scan")
    frames = entry(header, "NumberOfFrames", int, 1) or 1
    if frames > 64:
        raise ScanError(f"{path}: {frames} frames; a planar scan has one or two (anterior, posterior)")
    check_pixels(frames, (entry(header, "Rows", int, 0), entry(header, "Columns", int, 0)), str(path))


def _decode(header: pydicom.Dataset, path: Path) -> np.ndarray:
    """Stored values `[frames, rows, columns]`, of the bits that BitsStored and HighBit name."""
    header.ensure_file_meta()
    if "TransferSyntaxUID" not in header.file_meta:
        header.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian  # what the standard assumes
    syntax = header.file_meta.TransferSyntaxUID
    bits, allocated = entry(header, "BitsStored", int, 0), entry(header, "BitsAllocated", int, 0)
    high = entry(header, "HighBit", int, bits - 1)
    shift = high + 1 - bits
    if shift < 0 or high >= allocated or (shift and syntax.is_encapsulated):
        raise ScanError(f"{path}: {bits} bits up to bit {high} of {allocated} cannot be; export it uncompressed")
    if shift:
        header.BitsStored, header.HighBit = allocated, allocated - 1
    try:
        values = decoded_pixels(header, str(path))
    except ScanError:
        raise
    except Exception as error:  # every decoder has its own errors, which may quote the header
        name = syntax.name if syntax.name != syntax else "unknown"
        if syntax in _LOSSY_JPEG:
            remedy = "lossy JPEG of that kind is not read, or the file is truncated: export it lossless or uncompressed"
        else:
            remedy = "the file is truncated, or export it uncompressed"
        raise ScanError(
            f"{path}: the pixel data cannot be decoded (transfer syntax {name}, {type(error).__name__}); {remedy}"
        ) from None
    if shift:
        values = _right_justified(values, bits, shift, path)
    return values[None] if values.ndim == 2 else values


def _right_justified(values: np.ndarray, bits: int, shift: int, path: Path) -> np.ndarray:
    """`bits` of each value above the lowest `shift`, signed as the values are; older standards allowed such."""
    words = values.view(values.dtype.str.replace("i", "u")).astype(np.int64)
    if (words & ((1 << shift) - 1)).any():
        raise ScanError(f"{path}: HighBit says that values are left-justified, the lowest bits are not empty; mend it")
    kept = (words >> shift) & ((1 << bits) - 1)
    return np.where(kept >> (bits - 1), kept - (1 << bits), kept) if values.dtype.kind == "i" else kept


def _scans(header: pydicom.Dataset, stored: np.ndarray, path: Path, stated: Stated) -> list[Scan]:
    chosen, notes = choose_frames(header, stored, path, stated)
    values, mended = _in_counts(header, stored[chosen], path)
    views, said = views_of(header, chosen, path, len(stored), stated)
    notes += _notes_on_counts(header, values) + mended + said
    spacing: list[float] = entry(header, "PixelSpacing", numbers, [])
    known = len(spacing) == 2 and min(spacing) > 0 and np.isfinite(spacing).all()
    scans = []
    for number, (index, view) in enumerate(zip(chosen, views, strict=True)):
        turn, source = orientation_of_frame(header, index, view, path, len(stored), len(chosen), stated)
        image = StoredImage(
            values=values[number],
            pixel_size_mm=(spacing[0], spacing[1]) if known else None,
            view=view,
            patient=_patient(header, path),
            notes=notes,
            orientation=turn,
            orientation_from=source,
            frame=index,
        )
        scans.append(settle(image, path, stated))
    return scans


def _in_counts(header: pydicom.Dataset, stored: np.ndarray, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Stored values after rescaling, padding taken for no counts.

    Slope and intercept are applied where that gives whole numbers. A slope that does not is only a unit, since counts
    are whole: it is left out, and the intercept is taken in units of it.
    """
    if "ModalityLUTSequence" in header:
        raise ScanError(f"{path}: values behind a lookup table; export the original counts")
    notes: tuple[str, ...] = ()
    padding = _padding(header, stored)
    values = stored
    slope = entry(header, "RescaleSlope", float, 1.0)
    intercept = entry(header, "RescaleIntercept", float, 0.0)
    if not (np.isfinite([slope, intercept]).all() and slope):
        raise ScanError(f"{path}: a rescale slope of {slope:g} gives no counts; export the original counts")
    if (slope, intercept) != (1.0, 0.0):
        scaled = slope * stored.astype(np.float64) + intercept
        if np.allclose(scaled, np.rint(scaled), rtol=0, atol=1e-3):
            values = np.rint(scaled)
            notes += (f"rescale slope {slope:g} and intercept {intercept:g} applied",)
        else:
            values = scaled / abs(slope)
            taken = f", intercept {intercept:g} in units of it" if intercept else ""
            notes += (f"rescale slope {slope:g} not applied{taken}: stored values are taken as counts",)
    if number := int(np.count_nonzero(padding)):
        values = np.where(padding, 0, values)
        notes += (f"{number} pixels of PixelPaddingValue taken for no counts",)
    return values, notes


def _padding(header: pydicom.Dataset, stored: np.ndarray) -> np.ndarray:
    """Where stored values are padding, whether the header states them signed or not."""
    ends = [entry(header, key, int, None) for key in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return np.zeros(stored.shape, bool)
    first, last = ends[0], ends[0] if ends[1] is None else ends[1]
    span = 1 << entry(header, "BitsAllocated", int, 16)
    first, last = sorted((first, last))
    return np.logical_or.reduce([(stored >= first + turn) & (stored <= last + turn) for turn in (-span, 0, span)])


def _notes_on_counts(header: pydicom.Dataset, frames: np.ndarray) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    if entry(header, "LossyImageCompression", str, "00") == "01":
        notes += ("lossy compression: the counts are not original",)
    stated, summed = entry(header, "CountsAccumulated", int, 0), int(np.maximum(frames, 0).sum(dtype=np.float64))
    if len(frames) == 1 and stated and abs(stated - summed) > _SUM_TOLERANCE * stated:
        notes += (f"the header states {stated} counts, the pixels sum to {summed}",)
    return notes


def _patient(header: pydicom.Dataset, path: Path) -> str:
    """Pseudonym of the patient, or of the study or the file where the header names none."""
    patient, issuer = entry(header, "PatientID", str, "").strip(), entry(header, "IssuerOfPatientID", str, "")
    study = entry(header, "StudyInstanceUID", str, "").strip()
    if patient:
        return pseudonym(f"patient {issuer} {patient}")
    return pseudonym(f"study {study}") if study else pseudonym(f"file {path.name}")
