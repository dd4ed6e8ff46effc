"""The one way into a DICOM file: quiet, within the budget of `budget.py`, and without trust in what it states."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings as python_warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pydicom
from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from data_pipeline.readers import budget
from data_pipeline.scan import ScanError

T = TypeVar("T")
_META_GROUP = 2

MAX_READS = 2_000_000
"""By which pydicom reads a file: an element takes two or three of them, and far more memory than its bytes."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences pydicom, whose complaints quote the header: a patient's name must not reach a log.

    Private and old files break rules that do not matter here; what matters is checked by the readers.
    """
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class _EndlessError(BaseException):
    """A file has more entries than are read; no `Exception`, of which pydicom takes some for the end of the file."""


class _Bytes(io.BytesIO):
    """Content of a file, as long as it is not read without end."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """As of bytes; raises `_EndlessError` after `MAX_READS`, and `OutOfTime`."""
        budget.check_time()
        self.reads += 1
        if self.reads > MAX_READS:
            raise _EndlessError
        return super().read(size)


@contextlib.contextmanager
def _to_an_end(file: _Bytes, path: Path) -> Iterator[None]:
    try:
        yield
    except (Exception, _EndlessError):  # where pydicom expects an item, it turns whatever is raised into an OSError
        if file.reads > MAX_READS:
            raise ScanError(f"{path}: far more header entries than a scan has; export the scan itself") from None
        raise


def read_dicom_file(
    path: Path, *, pixels: bool = True, force: bool = False, only: list[str] | None = None
) -> pydicom.Dataset:
    """A DICOM file's header, and its pixels unless they are not wanted; a Deflated one is unpacked within the budget.

    Args:
      path: the file.
      pixels: whether the pixels are wanted; without them the reading stops there.
      force: whether a file without the mark is read too.
      only: keywords of the elements that are wanted; None for all.

    Raises:
      ScanError: no regular file, it is or unpacks to more than `budget.MAX_FILE_BYTES`, or it has entries without end.
      Exception: damaged files fail in many ways.
    """
    budget.check_regular(path)
    # From memory: a damaged length of 4 GiB would be allocated before a file turns out to be shorter.
    file = _Bytes(path.read_bytes())
    with _to_an_end(file, path):
        if (inflated := _inflated(file, path, force=force)) is not None:
            return inflated
        file.seek(0)
        header = pydicom.dcmread(file, stop_before_pixels=not pixels, force=force, specific_tags=only)
    if not pixels:
        header.buffer = None  # the whole file, which would stay in memory for as long as the header
    return header


def _inflated(file: io.BytesIO, path: Path, *, force: bool) -> pydicom.Dataset | None:
    """Content of a Deflated file; None for any other. pydicom itself would unpack it without limit."""
    preamble = read_preamble(file, force=force)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != _META_GROUP)
    if meta.get("TransferSyntaxUID", None) != DeflatedExplicitVRLittleEndian:
        return None
    content = budget.inflate(file.read(), path)
    unpacked = _Bytes(content)
    with _to_an_end(unpacked, path):
        data = read_dataset(unpacked, False, True)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = pydicom.FileDataset(io.BytesIO(), data, preamble, pydicom.dataset.FileMetaDataset(meta), False, True)
    header.set_original_encoding(False, True, data._character_set)
    return header


class EntryError(Exception):
    """Keyword of a header entry and the type of its failure: never the value, which may be about the patient."""


def entry(header: pydicom.Dataset, keyword: str, convert: Callable[[Any], T], absent: T) -> T:
    """An entry's value as a type of ours; `absent` where it is missing or empty.

    Raises:
      EntryError: it cannot be read.
    """
    try:
        value = header.get(keyword, None)
        return absent if value is None or value == "" else convert(value)
    except Exception as error:  # pydicom converts late, and fails in many ways
        raise EntryError(f"{keyword}, {type(error).__name__}") from None


def numbers(value: Any) -> list[float]:
    """One number or several -> a list."""
    return [float(part) for part in ([value] if isinstance(value, int | float | str) else value)]


def texts(value: Any) -> list[str]:
    """One text or several -> a list."""
    return [value] if isinstance(value, str) else [str(part) for part in value]


def sequence(header: pydicom.Dataset, keyword: str) -> list[pydicom.Dataset]:
    """Items of a sequence; none where it is missing."""
    return list(header.get(keyword, None) or [])
