"""Whatever a decoder does with a damaged file becomes one line; its own lines, which quote the file, stay unseen."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from data_pipeline.scan import ScanError

_STDERR = 2
T = TypeVar("T")


def read_or_refuse(path: Path, read: Callable[[Path], T]) -> T:
    """`read(path)`; any failure that is no `ScanError` yet becomes one.

    Decoders fail on damaged bytes in ways that nobody lists (NotImplementedError, TypeError, tokenize.TokenError...),
    and one file must never end the reading of the others.

    Raises:
      ScanError: by `read`, or "damaged" with the type of the failure, whose text may quote the file.
    """
    try:
        with _unseen_lines():
            return read(path)
    except ScanError:
        raise
    except Exception as error:
        raise ScanError(f"{path}: damaged ({type(error).__name__}); export it again") from None


@contextlib.contextmanager
def _unseen_lines() -> Iterator[None]:
    """Silences nibabel's logger, and libtiff and its like, which write to the process's stderr itself."""
    logger = logging.getLogger("nibabel.global")
    before, logger.disabled = logger.disabled, True
    try:
        with _no_stderr():
            yield
    finally:
        logger.disabled = before


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    try:
        kept = os.dup(_STDERR)
    except OSError:  # a service without one
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, _STDERR)
        os.close(nowhere)
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)
