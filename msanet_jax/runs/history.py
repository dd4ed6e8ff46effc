"""history.jsonl: what training measured, one JSON object a line, each with a checksum of itself."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from data_pipeline.errors import RequestError
from data_pipeline.files import WriteError, write_text
from data_pipeline.reading import Count, Finite, as_record, parse_json, read_text

LOG = logging.getLogger(__name__)
_NUMBER = Annotated[int, Meta(ge=-(2**53), le=2**53)] | Finite | None
_REMEDY = "move the file away: a run goes on without its past curves"
_CHECKSUM = "crc32"


@dataclasses.dataclass(frozen=True)
class HistoryRow:
    """A line of history.jsonl.

    Attributes:
      step, epoch: after which it was measured.
      kind: losses of training, or scores on the validation patients.
      values: by name; None where undefined.
    """

    step: Count
    epoch: Finite
    kind: Literal["train", "validation"]
    values: Mapping[str, float | None] = dataclasses.field(default_factory=dict)


class History:
    """history.jsonl while training writes it; rows behind a resumed step are dropped, and so are damaged ones."""

    def __init__(self, path: Path, *, resumed_step: int) -> None:
        self._path = path
        rows = read_history(path, lenient=True) if path.exists() else []
        write_text(path, "".join(_line(row) for row in rows if row.step <= resumed_step))

    def append(self, row: HistoryRow) -> None:
        """Adds a line; NaN becomes null.

        Raises:
          WriteError: the disk is full, or the file cannot be written.
        """
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(row))
        except OSError as error:
            raise WriteError(error.errno, error.strerror or str(error), str(self._path)) from error


def read_history(path: Path, *, lenient: bool = False) -> list[HistoryRow]:
    """Rows of history.jsonl; a last line cut by a kill is left out with a warning.

    Every line has to be as it was written: its last entry is the CRC-32 of the line without that entry. Files of before
    have none.

    Args:
      path: of the file.
      lenient: leaves out every damaged line, with a warning.

    Raises:
      RequestError: the file cannot be read, or a line is damaged.
    """
    text = read_text(path, remedy=_REMEDY, errors="surrogateescape")  # which no JSON has: the line is named
    *lines, last = text.split("\n")
    checked = f'"{_CHECKSUM}": ' in text
    rows = []
    for number, line in enumerate([*lines, *([last] if last else [])], 1):
        try:
            rows.append(_row(line, where=f"{path}, line {number}", checked=checked))
        except RequestError as error:
            if not lenient and number <= len(lines):
                raise
            LOG.warning("%s; the line was left out", str(error).removesuffix(f"; {_REMEDY}"))
    return rows


def _row(line: str, *, where: str, checked: bool) -> HistoryRow:
    content = parse_json(line, dict[str, Any], where=where, remedy=_REMEDY)
    row: HistoryRow = as_record(content, HistoryRow, where=where, remedy=_REMEDY)
    values = {name: value for name, value in content.items() if name not in ("step", "epoch", "kind", _CHECKSUM)}
    for name, value in values.items():
        as_record(value, _NUMBER, where=f"{where}: {name}", remedy=_REMEDY)
    row = dataclasses.replace(row, values=values)
    if checked and line.rstrip("\r") != _line(row).rstrip("\n"):
        raise RequestError(f"{where}: is not as it was written, its {_CHECKSUM} says; {_REMEDY}")
    return row


def _line(row: HistoryRow) -> str:
    finite = {name: value if value is None or math.isfinite(value) else None for name, value in row.values.items()}
    text = json.dumps({"step": row.step, "epoch": row.epoch, "kind": row.kind, **finite})
    return f'{text[:-1]}, "{_CHECKSUM}": {zlib.crc32(text.encode())}}}\n'
