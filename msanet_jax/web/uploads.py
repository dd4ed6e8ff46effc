"""Files on their way from a browser to the disk: names made safe, sizes held while reading."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path

from data_pipeline.errors import RequestError
from data_pipeline.text import as_file_name, last_bytes, printable

FILE_BYTES_MAX = 2 << 30
FILES_MAX = 20_000
_PART_BYTES_MAX, _DEPTH_MAX, _SHOWN_MAX = 120, 12, 200
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclasses.dataclass
class Upload:
    """A file that a browser announced.

    Attributes:
      name: as the user knows it, fit to be shown.
      path: relative place within the folder of its drop.
      done: whether all of it is there.
    """

    name: str
    path: Path
    done: bool = False


def announced(name: str, size: int, taken: set[str], *, limit: int = FILE_BYTES_MAX) -> Upload:
    """A place for a file that no other file of the drop has.

    Args:
      name: path within what was dropped, as the browser says it; it may say anything.
      size: in bytes, as the browser says it.
      taken: places in use, lower case; the new one is added.
      limit: bytes.

    Raises:
      RequestError: too large or empty.
    """
    shown = printable(name)[-_SHOWN_MAX:] or "a file without a name"
    if size > limit:
        raise RequestError(f"{shown}: is larger than {limit / 2**30:.3g} GiB; no bone scan is, leave it out")
    if size == 0:
        raise RequestError(f"{shown}: is empty; copy it again")
    parts = [_part(part) for part in re.split(r"[/\\]", name) if part.strip(" .")] or ["unnamed"]
    path = Path(*parts[-_DEPTH_MAX:])
    number = 1
    while str(path).lower() in taken:
        number += 1
        path = path.with_name(f"{number}-{parts[-1]}")
    taken.add(str(path).lower())
    return Upload(shown, path)


def _part(text: str) -> str:
    """A folder's or file's name without what systems stumble over; never hidden, `.` or `..`."""
    safe = last_bytes(as_file_name(unicodedata.normalize("NFC", text)), _PART_BYTES_MAX).strip(" .") or "_"
    return f"_{safe}" if _RESERVED.fullmatch(safe) else safe


async def write_stream(chunks: AsyncIterator[bytes], path: Path, *, name: str, limit: int = FILE_BYTES_MAX) -> None:
    """Writes what arrives; a file that is too long, or is cut short, leaves nothing.

    Args:
      chunks: the body of a request.
      path: where to; its folder is made.
      name: for messages.
      limit: bytes, whatever size was announced.

    Raises:
      RequestError: too long, or the disk is full.
    """
    written, whole = 0, False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            async for chunk in chunks:
                written += len(chunk)
                if written > limit:
                    raise RequestError(f"{name}: is larger than {limit / 2**30:.3g} GiB; no bone scan is, leave it out")
                file.write(chunk)
        whole = True
    except OSError as error:
        raise RequestError(f"{name}: cannot be kept ({error.strerror}); make room on the disk") from None
    finally:
        if not whole:
            path.unlink(missing_ok=True)
