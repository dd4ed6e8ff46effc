"""Whatever a decoder does with a damaged file becomes one line; its own lines, which quote the file, stay unseen."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from data_pipeline.readers import budget
from data_pipeline.scan import ScanError

LOG = logging.getLogger("msanet")
"""Tracebacks of what became one line, at level DEBUG. They may quote a file: nobody sees them unless asked for."""

LOG.addHandler(logging.NullHandler())
_STDOUT, _STDERR = 1, 2
T = TypeVar("T")


def read_or_refuse(path: Path, read: Callable[[Path], T]) -> T:
    """`read(path)` within `budget.seconds`; any failure that is no `ScanError` yet becomes one.

    Decoders fail on damaged bytes in ways that nobody lists (NotImplementedError, TypeError, tokenize.TokenError...),
    and one file must never end the reading of the others. Decoders also write to the output themselves: what the
    process writes there while a file is read is lost, that of other threads included.

    Raises:
      ScanError: by `read`; "takes too long"; or "damaged" with the type of the failure, whose text may quote the file.
    """
    try:
        with _unseen_lines(), budget.seconds(budget.MAX_SECONDS):
            return read(path)
    except ScanError:
        raise
    except budget.OutOfTime:
        limit = budget.MAX_SECONDS
        raise ScanError(f"{path}: reading it took more than {limit:g} s; damaged or a trap: export it again") from None
    except OSError as error:
        LOG.debug("%s", path, exc_info=True)
        reason = error.strerror or type(error).__name__
        raise ScanError(f"{path}: cannot be read ({reason}); copy it again") from None
    except Exception as error:
        LOG.debug("%s", path, exc_info=True)
        raise ScanError(f"{path}: damaged ({type(error).__name__}); export it again") from None


@contextlib.contextmanager
def _unseen_lines() -> Iterator[None]:
    """Silences nibabel's logger, and libtiff, OpenJPEG and their like, which write to the output themselves."""
    logger = logging.getLogger("nibabel.global")
    before, logger.disabled = logger.disabled, True
    try:
        with _no_output():
            yield
    finally:
        logger.disabled = before


class _Silence:
    """How many files are being read, in all threads, and where their output went before the first of them."""

    def __init__(self) -> None:
        self.lock, self.readers = threading.Lock(), 0
        self.kept: dict[int, int] = {}


_SILENCE = _Silence()


@contextlib.contextmanager
def _no_output() -> Iterator[None]:
    try:
        with _SILENCE.lock:
            _SILENCE.readers += 1
            if _SILENCE.readers == 1:
                _lead_nowhere()
        yield
    finally:
        with _SILENCE.lock:
            _SILENCE.readers -= 1
            while not _SILENCE.readers and _SILENCE.kept:
                number, kept = _SILENCE.kept.popitem()
                os.dup2(kept, number)
                os.close(kept)


def _lead_nowhere() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (_STDOUT, _STDERR):
        with contextlib.suppress(OSError):  # a service without one
            _SILENCE.kept[number] = os.dup(number)
            os.dup2(nowhere, number)
    os.close(nowhere)
