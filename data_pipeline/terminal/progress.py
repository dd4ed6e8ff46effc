"""Progress of long work: a bar with the time left on a terminal, a line a minute in a log file."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

LOG_SECONDS = 60.0
_BAR = "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}, {remaining} left{postfix}"
_LINE = "{desc} {percentage:.0f}%, {n_fmt} of {total_fmt} {unit}s, {remaining} left{postfix}"


class _Lines:
    """Turns a bar that returns to the start of its line into lines of their own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._last = stream, ""
        self.encoding = stream.encoding

    def write(self, text: str) -> None:
        """One line, unless it is empty or says what the one before said, as the last of a bar does when it closes."""
        line = text.replace("\r", "").strip()
        if line and line != self._last:
            self._stream.write(line + "\n")
            self._last = line

    def flush(self) -> None:
        """At once, so that a log can be followed."""
        self._stream.flush()


def progress(
    items: Iterable[Any] | None = None,
    *,
    title: str,
    unit: str,
    total: int | None = None,
    initial: int = 0,
    quiet: bool = False,
) -> tqdm[Any]:
    """A bar over `items`, or one that is moved by hand with `update`.

    On a terminal it fits the width, 60 columns and fewer too: what stands last is cut off. Elsewhere it is a line a
    minute and one at the end; what takes less than a minute is silent.

    Args:
      items: what is gone through; None for `update`.
      title: what is done.
      unit: of what is counted, in the singular.
      total: how many there are; default the length of `items`.
      initial: how many were done before.
      quiet: shows nothing.

    Example:
      >>> sum(progress([1, 2, 3], title="adding", unit="number", quiet=True))
      6
    """
    terminal = sys.stderr is not None and sys.stderr.isatty()
    return tqdm(
        items,
        total=total,
        initial=initial,
        unit=unit,
        desc=title,
        disable=quiet or sys.stderr is None,
        file=sys.stderr if terminal else _Lines(sys.stderr),
        bar_format=_BAR if terminal else _LINE,
        mininterval=1.0 if terminal else LOG_SECONDS,
        delay=0.0 if terminal else LOG_SECONDS,
        dynamic_ncols=terminal,
        miniters=1,
    )
