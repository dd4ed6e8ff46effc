"""What an import has read, kept next to the data set until that is whole, so that an interrupted import goes on.

A result lies under a digest of all that it comes from: name, size and time of every file that was read, the request,
and the code of this package. Its record is written last: what a killed process has half-written has none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

import data_pipeline
from data_pipeline.errors import RequestError
from data_pipeline.files import PREFIX, HeldError, only_one, write_bytes, write_text
from data_pipeline.readers.pseudonyms import KEY_FILE
from data_pipeline.readers.sources import SourceFile
from data_pipeline.reading import read_text

T = TypeVar("T")
_PREFIX = f"{PREFIX}import-"
_WHERE = (
    "{files} files that were read are kept in {folder}: the same import goes on after them; delete that folder if you "
    "do not want to go on"
)


@dataclasses.dataclass(frozen=True)
class Kept:
    """A folder of results.

    Attributes:
      folder: where they are; only its owner can read it.
      request: digest of what all of them depend on.
    """

    folder: Path
    request: bytes = b""

    def asked(self, *of: Any) -> Kept:
        """The results of a request, which is described by things with a `repr`."""
        return dataclasses.replace(self, request=hashlib.sha256(_code() + _bytes(of)).digest())

    def name(self, *of: Any) -> str:
        """Under which a result is kept; `of`: what it comes from."""
        return hashlib.sha256(self.request + _bytes(of)).hexdigest()[:40]

    def __contains__(self, name: str) -> bool:
        return self._record(name).exists()

    def put(self, name: str, record: Any, files: Sequence[str] = ()) -> None:
        """Keeps a record, after its files in `folder` were written."""
        sizes = {file: (self.folder / file).stat().st_size for file in files}
        write_bytes(self._record(name), msgspec.json.encode([sizes, record]))

    def get(self, name: str, kind: type[T]) -> T | None:
        """A record; None where it is not there, damaged, or without one of its files."""
        try:
            stored = self._record(name).read_bytes()
            sizes, record = msgspec.json.decode(stored, type=tuple[dict[str, int], kind])  # type: ignore[valid-type]
            whole = all((self.folder / file).stat().st_size == size for file, size in sizes.items())
        except (OSError, ValueError, msgspec.MsgspecError):
            return None
        return record if whole else None

    def pseudonym_key(self, drawn: str) -> str:
        """The key that this import drew before it was interrupted, else `drawn`, which is kept from now on."""
        path = self.folder / KEY_FILE
        if path.exists():
            return read_text(path, remedy=f"delete {self.folder}").strip()
        write_text(path, drawn + "\n")
        return drawn

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _record(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def stamp(file: SourceFile) -> tuple[str, int, int]:
    """By which a file is known as the same one: its name, size, and time of the last change."""
    try:
        status = file.path.stat()
    except OSError:  # its reader says what is wrong
        return file.name, -1, -1
    return file.name, status.st_size, status.st_mtime_ns


@contextlib.contextmanager
def keeping(out: Path, finished: contextlib.ExitStack) -> Iterator[Kept]:
    """Yields what an import into `out` has kept; no other process may import to the same place meanwhile.

    It stays where an import is interrupted or the disk is full. A request that cannot be met removes it, if that
    request made it. After an import it goes with `finished`, when the data set is in its place.

    Raises:
      RequestError: another process imports to the same place, or somebody else has a folder there.
    """
    kept = Kept(out.parent / f"{_PREFIX}{out.name}")
    begun = kept.folder.exists()
    kept.folder.mkdir(mode=0o700, exist_ok=True)
    if kept.folder.is_symlink() or kept.folder.stat().st_uid != os.getuid():
        raise RequestError(f"{kept.folder}: is somebody else's; choose another folder for --out")
    try:
        with only_one(kept.folder / ".lock"):
            try:
                yield kept
            except BaseException as error:
                refused = isinstance(error, RequestError) and not begun
                files = 0 if refused else sum(1 for _ in kept.folder.glob("*.json"))
                if files:
                    print(_WHERE.format(files=files, folder=kept.folder), file=sys.stderr)
                else:
                    kept.remove()
                raise
    except HeldError as error:
        raise RequestError(f"--out={out}: {error} is importing to it; wait for it, or choose another folder") from None
    finished.callback(kept.remove)


def remove_finished(parent: Path) -> None:
    """Removes what imports have kept whose data set is there: they were killed between the two."""
    for folder in parent.glob(f"{_PREFIX}*"):
        place = parent / folder.name.removeprefix(_PREFIX)
        if not folder.is_symlink() and place.is_dir() and any(place.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)


def place(file: Path, at: Path) -> None:
    """Puts a kept file in its place: under a second name where the disk has such, else as a copy."""
    try:
        os.link(file, at)
    except OSError:
        shutil.copyfile(file, at)


@functools.cache
def _code() -> bytes:
    """Digest of the code of this package: what another version has read is read again."""
    total = hashlib.sha256()
    for path in sorted(Path(data_pipeline.__file__).parent.rglob("*.py")):
        total.update(path.read_bytes())
    return total.digest()


def _bytes(things: tuple[Any, ...]) -> bytes:
    return repr(things).encode()
