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
_RAW, _GZIP = -zlib.MAX_WBITS, zlib.MAX_WBITS | 16


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
    kind = _GZIP if gzip else _RAW
    unpacker, parts, total = zlib.decompressobj(kind), list[bytes](), 0
    # Fed in pieces, since zlib copies what is left behind every member.
    for start in range(0, len(packed), _FEED):
        chunk = packed[start : start + _FEED]
        while chunk:
            if unpacker.eof:
                chunk = chunk.lstrip(b"\0") if gzip else b""  # what follows raw Deflate is padding
                unpacker = zlib.decompressobj(kind) if chunk else unpacker
            else:
                parts.append(unpacker.decompress(chunk, _CHUNK))
                total += len(parts[-1])
                chunk = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            if total > MAX_FILE_BYTES:
                raise ScanError(
                    f"{path}: unpacks to more than {MAX_FILE_BYTES >> 20} MiB; no planar scan is that large: refused"
                )
    while not unpacker.eof:
        if not (part := unpacker.decompress(b"", _CHUNK)):
            raise ScanError(f"{path}: ends too early; copy it again")
        parts.append(part)
    return b"".join(parts)


class OutOfTime(BaseException):
    """Reading took longer than allowed; no `Exception`, so that no decoder takes it for damage."""


@contextlib.contextmanager
def seconds(limit: float = MAX_SECONDS) -> Iterator[None]:
    """Raises `OutOfTime` inside the context after `limit` seconds.

    Only the main thread of a POSIX process can be interrupted; elsewhere, and where an alarm is set already, nothing
    is limited. A single call into compiled code is interrupted when it returns; sizes bound those.
    """
    usable = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if not usable or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, over)
    begin = time.monotonic()
    # A second alarm follows, since the first may be caught by a decoder's own handling of errors.
    signal.setitimer(signal.ITIMER_REAL, limit, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    if time.monotonic() - begin > limit:
        raise OutOfTime
