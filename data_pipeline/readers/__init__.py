"""Files of users -> scans: DICOM, PNG, JPEG, TIFF, NPY, NIfTI; each file a list of scans or one clear error."""

from __future__ import annotations

from pathlib import Path

from data_pipeline.readers import budget
from data_pipeline.readers.damage import read_or_refuse
from data_pipeline.readers.stated import Stated
from data_pipeline.scan import Scan, ScanError

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "picture",
    b"\xff\xd8\xff": "picture",
    b"II*\x00": "picture",
    b"MM\x00*": "picture",
    b"\x93NUMPY": "numpy",
    b"PK\x03\x04": "archive",
    b"\x5c\x01\x00\x00": "nifti",
    b"\x00\x00\x01\x5c": "nifti",
}


def read_scans(path: str | Path, stated: Stated | None = None) -> list[Scan]:
    """Reads every planar scan in one file; the content decides on the format, not the suffix.

    Args:
      path: a nuclear medicine DICOM with one frame, or two (anterior and posterior); a greyscale PNG, JPEG or TIFF; an
        NPY array `[rows, columns]`, or `[1 or 2, rows, columns]` (anterior, posterior); a NIfTI of one slice.
      stated: what the user says where the file does not, or says it wrongly.

    Returns:
      One or two scans, upright. `Scan.warnings` says what had to be mended or assumed, and which flag settles it.

    Raises:
      ScanError: the file cannot be used; one line that names the file, what is wrong and what to do.
    """
    settled = stated or Stated()
    return read_or_refuse(Path(path), lambda file: _read(file, settled))


def is_dicom(path: Path) -> bool:
    """Whether a readable file is taken for DICOM, which says who the patient is."""
    with path.open("rb") as file:
        return _kind(file.read(132), path.name) == "dicom"


def _kind(head: bytes, name: str) -> str:
    """Format by the first 132 bytes; a DICOM preamble may hold the signature of another: its own mark goes first."""
    if head[128:] == b"DICM":
        return "dicom"
    other = "nifti" if name.lower().endswith((".nii", ".nii.gz")) else "dicom"
    return next((kind for mark, kind in _SIGNATURES.items() if head.startswith(mark)), other)


def _read(path: Path, stated: Stated) -> list[Scan]:
    try:
        if path.is_dir():
            raise ScanError(f"{path}: is a folder; name the files in it")
        budget.check_regular(path)
        with path.open("rb") as file:
            head = file.read(132)
    except FileNotFoundError:
        raise ScanError(f"{path}: no such file") from None
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error.strerror})") from None
    if not head:
        raise ScanError(f"{path}: the file is empty; copy it again")
    # The libraries behind the readers take a second to load: only the one that is needed.
    kind = _kind(head, path.name)
    if kind == "archive":
        raise ScanError(f"{path}: is an archive; unpack it and name the files (of an NPZ, save one array as NPY)")
    if kind == "picture":
        from data_pipeline.readers.formats.images import read_picture

        return [read_picture(path, stated)]
    if kind == "nifti":
        from data_pipeline.readers.formats.nifti import read_nifti

        return [read_nifti(path, stated)]
    if kind == "numpy":
        from data_pipeline.readers.formats.images import read_numpy

        return read_numpy(path, stated)
    from data_pipeline.readers.formats.dicom import read_dicom

    return read_dicom(path, stated)
