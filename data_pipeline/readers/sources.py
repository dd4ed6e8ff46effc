"""A file, folder, zip or DICOMDIR -> the files in it that a reader may open; what is unsafe is skipped and told."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.errors import RequestError
from data_pipeline.files import private_folder, resolved
from data_pipeline.readers.entries import MAX_FILES, Problem, is_litter

_ZIP_MARK = b"PK\x03\x04"


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """A file of a source.

    Attributes:
      name: path within the source with `/`, the same on every system; for messages and for pairing files.
      path: where it can be opened while the source is open.
    """

    name: str
    path: Path


@dataclasses.dataclass(frozen=True)
class Source:
    """What `open_source` found.

    Attributes:
      files: sorted by name, numbers by value.
      problems: one line for everything that was skipped, with the reason and what to do.
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
    with contextlib.ExitStack() as stack:
        yield _opened(source, stack)


def _opened(source: Path, stack: contextlib.ExitStack) -> Source:
    try:
        if source.is_dir():
            return _walk(source)
        mode = source.stat().st_mode
        if not stat.S_ISREG(mode):
            raise RequestError(f"{source}: a device, pipe or socket, no file; name a file or folder")
        if is_zip(source):
            from data_pipeline.readers.archives import unpack

            # A folder with a name of its own: the name of a file's folder may say which view it is.
            folder = stack.enter_context(private_folder(prefix="msanet-")) / "scans"
            folder.mkdir()
            problems = unpack(source, folder)
            inside = _walk(folder)
            packed = source.stat().st_mtime_ns
            for file in inside.files:  # so that they are known as the same ones when they are unpacked again
                os.utime(file.path, ns=(packed, packed))
            return Source(inside.files, (*problems, *inside.problems))
        if source.name.upper() == "DICOMDIR":
            return _dicomdir(source)
    except FileNotFoundError:
        raise RequestError(f"{source}: no such file or folder") from None
    except OSError as error:
        raise RequestError(f"{error.filename or source}: cannot be read ({error.strerror or error})") from None
    return Source((SourceFile(source.name, source),))


def is_zip(source: Path) -> bool:
    """By content: other programs give a zip any suffix. A DICOM preamble may hold the mark too."""
    with source.open("rb") as file:
        head = file.read(132)
    return head.startswith(_ZIP_MARK) and head[128:] != b"DICM"


def _walk(folder: Path) -> Source:
    root = resolved(folder)
    files: list[SourceFile] = []
    problems: list[Problem] = []

    def cannot_list(error: OSError) -> None:
        problems.append(Problem(error.filename, f"cannot be read ({error.strerror}); skipped"))

    for here, folders, names in os.walk(folder, onerror=cannot_list):
        place = Path(here)
        for name in [name for name in folders if (place / name).is_symlink()]:
            problems.append(Problem(place / name, "a symbolic link to a folder is not followed; copy the folder"))
        folders[:] = sorted(name for name in folders if not is_litter(name) and not (place / name).is_symlink())
        for name in names:
            path = place / name
            if is_litter(name):
                continue
            if path.is_symlink() and not resolved(path).is_relative_to(root):
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


def _dicomdir(source: Path) -> Source:
    """The files that a DICOMDIR references and that are there."""
    from data_pipeline.readers.damage import read_or_refuse

    try:
        listed = read_or_refuse(source, _referenced)
    except RequestError:
        raise RequestError(f"{source}: is not a readable DICOMDIR; name the folder instead") from None
    root = resolved(source.parent)
    files: dict[str, SourceFile] = {}
    problems: list[Problem] = []
    for parts in listed:
        name = "/".join(parts)
        try:
            path = _on_disc(source.parent, parts)
            inside = path is None or resolved(path).is_relative_to(root)
        except (OSError, ValueError) as error:  # a null byte, a name too long
            problems.append(Problem(f"{source}: {name}", f"is not a name of a file ({type(error).__name__}); skipped"))
            continue
        if not inside:
            problems.append(Problem(f"{source}: {name}", "lies out of the disc's folder; skipped"))
        elif path is None:
            problems.append(Problem(f"{source}: {name}", "is listed, but not there; copy the whole disc"))
        else:
            files[name] = SourceFile(name, path)
    return Source(tuple(sorted(files.values(), key=lambda file: natural_order(file.name))), tuple(problems))


def _referenced(source: Path) -> list[list[str]]:
    """Parts of the path of every file that a DICOMDIR lists."""
    from data_pipeline.readers.formats.dicom_file import quiet, read_dicom_file, sequence, texts

    with quiet():
        records = sequence(read_dicom_file(source), "DirectoryRecordSequence")
        entries = [record.get("ReferencedFileID", None) for record in records]
        return [texts(entry) for entry in entries if entry]


def _on_disc(folder: Path, parts: list[str]) -> Path | None:
    """A listed file, also where copying changed the case of its name or added `.dcm`; None if it is not there.

    Raises:
      OSError: it cannot be looked for.
      ValueError: it is no name.
    """
    place = folder.joinpath(*parts)
    if place.is_file() or ".." in parts:
        return place
    place = folder
    for number, part in enumerate(parts):
        wanted = {part.lower()} | ({f"{part.lower()}.dcm"} if number == len(parts) - 1 else set())
        found = [entry for entry in sorted(place.iterdir()) if entry.name.lower() in wanted] if place.is_dir() else []
        if not found:
            return None
        place = found[0]
    return place if place.is_file() else None
