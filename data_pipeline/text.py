"""Text from outside (names of files, members of archives, headers) made fit for terminals, tables and file names.

Also spans of time in words, and many lines of one reason in a few.
"""

from __future__ import annotations

import io
import re
import sys
from collections import Counter
from collections.abc import Sequence

_LINE_MAX, _LINE_END = 1500, 300
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_MOST, _SHOWN = 10, 3
"""Of more than `_MOST` lines that differ in names and numbers only, `_SHOWN` are kept."""
_OWN = re.compile(r"'[^']*'|\d+")


def printable(text: str) -> str:
    r"""Text as one line that a terminal only shows: escape codes, newlines and undecodable bytes become `\x1b`, `\n`...

    Letters of every language, spaces and `\` stay as they are.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode() for letter in text
    )


def as_line(text: str) -> str:
    """As `printable`, the middle left out where a message quotes a value as long as a page."""
    shown = printable(text)
    return shown if len(shown) <= _LINE_MAX else f"{shown[: _LINE_MAX - _LINE_END]} ... {shown[-_LINE_END:]}"


def show_undecodable_names() -> None:
    r"""Lets standard output and error show names that are no UTF-8, as `\udcff`, where they would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's is none
            stream.reconfigure(errors="backslashreplace")


def as_file_name(text: str) -> str:
    """As `printable`, with `_` in place of everything that no file name should hold."""
    return "".join(letter if letter.isprintable() and letter not in '/\\:*?"<>|' else "_" for letter in text)


def last_bytes(text: str, size: int) -> str:
    """The longest end of `text` of at most `size` bytes in UTF-8: file systems count bytes, not letters."""
    return text.encode("utf-8", "replace")[-size:].decode("utf-8", "ignore")


def table_cell(text: str) -> str:
    """A cell that spreadsheets take for text: `'` goes before what they would run as a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def duration(seconds: float) -> str:
    """A span of time, roughly.

    Example:
      >>> duration(59), duration(150), duration(9000)
      ('less than a minute', 'about 2 min', 'about 2.5 h')
    """
    if seconds > 3600:
        return f"about {seconds / 3600:.1f} h"
    return f"about {seconds / 60:.0f} min" if seconds > 60 else "less than a minute"


def grouped(lines: Sequence[str]) -> list[str]:
    """The lines in their order; where many give one reason, the first few and how many more there are."""
    reasons = [_OWN.sub("...", getattr(line, "reason", line)) for line in lines]
    total, seen = Counter(reasons), Counter[str]()
    kept = []
    for line, reason in zip(lines, reasons, strict=True):
        seen[reason] += 1
        if total[reason] <= _MOST or seen[reason] <= _SHOWN:
            kept.append(line)
        elif seen[reason] == _SHOWN + 1:
            kept.append(f"{total[reason] - _SHOWN} more files: {reason}")
    return kept
