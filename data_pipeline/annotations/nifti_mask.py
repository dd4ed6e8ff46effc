"""NIfTI masks, laid on their scan by both affines where the scan is a NIfTI, by their own otherwise."""

from __future__ import annotations

import dataclasses
import warnings as python_warnings
from pathlib import Path

import numpy as np

from data_pipeline.annotations.target import Target
from data_pipeline.readers.formats.nifti import load_nifti
from data_pipeline.readers.orientation import upright
from data_pipeline.readers.values import check_pixels
from data_pipeline.scan import ScanError, View

_X, _Y, _Z = 0, 1, 2
_OFF_PX = 0.5
SILENT = "the mask's affine says nothing of directions: it is taken to be stored as its scan"
PLACELESS = "an affine without a place (pixels of 1 mm from 0): the mask is taken to be stored as its scan"
ASSUMED = "the mask's affine does not say where the top is: row 0 is taken as the head"


@dataclasses.dataclass(frozen=True)
class _Plane:
    """One slice as stored.

    Attributes:
      values: `[first axis, second axis]`.
      directions: of both axes, (which of x, y and z, sign).
      affine: of the file.
      axes: of the file that are those of `values`.
    """

    values: np.ndarray
    directions: tuple[tuple[int, int], tuple[int, int]]
    affine: np.ndarray
    axes: tuple[int, int]

    @property
    def silent(self) -> bool:
        """Whether the affine is the unit matrix, which programs write when they know none."""
        return np.array_equal(self.affine, np.eye(4))

    @property
    def placeless(self) -> bool:
        """Whether the affine has directions alone: pixels of 1 mm from 0, which programs write that keep no place."""
        return bool(np.isin(np.abs(self.affine[:3, :3]), (0, 1)).all()) and not self.affine[:3, 3].any()


def slices_of(path: Path) -> int:
    """Slices of a NIfTI: its shortest side where three are longer than 1.

    Raises:
      ScanError: a volume.
    """
    image = load_nifti(path)
    shape = [side for side in image.shape if side != 1]
    return 1 if len(shape) <= 2 else min(shape)


def read_nifti_mask(path: Path, target: Target) -> tuple[np.ndarray, tuple[str, ...]]:
    """Values `[rows, columns]` as the scan has them, and what was assumed.

    Raises:
      ScanError: a volume, another plane than the scan's, directions that cannot be compared.
    """
    mask = _load(path, target)
    if target.nifti is None:
        return _by_itself(mask, target.view, path)
    scan = _load(target.nifti, Target())
    if (stored := _in_same_place(mask, scan)) is not None:
        return upright(stored, target.orientation), ()
    placeless = mask.placeless or scan.placeless
    if mask.values.shape == scan.values.shape and (mask.silent or (placeless and mask.directions == scan.directions)):
        return upright(mask.values, target.orientation), (SILENT if mask.silent else PLACELESS,)
    if scan.silent:
        return _by_itself(mask, target.view, path)
    raise ScanError(
        f"{path}: by its affine it lies elsewhere than its scan, or the other way up; save it in the scan's own space"
    )


def _load(path: Path, target: Target) -> _Plane:
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        image = load_nifti(path)
        axes = [axis for axis, side in enumerate(image.shape) if side != 1]
        sides = [image.shape[axis] for axis in axes]
        pages = min(sides) if len(sides) == 3 else 1
        if len(sides) - (pages > 1) != 2 or pages != target.pages_wanted:
            shown = " x ".join(map(str, image.shape))
            raise ScanError(
                f"{path}: a mask of {shown} voxels for a scan of {target.pages} view(s); save one slice for each view"
            )
        slices = sides.index(pages) if pages > 1 else None
        plane = [axis for place, axis in enumerate(axes) if place != slices]
        if max(plane) > _Z:
            raise ScanError(f"{path}: a series in time, no mask; save one slice")
        check_pixels(pages, (image.shape[plane[0]], image.shape[plane[1]]), str(path))
        values = np.asarray(image.dataobj).reshape(sides)
        affine = np.asarray(image.affine, np.float64)
    if slices is not None:
        values = np.take(values, target.page, axis=slices)
    directions = (_direction(affine, plane[0]), _direction(affine, plane[1]))
    return _Plane(values, directions, affine, (plane[0], plane[1]))


def _direction(affine: np.ndarray, axis: int) -> tuple[int, int]:
    """Along which of x, y and z an axis of the array runs, and its sign."""
    column = affine[:3, axis]
    along = int(np.argmax(np.abs(column)))
    return along, 1 if column[along] > 0 else -1


def _in_same_place(mask: _Plane, scan: _Plane) -> np.ndarray | None:
    """The mask's values in the order of the scan's axes, if both affines put their pixels in the same places."""
    (first, second), wanted = mask.directions, scan.directions
    values, axes = mask.values, mask.axes
    if (first[0], second[0]) == (wanted[1][0], wanted[0][0]):
        values, first, second, axes = values.T, second, first, axes[::-1]
    if (first[0], second[0]) != (wanted[0][0], wanted[1][0]) or values.shape != scan.values.shape:
        return None
    corners = [(0, 0), (values.shape[0] - 1, values.shape[1] - 1)]
    flips = first[1] * wanted[0][1], second[1] * wanted[1][1]
    for corner in corners:
        index = np.zeros(4)
        index[list(axes)], index[3] = corner, 1.0
        try:
            place = np.linalg.solve(scan.affine, mask.affine @ index)[list(scan.axes)]
        except np.linalg.LinAlgError:
            return None
        there = [at if flip > 0 else side - 1 - at for at, flip, side in zip(corner, flips, values.shape, strict=True)]
        if np.abs(place - there).max() > _OFF_PX:
            return None
    return values[:: flips[0], :: flips[1]]


def _by_itself(mask: _Plane, view: View, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Upright by the mask's own affine, for a scan that has none: rows run to -z or -y, columns to -x.

    Columns of a posterior view run to the patient's right, +x, where the affine is a coronal image's.
    """
    values, (first, second) = mask.values, mask.directions
    if {first, second} == {(_X, 1), (_Y, 1)}:
        rows_first = first[0] == _Y or values.shape[0] > values.shape[1]
        return np.ascontiguousarray(values if rows_first else values.T), (ASSUMED,)
    if second[0] == _X:
        values, first, second = values.T, second, first
    if first[0] != _X:
        raise ScanError(f"{path}: no frontal view by its affine; save it in the scan's own format")
    if first[1] == 1 and not (view == View.POSTERIOR and second[0] == _Z):
        raise ScanError(
            f"{path}: by its affine it is mirrored, and its scan has none to compare; save it in the scan's own format"
        )
    rows = values.T
    return np.ascontiguousarray(rows[::-1] if second[1] == 1 else rows), ()
