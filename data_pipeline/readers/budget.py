"""What one file may cost: bytes once unpacked, and seconds; both are held while reading, not looked at afterwards."""

from __future__ import annotations

import contextlib
import signal
import stat
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from data_pipeline.scan import ScanError

MAX_FILE_BYTES = 256 << 20
"""Of a file, and of what it unpacks to. The largest whole-body study, two views of 2048 x 1024 pixels, has 8 MiB."""


MAX_SECONDS = 60.0
"""Of reading one file."""

_CHUNK, _FEED = 1 << 20, 1 << 14
_RAW, _ZLIB, _GZIP = -zlib.MAX_WBITS, zlib.MAX_WBITS, zlib.MAX_WBITS | 16


def check_regular(path: Path) -> None:
    """Refuses what is no file with an end, and what is too large.

    Raises:
      ScanError: a device, pipe or socket, or more than `MAX_FILE_BYTES`.
      OSError: it cannot be looked at.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ScanError(f"{path}: a device, pipe or socket, no file; name a file")
    if status.st_size > MAX_FILE_BYTES:
        raise ScanError(
            f"{path}: {status.st_size / 2**20:.0f} MiB; no planar scan is that large: export the scan alone"
        )


def inflate(packed: bytes, path: Path, *, gzip: bool = False) -> bytes:
    """Unpacks Deflate, raw or as gzip (all members of it), and stops at `MAX_FILE_BYTES`.

    Raises:
      ScanError: it unpacks to more, or it ends too early.
      zlib.error: damaged.
    """
    parts, total = list[bytes](), 0
    for part in _unpacked(packed, _GZIP if gzip else _RAW):
        if part is None:
            raise ScanError(f"{path}: ends too early; copy it again")
        parts.append(part)
        total += len(part)
        if total > MAX_FILE_BYTES:
            raise ScanError(
                f"{path}: unpacks to more than {MAX_FILE_BYTES >> 20} MiB; no planar scan is that large: refused"
            )
    return b"".join(parts)


def inflated_bytes(packed: bytes, most: int) -> int:
    """How many bytes Deflate with the header of zlib unpacks to; more than `most` are not counted to their end.

    Raises:
      zlib.error: damaged, or it ends too early.
    """
    total = 0
    for part in _unpacked(packed, _ZLIB):
        if part is None:
            raise zlib.error("ends too early")
        total += len(part)
        if total > most:
            break
    return total


def _unpacked(packed: bytes, kind: int) -> Iterator[bytes | None]:
    """What Deflate unpacks to, in parts of at most `_CHUNK`; None where it ends too early."""
    unpacker = zlib.decompressobj(kind)
    # Fed in pieces, since zlib copies what is left behind every member.
    for start in range(0, len(packed), _FEED):
        chunk = packed[start : start + _FEED]
        while chunk:
            check_time()
            if unpacker.eof:
                chunk = chunk.lstrip(b"\0") if kind == _GZIP else b""  # what follows other Deflate is padding
                unpacker = zlib.decompressobj(kind) if chunk else unpacker
            else:
                yield unpacker.decompress(chunk, _CHUNK)
                chunk = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    while not unpacker.eof:
        check_time()
        part = unpacker.decompress(b"", _CHUNK)
        yield part or None
        if not part:
            return


class OutOfTime(BaseException):
    """Reading took longer than allowed; no `Exception`, so that no decoder takes it for damage."""


_OF_THREAD = threading.local()
"""`deadline`: when the reading of this thread must have ended; absent or None without a limit."""


def check_time() -> None:
    """Called at every turn of a loop whose length a file decides; raises `OutOfTime` when the thread's time is over."""
    deadline = getattr(_OF_THREAD, "deadline", None)
    if deadline is not None and time.monotonic() > deadline:
        raise OutOfTime


@contextlib.contextmanager
def seconds(limit: float = MAX_SECONDS) -> Iterator[None]:
    """Raises `OutOfTime` inside the context after `limit` seconds, at the latest when it ends.

    In the main thread of a POSIX process an alarm interrupts whatever Python runs. In other threads, and where an alarm
    is set already, `check_time` does it, which the loops of the readers call. A single call into compiled code is
    interrupted when it returns; sizes bound those.
    """
    outer = getattr(_OF_THREAD, "deadline", None)
    deadline = time.monotonic() + limit
    _OF_THREAD.deadline = deadline if outer is None else min(outer, deadline)
    try:
        with _alarm(limit):
            yield
        check_time()
    finally:
        _OF_THREAD.deadline = outer


@contextlib.contextmanager
def _alarm(limit: float) -> Iterator[None]:
    """Raises `OutOfTime` after `limit` seconds where a signal can do that."""
    usable = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if not usable or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, over)
    # A second alarm follows, since the first may be caught by a decoder's own handling of errors.
    signal.setitimer(signal.ITIMER_REAL, limit, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
