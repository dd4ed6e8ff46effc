"""Planar NIfTI images -> scans, and the array behind masks.

NIfTI stores columns first. Rows go down where they run along -z (a coronal image), or along -y (planar images of
programs built on ITK: 3D Slicer, ITK-SNAP, nnU-Net); along +z, or +y with columns along -x (dcm2niix), they go up and
are turned. An affine with +x and +y, as `numpy.eye(4)`, says nothing about a planar image: the longer side is then
taken as rows, from the top.
"""

from __future__ import annotations

import warnings as python_warnings
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.readers.pseudonyms import pseudonym
from data_pipeline.readers.values import MAX_SIDE_PX, check_size, to_counts
from data_pipeline.readers.views import view_of_file_name, without_view
from data_pipeline.scan import Scan, ScanError

_Z = 2
_MILLIMETRES = {"mm": 1.0, "meter": 1000.0, "micron": 0.001, "unknown": 1.0}


def read_nifti(path: Path) -> Scan:
    """Reads one planar scan.

    Raises:
      ScanError: damaged, a volume, or no counts.
    """
    values, pixel_size, assumed = read_planar_nifti(path)
    counts, warnings = to_counts(values, str(path))
    if pixel_size is None:
        warnings += ("no pixel size in the file: lengths in mm are unknown",)
    if assumed:
        warnings += ("the affine does not say where the top is: row 0 is taken as the head",)
    stem = nifti_stem(path.name)
    view = view_of_file_name(stem, path.parent.name)
    return Scan(counts, pixel_size, view, pseudonym(without_view(stem)), path.name, warnings)


def nifti_stem(name: str) -> str:
    """File name without `.nii` or `.nii.gz`."""
    lower = name.lower()
    return name[: -len(".nii.gz")] if lower.endswith(".nii.gz") else name.rsplit(".", 1)[0]


def read_planar_nifti(path: Path) -> tuple[np.ndarray, tuple[float, float] | None, bool]:
    """Values `[rows, columns]`, (row, column) spacing in mm or None, and whether the orientation was assumed.

    Raises:
      ScanError: damaged, or more than one slice.
    """
    # 0.2 s to load, needed for this format only.
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            image: Any = nibabel.load(path)
            shape = tuple(side for side in image.shape if side != 1)
            if len(shape) != 2 or sum(side > 1 for side in image.shape[:3]) != 2:
                sides = " x ".join(map(str, image.shape))
                raise ScanError(f"{path}: an image of {sides} voxels, not planar; save one view per file")
            # Before the pixels: a header may promise terabytes.
            check_size(shape, str(path))
            if np.prod(shape) > MAX_SIDE_PX**2:
                raise ScanError(f"{path}: {shape[0]} x {shape[1]} pixels are too many for a planar scan")
            values = np.asarray(image.dataobj).reshape(shape)
            affine = np.asarray(image.affine, np.float64)
            axes = [axis for axis, side in enumerate(image.shape[:3]) if side > 1]
            zooms = [
                float(zoom) for zoom, side in zip(image.header.get_zooms(), image.shape, strict=False) if side != 1
            ]
            unit = image.header.get_xyzt_units()[0] if hasattr(image.header, "get_xyzt_units") else "mm"
    except ScanError:
        raise
    except (ImageFileError, OSError, EOFError, ValueError, OverflowError, MemoryError, TypeError, KeyError) as error:
        raise ScanError(f"{path}: the NIfTI cannot be read ({type(error).__name__}); export it again") from None
    except Exception as error:  # zlib and header faults have types of their own
        raise ScanError(f"{path}: the NIfTI is damaged ({type(error).__name__}); copy it again") from None
    if values.dtype.kind == "V":
        raise ScanError(f"{path}: a colour image; save one number per pixel")
    pixel_size = _pixel_size(zooms, _MILLIMETRES.get(unit, 1.0))
    first, second = (_direction(affine, axis) for axis in axes)
    silent = (first, second) == ((0, 1), (1, 1))
    # Columns come first, unless the affine or the shape says that rows do.
    if first[0] == _Z or (silent and shape[0] > shape[1]):
        return np.ascontiguousarray(values[::-1] if first == (_Z, 1) else values), pixel_size, silent
    rows = values.T
    if second == (_Z, 1) or (first, second) == ((0, -1), (1, 1)):
        rows = rows[::-1]
    return np.ascontiguousarray(rows), pixel_size and (pixel_size[1], pixel_size[0]), silent


def _direction(affine: np.ndarray, axis: int) -> tuple[int, int]:
    """Along which of x, y and z an axis of the array runs, and its sign."""
    column = affine[:3, axis]
    along = int(np.argmax(np.abs(column)))
    return along, 1 if column[along] > 0 else -1


def _pixel_size(zooms: list[float], millimetres: float) -> tuple[float, float] | None:
    """Spacing along the two axes; exactly 1 is what programs write when they know none."""
    first, second = zooms[0] * millimetres, zooms[1] * millimetres
    if not (np.isfinite(first) and np.isfinite(second) and first > 0 and second > 0) or (first, second) == (1.0, 1.0):
        return None
    return first, second
