"""Which way up stored pixels are, numbered as in EXIF and TIFF: the one place that turns and mirrors images.

A stored image has two directions: that in which its columns run (left to right) and that of its rows (top to bottom).
Upright, rows run to the feet (F); columns run to the patient's left (L) in an anterior view, to the right (R) in a
posterior one.
"""

from __future__ import annotations

import numpy as np

from data_pipeline.scan import View
from data_pipeline.terminal.scan_flags import ORIENTATIONS

AS_STORED = 1
NAMES = {name: number for number, name in enumerate(ORIENTATIONS, start=1)}
"""Values of `--orientation` -> EXIF number."""

_OPPOSITE = {"L": "R", "R": "L", "H": "F", "F": "H", "A": "P", "P": "A"}
_COLUMNS_RUN_TO = {View.ANTERIOR: "L", View.POSTERIOR: "R"}


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """The image [rows, columns] as EXIF orientation 1-8 says that it is to be shown."""
    values = stored.T if orientation >= 5 else stored
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return np.ascontiguousarray(values)


def inverse(orientation: int) -> int:
    """The orientation under which `upright` gives back what was stored."""
    return {6: 8, 8: 6}.get(orientation, orientation)


def standing(columns_to: str, rows_to: str, orientation: int) -> tuple[str, str]:
    """Directions of columns and rows after `upright`."""
    first, second = (rows_to, columns_to) if orientation >= 5 else (columns_to, rows_to)
    if orientation in (3, 4, 7, 8):
        second = _OPPOSITE[second]
    if orientation in (2, 3, 6, 7):
        first = _OPPOSITE[first]
    return first, second


def orientation_of(columns_to: str, rows_to: str, view: View) -> int | None:
    """How an image lies whose directions are known.

    Args:
      columns_to: where its columns run: L, R, H, F, A or P.
      rows_to: where its rows run.
      view: decides which side is on the left; of an unknown view only an image that stands already can be told.

    Returns:
      EXIF number, or None where the directions are no frontal view's or the view would have to be known.
    """
    if {"A", "P"} & {columns_to, rows_to}:
        return None
    if view == View.UNKNOWN:
        return AS_STORED if rows_to == "F" else None
    wanted = (_COLUMNS_RUN_TO[view], "F")
    return next((number for number in range(1, 9) if standing(columns_to, rows_to, number) == wanted), None)
