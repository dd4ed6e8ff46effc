"""Planar NIfTI images -> scans, and the array behind masks.

NIfTI stores columns first. Along z rows run down (-z), and columns to the patient's left (-x) in an anterior view, to
the right (+x) in a posterior one; an image that lies otherwise is turned. Planar images in x and y lie as programs
built on ITK write them (3D Slicer, ITK-SNAP, nnU-Net): columns along -x, rows along -y, whatever the view; what runs
the other way (dcm2niix, nibabel's canonical form) is turned. An affine with +x and +y from the origin, such as
`numpy.eye(4)`, says nothing about a planar image: the longer side is then taken as rows, from the top.
"""

from __future__ import annotations

import dataclasses
import warnings as python_warnings
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.readers import budget
from data_pipeline.readers.orientation import AS_STORED, orientation_of
from data_pipeline.readers.pseudonyms import pseudonym
from data_pipeline.readers.settle import StoredImage, settle, view_of_path
from data_pipeline.readers.stated import Stated
from data_pipeline.readers.values import check_pixels
from data_pipeline.readers.views import without_view
from data_pipeline.scan import Scan, ScanError, View

_X, _Z = 0, 2
# Letters of the positive and negative direction of an axis that holds columns, and of one that holds rows.
_ACROSS, _DOWN = ("R", "L"), ("H", "F")
_MILLIMETRES = {"mm": 1.0, "meter": 1000.0, "micron": 0.001, "unknown": 1.0}
_GZIP_MARK = b"\x1f\x8b"


@dataclasses.dataclass(frozen=True)
class PlanarNifti:
    """The one slice of a NIfTI file.

    Attributes:
      values: `[first, second]` axis as stored.
      pixel_size_mm: spacing along the two axes, or None.
      columns_to: where the second axis, taken as columns, runs: L, R, H or F.
      rows_to: where the first axis, taken as rows, runs.
      silent: whether the affine says nothing about it.
      sided: whether left and right are the patient's, which an image in x and y does not tell.
    """

    values: np.ndarray
    pixel_size_mm: tuple[float, float] | None
    columns_to: str
    rows_to: str
    silent: bool
    sided: bool

    def orientation(self, view: View) -> int:
        """EXIF number of how `values` lie, taken as rows and columns.

        Args:
          view: decides on left and right where the affine tells them; of an unknown view they stay as they are.
        """
        if self.silent:
            return AS_STORED if self.values.shape[0] > self.values.shape[1] else 5
        side = view if self.sided and view != View.UNKNOWN else View.ANTERIOR
        if self.sided and view == View.UNKNOWN and "R" in (self.columns_to, self.rows_to):
            side = View.POSTERIOR  # columns to the right: as a posterior view is shown
        turn = orientation_of(self.columns_to, self.rows_to, side)
        return AS_STORED if turn is None else turn


def read_nifti(path: Path, stated: Stated | None = None) -> Scan:
    """Reads one planar scan.

    Raises:
      ScanError: damaged, a volume, or no counts.
    """
    stated = stated or Stated()
    plane = read_plane(path)
    stem = nifti_stem(path.name)
    view, notes = view_of_path(path, stem, stated)
    turn, source = plane.orientation(view), "its affine"
    if plane.silent and stated.orientation is None:
        notes += ("the affine does not say where the top is: row 0 is taken as the head; --orientation= settles it",)
    image = StoredImage(plane.values, plane.pixel_size_mm, view, pseudonym(without_view(stem)), notes, turn, source)
    scan = settle(image, path, stated)
    # NIfTI keeps columns first: that it must be transposed is no mending, that it is turned or mirrored is.
    kept = tuple(
        note for note in scan.warnings if not (note.startswith("turned upright: its affine") and turn in (1, 5))
    )
    return dataclasses.replace(scan, warnings=kept)


def nifti_stem(name: str) -> str:
    """File name without `.nii` or `.nii.gz`."""
    lower = name.lower()
    return name[: -len(".nii.gz")] if lower.endswith(".nii.gz") else name.rsplit(".", 1)[0]


def read_plane(path: Path) -> PlanarNifti:
    """The one slice of a file, as stored.

    Raises:
      ScanError: damaged, more than one slice, or more bytes than `budget.MAX_FILE_BYTES`.
    """
    # 0.2 s to load, needed for this format only.
    from nibabel.filebasedimages import ImageFileError

    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            image = load_nifti(path)
            shape = tuple(side for side in image.shape if side != 1)
            if len(shape) != 2 or sum(side > 1 for side in image.shape[:3]) != 2:
                sides = " x ".join(map(str, image.shape))
                raise ScanError(f"{path}: an image of {sides} voxels, not planar; save one view per file")
            # Before the pixels: a header may promise terabytes.
            check_pixels(1, (shape[0], shape[1]), str(path))
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
    (first, first_sign), (second, second_sign) = (_direction(affine, axis) for axis in axes)
    planar = {first, second} == {0, 1}
    silent = planar and (first_sign, second_sign) == (1, 1) and not affine[:2, 3].any()
    return PlanarNifti(
        values=values,
        pixel_size_mm=_pixel_size(zooms, _MILLIMETRES.get(unit, 1.0)),
        columns_to=(_DOWN if second > first else _ACROSS)[0 if second_sign > 0 else 1],
        rows_to=(_DOWN if first > second else _ACROSS)[0 if first_sign > 0 else 1],
        silent=silent,
        sided={first, second} == {_X, _Z},
    )


def load_nifti(path: Path) -> Any:
    """A NIfTI image whose bytes are in memory, unpacked within the budget.

    Raises:
      ScanError: no regular file, or it is or unpacks to more than `budget.MAX_FILE_BYTES`.
      Exception: damaged files fail in many ways.
    """
    import nibabel

    budget.check_regular(path)
    content = path.read_bytes()
    if content.startswith(_GZIP_MARK):
        content = budget.inflate(content, path, gzip=True)
    kind = nibabel.Nifti2Image if content[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c") else nibabel.Nifti1Image
    return kind.from_bytes(content)


def _direction(affine: np.ndarray, axis: int) -> tuple[int, int]:
    """Along which of x, y and z an axis of the array runs, and its sign."""
    column = affine[:3, axis]
    along = int(np.argmax(np.abs(column)))
    return along, 1 if column[along] > 0 else -1


def _pixel_size(zooms: list[float], millimetres: float) -> tuple[float, float] | None:
    """Spacing along the two axes; None where it is no length."""
    first, second = zooms[0] * millimetres, zooms[1] * millimetres
    if not (np.isfinite(first) and np.isfinite(second) and first > 0 and second > 0):
        return None
    return first, second
