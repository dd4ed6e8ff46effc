"""Many lines of one reason told in a few."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

MOST, SHOWN = 10, 3
"""Of more than `MOST` lines that differ in names and numbers only, `SHOWN` are kept."""

_OWN = re.compile(r"'[^']*'|\d+")


def grouped(lines: Sequence[str]) -> list[str]:
    """The lines in their order; where many give one reason, the first few and how many more there are."""
    reasons = [_OWN.sub("...", getattr(line, "reason", line)) for line in lines]
    total, seen = Counter(reasons), Counter[str]()
    kept = []
    for line, reason in zip(lines, reasons, strict=True):
        seen[reason] += 1
        if total[reason] <= MOST or seen[reason] <= SHOWN:
            kept.append(line)
        elif seen[reason] == SHOWN + 1:
            kept.append(f"{total[reason] - SHOWN} more files: {reason}")
    return kept
