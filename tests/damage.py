"""Damaged copies of files that a program wrote: cut, in another encoding, without a key, with values of other types."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from data_pipeline.errors import RequestError

WRONG: tuple[Any, ...] = ("x", [], {}, True, 1e300, [[]], "\u0000")
"""Values of other types; 1e300 is the number that is too large for everything."""
NESTED = "[" * 100_000 + "]" * 100_000
Damage = Iterator[tuple[str, bytes]]


def refused(path: Path, damage: Iterable[tuple[str, bytes]], read: Callable[[], Any]) -> int:
    """Writes every damaged file and reads it; returns how many of them were refused.

    Each must be refused in one line that names the file, or read as the whole one.
    """
    whole, count = repr(read()), 0
    for what, content in damage:
        path.write_bytes(content)
        try:
            found = read()
        except RequestError as error:
            count += 1
            assert path.name in str(error) or str(path.parent) in str(error), what
            assert "\n" not in str(error) and len(str(error)) < 500, what
        else:
            assert repr(found) == whole, what
    return count


def damaged_texts(content: bytes) -> Damage:
    """(what was done, file) for cuts, encodings and rubbish, whatever the format is."""
    for place in range(10):
        yield f"cut at {place}/10", content[: len(content) * place // 10]
    text = content.decode()
    for encoding in ("utf-16", "utf-32", "cp037"):
        yield encoding, text.encode(encoding)
    yield "bytes of no encoding", content[: len(content) // 2] + b"\xff\xfe\x80" + content[len(content) // 2 :]
    yield "rubbish", bytes(range(256)) * 8
    yield "nesting", NESTED.encode()
    yield "a picture", b"\x89PNG\r\n\x1a\n" + content[:100]


def damaged_json(content: bytes, *, wrongs: int = len(WRONG)) -> Damage:
    """As `damaged_texts`, and every key deleted or with values of another type; of lists the first entry.

    Args:
      content: of the file.
      wrongs: how many of `WRONG` each key gets, in turn.
    """
    yield from damaged_texts(content)
    turn = itertools.cycle(WRONG)
    for place in _places(json.loads(content)):
        changed = json.loads(content)
        del _parent(changed, place)[place[-1]]
        yield f"{place} deleted", json.dumps(changed).encode()
        for wrong in (*itertools.islice(turn, wrongs), float("nan")):
            changed = json.loads(content)
            parent = _parent(changed, place)
            if type(parent[place[-1]]) is not type(wrong) or wrong != wrong:
                parent[place[-1]] = wrong
                yield f"{place} = {wrong!r}", json.dumps(changed).encode()
    for wrong in (*WRONG, None, 3):
        yield f"all = {wrong!r}", json.dumps(wrong).encode()


def damaged_csv(content: bytes) -> Damage:
    """As `damaged_texts`, and columns and rows lost, cells wrong."""
    yield from damaged_texts(content)
    heading, *rows = csv.reader(io.StringIO(content.decode()))
    for place, name in enumerate(heading):
        lost = [[cell for number, cell in enumerate(row) if number != place] for row in (heading, *rows)]
        yield f"without {name}", _csv(lost)
        for cell in ("x", "1e999", "nan", "-1", "9" * 400, "\u0000"):
            wrong = [*rows[0][:place], cell, *rows[0][place + 1 :]]
            yield f"{name} = {cell[:9]}", _csv([heading, wrong, *rows[1:]])
    yield "without the first row", _csv([heading, *rows[1:]])
    yield "first row twice", _csv([heading, rows[0], *rows])
    yield "a cell too many", _csv([heading, [*rows[0], "more"], *rows[1:]])
    yield "cells too few", _csv([heading, rows[0][:2], *rows[1:]])
    yield "an endless cell", _csv([heading, ["a" * 200_000, *rows[0][1:]], *rows[1:]])


def _csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _places(value: Any) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else list(enumerate(value))[:1]
    for key, entry in items:
        yield (key,)
        if isinstance(entry, dict | list):
            yield from ((key, *rest) for rest in _places(entry))


def _parent(whole: Any, place: tuple[Any, ...]) -> Any:
    for key in place[:-1]:
        whole = whole[key]
    return whole
