"""What a scan is: the one type that readers make and everything behind them consumes."""

from __future__ import annotations

import dataclasses
import enum

import numpy as np

from data_pipeline.errors import RequestError

THORAX_SIZE_PX = 256
"""Rows and columns of the thorax image, as in the group's published crops (Lin et al. 2020)."""

REFERENCE_PIXEL_MM = 2.26
"""Pixel size that `THORAX_SIZE_PX` assumes when a file states none: 256 columns over a 579 mm wide camera."""


class ScanError(RequestError):
    """A file or array that cannot be used as a scan: one line with what is wrong and what to do."""


class View(enum.StrEnum):
    """Side of the patient that faces the camera."""

    ANTERIOR = "anterior"
    POSTERIOR = "posterior"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True)
class Scan:
    """One planar scintigram, as counted by the camera.

    Attributes:
      counts: `[rows, columns]` int32, >= 0; row 0 is the top of the head, columns as DICOM shows them
        (anterior: the patient's right is on the left of the image; posterior: the patient's left is).
      pixel_size_mm: (row spacing, column spacing), or None when the file does not state it.
      view: which side was imaged.
      patient: key of the patient; scans that share it never part ways in a split.
      source: name of the file or generator, for messages.
      warnings: what the reader had to mend, one sentence each.
      frame: its number in the file, from 0.
      orientation: how the pixels lie in the file (EXIF number, 1 as here): `readers.orientation.upright` was applied,
        and must be to whatever is drawn on the stored pixels.
    """

    counts: np.ndarray
    pixel_size_mm: tuple[float, float] | None
    view: View
    patient: str
    source: str
    warnings: tuple[str, ...] = ()
    frame: int = 0
    orientation: int = 1

    def __post_init__(self) -> None:
        """Refuses arrays that are no planar count image."""
        if self.counts.ndim != 2:
            raise ScanError(f"{self.source}: a scan has rows and columns, this array has shape {self.counts.shape}")
        if self.counts.dtype != np.int32:
            raise ScanError(f"{self.source}: counts must be int32, these are {self.counts.dtype}")
        if self.counts.size == 0:
            raise ScanError(f"{self.source}: the image has no pixels")
        if int(self.counts.min()) < 0:
            raise ScanError(f"{self.source}: counts must not be negative")
