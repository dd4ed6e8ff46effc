"""Writes whole files and folders: a reader sees the old one or the new one, and a failure leaves nothing behind.

Everything is written in a new hidden folder next to its place and renamed when it is complete. `only_one` keeps two
processes from writing at the same place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import logging
import math
import os
import platform
import re
import shutil
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import msgspec

from data_pipeline.errors import RequestError

LOG = logging.getLogger(__name__)

PREFIX = ".msanet-"
"""Of the hidden folders in which files are written; a killed process leaves one behind."""
_LOCK = ".lock"


class WriteError(OSError, RequestError):
    """A file cannot be written; `errno`, `strerror` and `filename` are set as for any OSError."""

    def __str__(self) -> str:
        return f"{self.filename}: cannot be written ({self.strerror}); choose another place"


def resolved(path: Path) -> Path:
    """The absolute path without links; one that leads to itself stays (`Path.resolve` may raise)."""
    return Path(os.path.realpath(path))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a whole file.

    Raises:
      WriteError: the folder is missing or cannot be written, or the disk is full.
    """
    with whole_files(path.parent, [path.name]) as beside:
        (beside / path.name).write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Writes a whole file in UTF-8; raises as `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, content: Any, *, rows: tuple[str, Iterable[Any]] | None = None) -> None:
    """Writes indented JSON as a whole file, NaN as null; raises as `write_bytes`.

    Args:
      path: of the file.
      content: of it.
      rows: a last key for an object that has others, and its records, which are written one after the other.
    """
    text = json.dumps(nan_to_null(content), indent=2) + "\n"
    with whole_files(path.parent, [path.name]) as beside, (beside / path.name).open("w", encoding="utf-8") as file:
        if rows is None:
            file.write(text)
            return
        name, records = rows
        file.write(text.removesuffix("\n}\n") + f",\n  {json.dumps(name)}: [")
        for number, record in enumerate(records):
            shown = textwrap.indent(json.dumps(nan_to_null(record), indent=2), "    ")
            file.write(f"{',' if number else ''}\n{shown}")
        file.write("\n  ]\n}\n")


def as_builtins(record: Any) -> Any:
    """A record as dictionaries, lists, texts and numbers; NumPy's numbers become Python's."""
    return msgspec.to_builtins(record, enc_hook=lambda number: number.item())


def nan_to_null(value: Any) -> Any:
    """JSON has no NaN and no infinity: both become null, in nested structures too. Records become dictionaries."""
    if dataclasses.is_dataclass(value) or isinstance(value, msgspec.Struct):
        value = as_builtins(value)
    if isinstance(value, Mapping):
        return {key: nan_to_null(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [nan_to_null(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@contextlib.contextmanager
def whole_files(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yields a new empty folder for files of these names; at the end all of them appear in `folder`, or none.

    A link stays, and the file that it names is replaced.

    Args:
      folder: an existing folder.
      names: of the files, in the order in which they appear.

    Raises:
      WriteError: a file cannot be written, or a folder, device, pipe or socket is in its place.
    """
    places = [folder / name for name in names]
    try:
        _check_replaceable(places)
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=folder, ignore_cleanup_errors=True) as beside:
            yield Path(beside)
            _check_replaceable(places)
            for place in places:
                Path(beside, place.name).replace(resolved(place) if place.is_symlink() else place)
    except OSError as error:
        if not any(_concerns(error, place) for place in places):
            raise
        raise WriteError(error.errno, error.strerror or str(error), str(places[0])) from error


def _check_replaceable(places: Iterable[Path]) -> None:
    for place in places:
        if place.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(place))
        if place.exists() and not place.is_file():
            raise OSError(errno.EEXIST, "a device, pipe or socket is there", str(place))


@contextlib.contextmanager
def private_folder(parent: Path | None = None, prefix: str = PREFIX) -> Iterator[Path]:
    """Yields a new folder that only its owner can read, and removes it at the end.

    A process that is killed leaves its folder behind. The next one that makes a folder at the same place removes it: a
    folder is abandoned if its lock is free and no process has the number in its name.

    Args:
      parent: where; None for the system's temporary folder.
      prefix: of its name.

    Raises:
      OSError: it cannot be made.
    """
    place = Path(tempfile.gettempdir() if parent is None else parent)
    for entry in place.glob(f"{prefix}*-*"):
        with contextlib.suppress(OSError):
            _remove_abandoned(entry, prefix)
    with (
        tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-", dir=place, ignore_cleanup_errors=True) as name,
        contextlib.ExitStack() as stack,
    ):
        lock = stack.enter_context(Path(name, _LOCK).open("wb"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # a disk without locks: nobody may take it for abandoned
            Path(name, _LOCK).unlink()
        yield Path(name)


def _remove_abandoned(folder: Path, prefix: str) -> None:
    number = re.fullmatch(rf"{re.escape(prefix)}(\d+)-\w+", folder.name)
    if number is None or folder.is_symlink() or folder.stat().st_uid != os.getuid():
        return
    try:
        os.kill(int(number[1]), 0)
        return
    except ProcessLookupError:
        pass
    with Path(folder, _LOCK).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yields a new folder that becomes `out` at the end, or disappears if anything fails.

    Raises:
      RequestError: `out` exists, cannot be written, or the disk is full.
    """
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise RequestError(f"--out={out}: exists; choose another folder or delete it")
    made = [folder for folder in out.parents if not folder.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with private_folder(out.parent) as beside:
            (folder := beside / out.name).mkdir()
            yield folder
            if out.exists():
                out.rmdir()
            folder.rename(out)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise RequestError(f"--out={out}: no space left on the disk; make room, or choose another place") from error
        if not _concerns(error, out):
            raise RequestError(f"{error.filename}: cannot be read ({error.strerror or error})") from error
        raise RequestError(f"--out={out}: cannot be written ({error.strerror or error}); choose another") from error
    finally:
        if not out.exists():
            for folder in made:
                with contextlib.suppress(OSError):
                    folder.rmdir()


def writable_folder(path: Path, option: str) -> Path:
    """Makes a folder if it is absent.

    Args:
      path: of the folder.
      option: of the command line, for the message.

    Raises:
      RequestError: it cannot be made, or no file can be made in it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise RequestError(f"{option}={path}: cannot be written ({error.strerror}); choose another folder") from error
    return path


def full_disk(error: BaseException | None) -> str | None:
    """What could not be written, if that is why an error was raised: no space, or the quota is used up; else None.

    Libraries raise many types for it, with the system's words in the text.
    """
    words = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)]
    while error is not None:
        if any(word in str(error) for word in words):
            return str(getattr(error, "filename", None) or "a file")
        error = error.__cause__ or error.__context__
    return None


def too_long_name(error: BaseException) -> str | None:
    """The line for a path that no file can have, if that is the error; else None."""
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{error.filename}: too long a name for this disk"
    return None


class HeldError(RequestError):
    """Another process holds a lock; the text names it."""


@contextlib.contextmanager
def only_one(path: Path, *, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Holds a lock file: one process at a time is inside.

    The lock is `flock`'s, and the file says who holds it. The kernel releases it when its process ends in any way, so
    the lock of a dead process is free. On a file system without such locks there is only a warning.

    Args:
      path: of the lock file, in an existing folder; removed at the end.
      waiting: called once with the holder, before this process waits for it; None refuses to wait.

    Raises:
      HeldError: another process holds it.
    """
    file = _lock(path, waiting)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _lock(path: Path, waiting: Callable[[str], None] | None) -> TextIO:
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            _wait(file, path, waiting)
            if _is_at(path, file):
                break
        except BaseException:
            file.close()
            raise
        file.close()
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}")
    file.flush()
    return file


def _wait(file: TextIO, path: Path, waiting: Callable[[str], None] | None) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        if waiting is None:
            raise HeldError(holder) from None
        waiting(holder)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        LOG.warning("%s: this file system has no locks (%s); start one process at a time", path, error.strerror)


def _is_at(path: Path, file: TextIO) -> bool:
    """Whether the locked file is the one at `path`; a lock on one that its holder removed keeps nobody out."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _concerns(error: OSError, out: Path) -> bool:
    """Whether an error is about what is written, in its place or next to it, not about a file that is read."""
    if not isinstance(error.filename, str | os.PathLike):
        return True
    failed, out = Path(error.filename).absolute(), out.absolute()
    beside = failed.is_relative_to(out.parent) and str(failed.relative_to(out.parent)).startswith(PREFIX)
    return beside or failed.is_relative_to(out) or out.is_relative_to(failed)
