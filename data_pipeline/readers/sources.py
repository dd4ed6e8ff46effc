"""A file, folder, zip or DICOMDIR -> the files in it that a reader may open; what is unsafe is passed over and told."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from data_pipeline.errors import RequestError

MAX_FILES = 100_000
MAX_FILE_BYTES = 1 << 30
MAX_ARCHIVE_BYTES = 64 << 30
MAX_RATIO, RATIO_FROM_BYTES = 100.0, 512 << 20
"""An archive that unpacks to more than `RATIO_FROM_BYTES` and `MAX_RATIO` times its size is a bomb, not scans."""

_ZIP_MARK = b"PK\x03\x04"
_CHUNK = 1 << 20
# What operating systems leave in folders; never scans, never worth a message.
_LITTER = {"thumbs.db", "desktop.ini", "__macosx", "dicomdir"}


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """A file of a source.

    Attributes:
      name: path within the source with `/`, the same on every system; for messages and for pairing files.
      path: where it can be opened while the source is open.
    """

    name: str
    path: Path


class Problem(str):
    """A line about what was passed over: the name, and the reason with what to do.

    Attributes:
      reason: the line without the name, for records that may name nobody.
    """

    __slots__ = ("reason",)
    reason: str

    def __new__(cls, name: object, reason: str) -> Problem:
        """The line `NAME: REASON`."""
        line = super().__new__(cls, f"{name}: {reason}")
        line.reason = reason
        return line


@dataclasses.dataclass(frozen=True)
class Source:
    """What `open_source` found.

    Attributes:
      files: sorted by name, numbers by value.
      problems: one line for everything that was passed over, with the reason and what to do.
    """

    files: tuple[SourceFile, ...]
    problems: tuple[Problem, ...] = ()


@contextlib.contextmanager
def open_source(source: str | Path) -> Iterator[Source]:
    """Lists the files of a source and makes them readable until the context ends.

    - A file is a source of one file.
    - A folder is walked with all folders in it. Hidden files, DICOMDIR itself and what operating systems leave are
      skipped. A symbolic link is followed only to a file inside the folder.
    - A zip is unpacked into a temporary folder, which goes when the context ends.
    - A file named DICOMDIR gives the files that it references.

    Args:
      source: path.

    Raises:
      RequestError: there is no such source, it cannot be read, or it is an archive that nobody should unpack.
    """
    source = Path(source)
    try:
        if source.is_dir():
            yield _walk(source)
        elif not source.exists():
            raise RequestError(f"{source}: no such file or folder")
        elif _is_zip(source):
            with tempfile.TemporaryDirectory(prefix="msanet-") as folder:
                problems = _unpack(source, Path(folder))
                inside = _walk(Path(folder))
                yield Source(inside.files, (*problems, *inside.problems))
        elif source.name.upper() == "DICOMDIR":
            yield _dicomdir(source)
        else:
            yield Source((SourceFile(source.name, source),))
    except PermissionError as error:
        raise RequestError(f"{error.filename or source}: cannot be read ({error.strerror})") from None


def _is_zip(source: Path) -> bool:
    """By content: other programs give a zip any suffix. A DICOM preamble may hold the mark too."""
    with source.open("rb") as file:
        head = file.read(132)
    return head.startswith(_ZIP_MARK) and head[128:] != b"DICM"


def _walk(folder: Path) -> Source:
    root = folder.resolve()
    files: list[SourceFile] = []
    problems: list[Problem] = []

    def cannot_list(error: OSError) -> None:
        problems.append(Problem(error.filename, f"cannot be read ({error.strerror}); passed over"))

    for here, folders, names in os.walk(folder, onerror=cannot_list):
        place = Path(here)
        for name in [name for name in folders if (place / name).is_symlink()]:
            problems.append(Problem(place / name, "a symbolic link to a folder is not followed; copy the folder"))
        folders[:] = sorted(name for name in folders if not _is_litter(name) and not (place / name).is_symlink())
        for name in names:
            path = place / name
            if _is_litter(name):
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                problems.append(Problem(path, "a symbolic link out of the folder is not followed; copy the file"))
            elif not path.exists():
                problems.append(Problem(path, "a symbolic link to nothing; remove it"))
            elif not path.is_file():
                problems.append(Problem(path, "no regular file; remove it"))
            else:
                files.append(SourceFile(path.relative_to(folder).as_posix(), path))
            if len(files) > MAX_FILES:
                raise RequestError(f"{folder}: more than {MAX_FILES} files; name a smaller folder")
    return Source(tuple(sorted(files, key=lambda file: natural_order(file.name))), tuple(problems))


def natural_order(name: str) -> tuple[tuple[bool, int, str], ...]:
    """Sort key under which `scan2` comes before `scan10`."""
    parts: list[tuple[bool, int, str]] = []
    digits = ""
    for letter in f"{name}\0":
        if letter.isascii() and letter.isdigit():
            digits += letter
            continue
        if digits:
            parts.append((False, int(digits), digits))
            digits = ""
        parts.append((True, 0, letter))
    return tuple(parts)


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER


def _unpack(source: Path, folder: Path) -> tuple[Problem, ...]:
    """Unpacks what is safe; returns a line for everything else."""
    try:
        with zipfile.ZipFile(source) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check_archive(source, members, folder)
            problems = [
                Problem(f"{source}: {member.filename}", reason)
                for member in members
                if (reason := _extract(archive, member, folder))
            ]
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError) as error:
        raise RequestError(f"{source}: the archive is damaged ({type(error).__name__}); copy it again") from None
    except OSError as error:
        if isinstance(error, PermissionError):
            raise
        raise RequestError(f"{source}: cannot be unpacked ({error.strerror}); set TMPDIR to a larger disk") from None
    return tuple(problems)


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
    if any(_is_litter(part) for part in name.parts if part != ".."):
        return ""
    if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
        return "a path out of the archive; passed over"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "a symbolic link in an archive is not followed; pack the file itself"
    if member.flag_bits & 1:
        return "encrypted; unpack it with its password and name the folder"
    if member.file_size > MAX_FILE_BYTES:
        return f"{member.file_size / 2**30:.1f} GiB; no planar scan is that large; passed over"
    target = folder.joinpath(*name.parts)
    if target.exists():
        return "occurs twice in the archive; the first is used"
    written = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as packed, target.open("wb") as file:
            # The size that the header promises may be a lie.
            while written <= member.file_size and (chunk := packed.read(_CHUNK)):
                written += file.write(chunk)
    except (
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        EOFError,
        FileExistsError,
        NotADirectoryError,
    ) as error:
        target.unlink(missing_ok=True)
        return f"cannot be unpacked ({type(error).__name__}); pack it again"
    if written > member.file_size:
        target.unlink()
        return "larger than the archive says; passed over"
    return ""


def _dicomdir(source: Path) -> Source:
    """The files that a DICOMDIR references and that are there."""
    import pydicom

    from data_pipeline.readers.dicom import quiet

    root = source.parent.resolve()
    try:
        with quiet():
            records = pydicom.dcmread(source).get("DirectoryRecordSequence", None) or []
            listed = [record.get("ReferencedFileID", None) for record in records]
    except Exception:  # damaged files fail in many ways
        raise RequestError(f"{source}: is no readable DICOMDIR; name the folder instead") from None
    files: dict[str, SourceFile] = {}
    problems: list[Problem] = []
    for entry in listed:
        if not entry:
            continue
        parts = [entry] if isinstance(entry, str) else [str(part) for part in entry]
        name = "/".join(parts)
        path = source.parent.joinpath(*parts)
        if not path.resolve().is_relative_to(root):
            problems.append(Problem(f"{source}: {name}", "lies out of the disc's folder; passed over"))
        elif not path.is_file():
            problems.append(Problem(f"{source}: {name}", "is listed, but not there; copy the whole disc"))
        else:
            files[name] = SourceFile(name, path)
    return Source(tuple(sorted(files.values(), key=lambda file: natural_order(file.name))), tuple(problems))
