"""What a reader of pixel masks has to know of the scan that a mask belongs to."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from data_pipeline.readers.orientation import AS_STORED
from data_pipeline.scan import View


@dataclasses.dataclass(frozen=True)
class Target:
    """The scan.

    Attributes:
      view: its side.
      page: number of the mask's page that is for it, from 0.
      pages: views in the scan's file; a mask of as many pages has one for each.
      paged: whether the mask has a page for each view.
      nifti: the scan's file if it is a NIfTI, whose affine says how it lies.
      orientation: how the reader turned what that file holds (`Scan.orientation`).
    """

    view: View = View.UNKNOWN
    page: int = 0
    pages: int = 1
    paged: bool = False
    nifti: Path | None = None
    orientation: int = AS_STORED

    @property
    def pages_wanted(self) -> int:
        """Pages that the mask must have."""
        return self.pages if self.paged else 1
