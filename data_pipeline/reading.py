"""Reads files back as typed values: what a file holds is checked against the type of its record.

Every damage becomes one line: which file, which key, what is wrong, what to do.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np

from data_pipeline.errors import RequestError

READ_BYTES_MAX = 1 << 30
"""Larger than any record of this project."""
ARRAY_BYTES_MAX = 2 << 30
"""Larger than the arrays of any file of this project, unpacked: 1,000 cases of whole bodies take 1 GiB."""
_RATIO_FROM_BYTES, _MAX_RATIO = 64 << 20, 100.0
"""Cases take three times their packed size, though masks alone may take 1,000 times."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Finite = Annotated[float, msgspec.Meta(ge=-1e100, le=1e100)]
"""A number that can be drawn and added up; no NaN, no infinity."""
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
T = TypeVar("T")


def read_text(path: Path, *, remedy: str, errors: str = "strict") -> str:
    """A text in UTF-8, with or without a byte-order mark.

    Args:
      path: of a regular file.
      remedy: what to do if it cannot be read.
      errors: what becomes of bytes in another encoding, as in `bytes.decode`.

    Raises:
      RequestError: absent, not a regular file, too large, or in another encoding.
    """
    try:
        if not path.is_file():
            raise RequestError(f"{path}: {'is no regular file' if path.exists() else 'is missing'}; {remedy}")
        if path.stat().st_size > READ_BYTES_MAX:
            raise RequestError(f"{path}: is too large to be one of this program's files; {remedy}")
        return path.read_bytes().decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: is not UTF-8 text (byte {error.start}); {remedy}") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror or error}); {remedy}") from None


def read_json(path: Path, kind: type[T], *, remedy: str) -> T:
    """A JSON file as a record of type `kind`; raises as `read_text` and `parse_json`."""
    return parse_json(read_text(path, remedy=remedy), kind, where=str(path), remedy=remedy)


def parse_json(text: str, kind: type[T], *, where: str, remedy: str) -> T:
    """JSON as a record.

    Args:
      text: of the file.
      kind: a type that msgspec knows: a dataclass, `dict[str, float]`, ... Keys that it does not have are ignored.
      where: begins the message.
      remedy: ends it.

    Raises:
      RequestError: damaged, or not of that type; the message names the key.

    Example:
      >>> parse_json('{"a": [1, "x"]}', dict[str, list[int]], where="f.json", remedy="write it again")
      Traceback (most recent call last):
      data_pipeline.errors.RequestError: f.json: [...][1]: expected `int`, got `str`; write it again
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        raise RequestError(f"{where}: {_what(error)}; {remedy}") from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise RequestError(f"{where}: is not valid JSON ({str(error)[:100]}); {remedy}") from None


def as_record(value: Any, kind: Any, *, where: str, remedy: str, texts: bool = False) -> Any:
    """A value made of dictionaries, lists, texts and numbers as `kind`; raises as `parse_json`.

    With `texts` the cells of a table are read: `3` is a number, and an empty cell is None.
    """
    try:
        return msgspec.convert(value, kind, strict=not texts)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RequestError(f"{where}: {_what(error)}; {remedy}") from None


def read_csv(path: Path, kind: type[T], *, remedy: str) -> list[T]:
    """The rows of a table, whose columns have the names of a dataclass's fields; raises as `read_table`.

    A cell that is no value of its field is named by line and column.
    """
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    found = []
    for line, row in read_table(path, names, remedy=remedy):
        where = f"{path}, line {line}"
        cells = {name: row[name] or None for name in names}
        found.append(as_record(cells, kind, where=where, remedy=remedy, texts=True))
    return found


def read_table(path: Path, names: Sequence[str], *, remedy: str) -> list[tuple[int, dict[str, str]]]:
    """(number of the line, cells by heading) of each row of a CSV file; an empty file has none.

    Separators are commas, or semicolons if the heading has more of them, as some spreadsheets write it.

    Args:
      path: of the file.
      names: columns that it must have.
      remedy: what to do if it is damaged.

    Raises:
      RequestError: as `read_text`; no CSV, a column is missing, or a row has more or fewer cells than the heading.
    """
    text = read_text(path, remedy=remedy)
    heading = text.split("\n", 1)[0]
    rows = csv.DictReader(io.StringIO(text), delimiter=";" if heading.count(";") > heading.count(",") else ",")
    found = []
    try:
        missing = [name for name in names if name not in (rows.fieldnames or ())]
        if text and missing:
            raise RequestError(f"{path}: has no column {missing[0]}; {remedy}")
        for row in rows:
            if None in row or None in row.values():
                raise RequestError(f"{path}, line {rows.line_num}: has not as many cells as the heading; {remedy}")
            found.append((rows.line_num, row))
    except csv.Error as error:
        raise RequestError(f"{path}: is no CSV table ({error}); {remedy}") from None
    return found


def is_bomb(members: Sequence[zipfile.ZipInfo]) -> bool:
    """Whether members of a zip are large, and together far better packed than scans and weights can be."""
    unpacked, packed = (sum(getattr(member, size) for member in members) for size in ("file_size", "compress_size"))
    return unpacked > _RATIO_FROM_BYTES and unpacked > _MAX_RATIO * packed


def read_arrays(path: Path, wanted: Callable[[str], bool], *, remedy: str) -> dict[str, np.ndarray]:
    """Arrays of an NPZ file by name, all in memory; others are not unpacked.

    Args:
      path: of the file.
      wanted: whether the array of a name is.
      remedy: what to do if it is damaged.

    Raises:
      RequestError: absent, damaged, the wanted are larger than `ARRAY_BYTES_MAX` when unpacked or a bomb, or one is no
        array of numbers or texts.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if wanted(member.filename.removesuffix(".npy"))]
            if sum(member.file_size for member in members) > ARRAY_BYTES_MAX or is_bomb(members):
                raise RequestError(f"{path}: is too large to be one of this program's files; {remedy}")
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files if wanted(name)}
    except FileNotFoundError:
        raise RequestError(f"{path}: is missing; {remedy}") from None
    except RequestError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy have many
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RequestError(f"{path}: not readable ({reason}); {remedy}") from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # NumPy gives the bytes of other members
            raise RequestError(f"{path}: its member {name} is no array; {remedy}")
    return arrays


def _what(error: Exception) -> str:
    """`Expected int, got str - at $.a[0]` -> `a[0]: expected int, got str`."""
    what, _, place = str(error).partition(" - at `$")
    what = what.replace("Object missing required field", "lacks")
    place = place.rstrip("`").lstrip(".")
    return f"{place}: {what[:1].lower()}{what[1:]}" if place else f"{what[:1].lower()}{what[1:]}"
