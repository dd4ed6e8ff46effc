"""What the user says about scans where files do not say it, or say it wrongly: the flags behind every guess."""

from __future__ import annotations

import argparse
import dataclasses

from data_pipeline.errors import RequestError
from data_pipeline.readers.orientation import NAMES
from data_pipeline.scan import View

PIXEL_MM = (0.1, 20.0)
"""Pixel sizes that `--pixel-mm` takes."""


@dataclasses.dataclass(frozen=True)
class Stated:
    """Settles what a reader would have to guess or refuse; it goes before the file.

    Attributes:
      views: of a file's one view, or of its two in their order; empty for what the file says.
      pixel_mm: side of the pixels of files that state none, or one that no camera has.
      orientation: EXIF number of how the stored pixels lie; None for what the file says.
      inverted: of scans whose background is brighter than the patient: True turns them into counts, maximum - value;
        False takes them as they are; None refuses them.
      energy_window: number of the energy window, from 1; None for the one that holds the photopeak.
    """

    views: tuple[View, ...] = ()
    pixel_mm: float | None = None
    orientation: int | None = None
    inverted: bool | None = None
    energy_window: int | None = None

    def __post_init__(self) -> None:
        """Refuses values that settle nothing."""
        if self.pixel_mm is not None and not PIXEL_MM[0] <= self.pixel_mm <= PIXEL_MM[1]:
            raise RequestError(f"--pixel-mm={self.pixel_mm:g}: pixels of planar scans have 0.1 to 20 mm")
        if self.energy_window is not None and self.energy_window < 1:
            raise RequestError(f"--energy-window={self.energy_window}: windows are numbered from 1")


def from_options(options: argparse.Namespace) -> Stated:
    """The values of the flags of `scan_flags.add_arguments`.

    Raises:
      RequestError: an impossible one.
    """
    return Stated(
        views=parse_view(options.view),
        pixel_mm=options.pixel_mm,
        orientation=None if options.orientation is None else NAMES[options.orientation],
        inverted=options.inverted,
        energy_window=options.energy_window,
    )


def parse_view(text: str | None) -> tuple[View, ...]:
    """`anterior`, or `posterior,anterior` -> views.

    Raises:
      RequestError: another word, or more than two.
    """
    if text is None:
        return ()
    words = [word.strip().lower() for word in text.split(",")]
    if not set(words) <= {View.ANTERIOR.value, View.POSTERIOR.value} or not 1 <= len(words) <= 2:
        raise RequestError(f"--view={text}: must be anterior, posterior, or both with a comma, in the file's order")
    return tuple(View(word) for word in words)
