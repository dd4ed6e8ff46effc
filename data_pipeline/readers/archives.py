"""A zip -> the files in it, unpacked into a folder: what is unsafe or damaged is one line, the rest is read."""

from __future__ import annotations

import contextlib
import errno
import io
import shutil
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from data_pipeline.errors import RequestError
from data_pipeline.readers.budget import MAX_FILE_BYTES, OutOfTime, seconds
from data_pipeline.readers.entries import MAX_FILES, Problem, is_litter
from data_pipeline.text import printable

MAX_ARCHIVE_BYTES = 64 << 30
MAX_RATIO, RATIO_FROM_BYTES = 100.0, 512 << 20
"""An archive that unpacks to more than `RATIO_FROM_BYTES` and `MAX_RATIO` times its size is a bomb, not scans."""

MEMBER_RATIO_FROM_BYTES = 32 << 20
"""The same of one member: larger masks and scans than this do not come at a hundredth of their size."""

_CHUNK = 1 << 20
_DIRECTORY_ENTRY, _ENTRY_BYTES = b"PK\x01\x02", 46
_UTF8_FLAG, _VERSION_MAX = 0x800, 63
_DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def unpack(source: Path, folder: Path) -> tuple[Problem, ...]:
    """Unpacks what is safe; returns a line for everything else.

    Raises:
      RequestError: no archive, a bomb, or no room for it.
      OSError: it cannot be read.
    """
    try:
        with _archive(source) as archive:
            members = [member for member in archive.infolist() if not member.filename.endswith("/")]
            _check_archive(source, members, folder)
            problems = [
                Problem(f"{source}: {member.filename}", reason)
                for member in members
                if (reason := _extract(archive, member, folder))
            ]
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, ValueError, NotImplementedError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"{source}: the archive is damaged ({type(error).__name__}); copy it again") from None
    except OSError as error:
        if error.errno not in _DISK_FAULTS:
            raise
        raise RequestError(f"{source}: cannot be unpacked ({error.strerror}); set TMPDIR to a larger disk") from None
    return tuple(problems)


@contextlib.contextmanager
def _archive(source: Path) -> Iterator[zipfile.ZipFile]:
    """Opens a zip; one member's impossible name or version does not make the others unreadable."""
    with contextlib.ExitStack() as stack:
        try:
            archive = zipfile.ZipFile(source)
        except (UnicodeDecodeError, NotImplementedError):
            archive = zipfile.ZipFile(stack.enter_context(_MendedDirectory(source)))
        yield stack.enter_context(archive)


class _MendedDirectory(io.FileIO):
    """A zip file in whose directory names that are no UTF-8 are not said to be, and versions are known ones."""

    def __init__(self, source: Path) -> None:
        super().__init__(source)

    def read(self, size: int | None = -1, /) -> bytes:
        """As of the file, the directory mended."""
        data = super().read(-1 if size is None else size) or b""
        return _mended(data) if data.startswith(_DIRECTORY_ENTRY) and len(data) > _ENTRY_BYTES else data


def _mended(directory: bytes) -> bytes:
    entries, at = bytearray(directory), 0
    while entries[at : at + 4] == _DIRECTORY_ENTRY and at + _ENTRY_BYTES <= len(entries):
        name, extra, comment = (
            int.from_bytes(entries[at + field : at + field + 2], "little") for field in (28, 30, 32)
        )
        flags = int.from_bytes(entries[at + 8 : at + 10], "little")
        try:
            entries[at + _ENTRY_BYTES : at + _ENTRY_BYTES + name].decode("utf-8")
        except UnicodeDecodeError:
            entries[at + 8 : at + 10] = (flags & ~_UTF8_FLAG).to_bytes(2, "little")
        entries[at + 6] = min(entries[at + 6], _VERSION_MAX)
        at += _ENTRY_BYTES + name + extra + comment
    return bytes(entries)


def _check_archive(source: Path, members: list[zipfile.ZipInfo], folder: Path) -> None:
    size, packed = sum(member.file_size for member in members), max(source.stat().st_size, 1)
    if len(members) > MAX_FILES:
        raise RequestError(f"{source}: {len(members)} files; an archive may hold {MAX_FILES}: split it")
    if size > MAX_ARCHIVE_BYTES or (size > RATIO_FROM_BYTES and size > MAX_RATIO * packed):
        raise RequestError(
            f"{source}: would unpack to {size / 2**30:.1f} GiB, {size / packed:.0f} times its size: refused; "
            "unpack it yourself if you trust it"
        )
    if size > (free := shutil.disk_usage(folder).free):
        raise RequestError(
            f"{source}: needs {size / 2**30:.1f} GiB to unpack, the temporary folder has {free / 2**30:.1f} GiB; "
            "set TMPDIR to a larger disk"
        )


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> str:
    """Writes one member; returns why not, or nothing."""
    name = PurePosixPath(member.filename.replace("\\", "/"))
    if any(is_litter(part) for part in name.parts if part != ".."):
        return ""
    if reason := _objection(member, name):
        return reason
    target = folder.joinpath(*(printable(part).replace("\\", "_") for part in name.parts))
    written = 0
    try:
        if target.exists():
            return "occurs twice in the archive; the first is used"
        target.parent.mkdir(parents=True, exist_ok=True)
        with seconds(), archive.open(member) as packed, target.open("wb") as file:
            written = _copy(packed, file, member.file_size)
    except OutOfTime:
        target.unlink(missing_ok=True)
        return "takes too long to unpack; skipped"
    except Exception as error:  # every method of packing has its own faults
        if isinstance(error, OSError) and error.errno in _DISK_FAULTS:
            raise
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            return "its name is too long for this disk; rename it"
        with contextlib.suppress(OSError):  # below a member that is a file, there is nothing to remove
            target.unlink()
        if isinstance(error, UnicodeDecodeError):
            return "its name is not what the archive says that it is; rename it and pack it again"
        return f"cannot be unpacked ({type(error).__name__}); pack it again"
    if written > member.file_size:
        target.unlink()
        return "larger than the archive says; skipped"
    return ""


def _objection(member: zipfile.ZipInfo, name: PurePosixPath) -> str:
    """Why a member is not unpacked; nothing if it may be."""
    if not name.parts:
        return "has no name; pack it again"
    if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
        return "a path out of the archive; skipped"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "a symbolic link in an archive is not followed; pack the file itself"
    if member.flag_bits & 1:
        return "encrypted; unpack it with its password and name the folder"
    size, packed = member.file_size, max(member.compress_size, 1)
    if size > MAX_FILE_BYTES:
        return f"{size / 2**20:.0f} MiB; no planar scan is that large; skipped"
    if size > MEMBER_RATIO_FROM_BYTES and size > MAX_RATIO * packed:
        return f"would unpack to {size / 2**20:.0f} MiB, {size / packed:.0f} times its size: refused"
    return ""


def _copy(packed: IO[bytes], file: IO[bytes], promised: int) -> int:
    """Bytes written; it stops after the promised size, which may be a lie."""
    written = 0
    while written <= promised and (chunk := packed.read(_CHUNK)):
        written += file.write(chunk)
    return written
