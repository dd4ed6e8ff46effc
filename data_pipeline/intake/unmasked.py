"""Scans without a lesion mask, and what speaks against declaring them free of lesions.

A mask that was refused, a box or a label of the whole image says that somebody saw something there, and a scan with
lesions taken for a healthy one spoils training and scores without a trace.
"""

from __future__ import annotations

import dataclasses

from data_pipeline.intake.sorting import ScanFile

UNMASKED = (
    "a scan without a lesion mask: it is left out of training and scores; add a mask (empty if there is no lesion), or "
    "say --scans-without-mask=no-lesion"
)
_REFUSED = (
    "an annotation of this scan cannot be used (see its own line): the scan is left out of training and scores; mend "
    "the annotation, or remove it"
)
_MARKED = (
    "something marks lesions (boxes, a reader's mask or the image's label), but there is no lesion mask: the scan is "
    "left out of training and scores; add a mask"
)
_STRAY = (
    "{stray} was not used (see its own line) and may mark lesions of this scan: it is left out of training and scores; "
    "mend, rename or remove that file"
)
# Image labels of the public layouts that say that there are lesions.
_ILL = {"abnormal", "metastasis"}


@dataclasses.dataclass
class Origin:
    """Where an image came from.

    Attributes:
      copies: files that hold it; the first is the one that was kept.
      shape: rows and columns.
      marked: whether boxes, masks other than `benign`, or the image's label say that there are lesions.
      refused: whether an annotation of it could not be used.
    """

    copies: list[ScanFile]
    shape: tuple[int, ...]
    marked: bool = False
    refused: bool = False

    def add(self, label: str = "", *, marked: bool, refused: bool) -> None:
        """Takes note of what a copy's annotations or label say of lesions, and whether one of them was refused."""
        self.refused |= refused
        self.marked |= marked or label in _ILL

    def objection(self, *, stray: str) -> str:
        """Why the image cannot be declared free of lesions, with what to do; empty if it can.

        Args:
          stray: a file that looks like an annotation and was not used, or empty.
        """
        if self.refused or any(file.refused for file in self.copies):
            return _REFUSED
        if self.marked:
            return _MARKED
        return _STRAY.format(stray=stray) if stray else ""
