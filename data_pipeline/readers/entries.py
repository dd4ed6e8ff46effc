"""What an entry of a source is besides a scan: litter, or a line about what was skipped."""

from __future__ import annotations

from data_pipeline.text import as_line

MAX_FILES = 100_000
"""Of one source."""

# What operating systems and storage boxes leave in folders; never scans, never worth a message.
_LITTER = {"thumbs.db", "desktop.ini", "__macosx", "dicomdir", "@eadir", "$recycle.bin", "system volume information"}


class Problem(str):
    """A line about what was skipped: the name, and the reason with what to do.

    Attributes:
      reason: the line without the name, for records that may name nobody.
    """

    __slots__ = ("reason",)
    reason: str

    def __new__(cls, name: object, reason: str) -> Problem:
        """The line `NAME: REASON`."""
        line = super().__new__(cls, as_line(f"{name}: {reason}"))
        line.reason = reason
        return line


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden or an operating system's own."""
    return name.startswith(".") or name.lower() in _LITTER
