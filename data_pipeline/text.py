"""Text from outside (names of files, members of archives, headers) made fit for terminals, tables and file names.

Also spans of time in words.
"""

from __future__ import annotations

_LINE_MAX, _LINE_END = 1500, 300
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


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
