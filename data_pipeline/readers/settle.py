"""Stored pixels -> a scan: what is checked of every file alike, whatever its format, and what the user settles."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from data_pipeline.readers import orientation, views
from data_pipeline.readers.stated import Stated
from data_pipeline.readers.values import to_counts
from data_pipeline.scan import Scan, ScanError, View
from data_pipeline.text import printable

NO_PIXEL_SIZE = "no pixel size in the file"
"""How the note begins without which lengths in mm would be believed."""

USERS_PIXEL_SIZE = "pixel size of --pixel-mm"
"""How the note begins that the pixel size is the user's."""

_WIDTH_MM, _LENGTH_MM = (100.0, 1000.0), (100.0, 3000.0)
"""Short and long side of what cameras see: a small field of view to a whole body."""

_PIXEL_ASPECT_TOLERANCE = 0.05
# Between the darkest pixel (0) and the brightest (1) the air of a scan lies near 0, of an inverted one near 1.
_INVERTED_FROM = 0.75
# Air has next to no counts: a smallest value of this share of the largest is an offset.
_OFFSET_FROM = 0.5
_LYING_FROM = 1.5
_MASK_VALUES_MAX = 32
_MASK_EQUAL_NEIGHBOURS = 0.95


@dataclasses.dataclass(frozen=True)
class StoredImage:
    """One view as a file holds it.

    Attributes:
      values: `[rows, columns]`, as stored, in units of counts.
      pixel_size_mm: spacing of the stored rows and columns as the file states it; None where it does not.
      view: as the file says.
      patient: pseudonym.
      notes: what was mended or assumed so far.
      orientation: EXIF number of how the pixels lie, as the file says.
      orientation_from: what in the file says so.
      frame: number in the file.
    """

    values: np.ndarray
    pixel_size_mm: tuple[float, float] | None
    view: View
    patient: str
    notes: tuple[str, ...] = ()
    orientation: int = orientation.AS_STORED
    orientation_from: str = ""
    frame: int = 0


def settle(image: StoredImage, path: Path, stated: Stated) -> Scan:
    """Counts, upright, with a pixel size that a camera can have.

    Raises:
      ScanError: no counts, a mask, inverted, padded, lying, or of an impossible size; the line names the flag that
        settles it.
    """
    counts, mended = to_counts(image.values, str(path))
    _refuse_masks(counts, path)
    counts, inverted = _hot_is_bright(counts, path, stated)
    _refuse_padding(counts, path)
    turn = image.orientation if stated.orientation is None else stated.orientation
    counts = orientation.upright(counts, turn)
    if stated.orientation is None and counts.shape[1] > _LYING_FROM * counts.shape[0]:
        raise ScanError(
            f"{path}: {counts.shape[1]} columns on {counts.shape[0]} rows: the patient lies; turn it, or say how it "
            "lies with --orientation="
        )
    pixel_size, notes = _pixel_size(image, path, stated)
    if pixel_size is not None and turn >= 5:
        pixel_size = (pixel_size[1], pixel_size[0])
    if turn != orientation.AS_STORED:
        reason = image.orientation_from if stated.orientation is None else "--orientation"
        notes = (f"turned upright: {reason} says that it lies {_name(turn)}", *notes)
    return Scan(
        counts=counts,
        pixel_size_mm=pixel_size,
        view=image.view,
        patient=image.patient,
        source=printable(path.name),
        warnings=(*mended, *inverted, *image.notes, *notes),
        frame=image.frame,
        orientation=turn,
    )


def view_of_path(path: Path, stem: str, stated: Stated) -> tuple[View, tuple[str, ...]]:
    """View of a file without a header: the user's, else what its name or its folder's says.

    Raises:
      ScanError: the name says that it is a lateral or oblique view, or the user names two.
    """
    if stated.views:
        return stated_views(stated, 1, path)[0], ()
    for name in (stem, path.parent.name):
        if word := views.other_projection(name):
            raise ScanError(f'{path}: a lateral or oblique view by its name ("{word}"); {OTHER_VIEW_REMEDY}')
    view, word = views.file_view_and_guess(stem, path.parent.name)
    return view, views.guess_note(word) if view != View.UNKNOWN else (VIEW_NOT_STATED,)


OTHER_VIEW_REMEDY = "only anterior and posterior ones are read; --view= says otherwise"
VIEW_NOT_STATED = "view not stated; --view= says it"


def stated_views(stated: Stated, frames: int, path: Path) -> list[View]:
    """The user's views of a file of so many.

    Raises:
      ScanError: another number of them.
    """
    if len(stated.views) != frames:
        named = ",".join(stated.views)
        raise ScanError(f"{path}: --view={named} does not fit {frames} view(s); name as many, in their order")
    return list(stated.views)


def _name(number: int) -> str:
    return next(name for name, own in orientation.NAMES.items() if own == number)


def _refuse_masks(counts: np.ndarray, path: Path) -> None:
    """Two values, or numbers 0 to n in patches: neighbouring pixels of a scan differ, if only by noise."""
    maximum = int(counts.max())
    if maximum >= 1 << 16:
        return
    values = np.count_nonzero(np.bincount(counts.ravel()))
    left, right = counts[:, :-1], counts[:, 1:]
    inside = (left > 0) & (right > 0)
    equal = np.count_nonzero(inside & (left == right))
    numbered = values == maximum + 1 <= _MASK_VALUES_MAX
    if (values == 2 and (counts.min() == 0 or maximum <= 255)) or (
        numbered and equal > _MASK_EQUAL_NEIGHBOURS * max(int(np.count_nonzero(inside)), 1)
    ):
        raise ScanError(f"{path}: {values} values in patches: a mask, no scan; name the scan itself")


def _hot_is_bright(counts: np.ndarray, path: Path, stated: Stated) -> tuple[np.ndarray, tuple[str, ...]]:
    darkest, brightest = int(counts.min()), int(counts.max())
    border = np.concatenate([counts[0], counts[-1], counts[:, 0], counts[:, -1]])
    level = max(float(np.median(border)), float(np.median(counts)))
    if level - darkest > _INVERTED_FROM * (brightest - darkest):
        if stated.inverted:
            return brightest - counts, ("inverted, as --inverted says: maximum - value",)
        if stated.inverted is None:
            raise ScanError(
                f"{path}: the background is brighter than the patient: say --inverted to invert it, or --no-inverted "
                "if it is right as it is"
            )
    if darkest > _OFFSET_FROM * brightest:
        raise ScanError(
            f"{path}: no value is below {darkest} and the largest is {brightest}: an offset was added; subtract it"
        )
    return counts, ()


def _refuse_padding(counts: np.ndarray, path: Path) -> None:
    """A whole row of the largest value is a margin or a frame: no patient glows from edge to edge."""
    brightest = counts == counts.max()
    number = int(brightest.all(axis=1).sum() + brightest.all(axis=0).sum())
    if number:
        raise ScanError(f"{path}: {number} rows or columns of nothing but the largest value: a margin; cut it off")


def _pixel_size(image: StoredImage, path: Path, stated: Stated) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    size = image.pixel_size_mm
    own = None if stated.pixel_mm is None else (stated.pixel_mm, stated.pixel_mm)
    if size is None or size == (1.0, 1.0):
        if own is not None:
            return own, (USERS_PIXEL_SIZE,)
        said = "" if size is None else " (1 mm is what programs write that know none)"
        return None, (f"{NO_PIXEL_SIZE}{said}: lengths in mm are unknown; --pixel-mm= says it",)
    row, column = size
    sides = sorted((image.values.shape[0] * row, image.values.shape[1] * column))
    if not (_WIDTH_MM[0] <= sides[0] <= _WIDTH_MM[1] and _LENGTH_MM[0] <= sides[1] <= _LENGTH_MM[1]):
        if own is not None:
            return own, (f"{USERS_PIXEL_SIZE}, not the {row:g} mm of the file",)
        raise ScanError(
            f"{path}: pixels of {row:g} x {column:g} mm make a field of {sides[0]:.0f} x {sides[1]:.0f} mm, which no "
            "camera has; say the size with --pixel-mm="
        )
    if abs(row - column) > _PIXEL_ASPECT_TOLERANCE * column:
        raise ScanError(f"{path}: pixels of {row:g} x {column:g} mm; resample the scan to square pixels")
    return size, ()
