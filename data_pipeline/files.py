"""Writes whole files and folders: beside their place, renamed when they are complete."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.errors import RequestError


def write_text(path: Path, text: str) -> None:
    """Writes beside and renames, so that a reader sees the old file or the new one, never a part."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def all_or_none(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Yields names beside `paths`; renames them at the end, or removes them if anything failed."""
    beside = [path.with_name(f".{path.name}.{os.getpid()}") for path in paths]
    try:
        yield beside
        for temporary, path in zip(beside, paths, strict=True):
            temporary.replace(path)
    finally:
        for temporary in beside:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def written_beside(out: Path) -> Iterator[Path]:
    """A new folder beside `out`, renamed to `out` at the end or removed if anything fails.

    Raises:
      RequestError: `out` exists, cannot be written, or the disk is full.
    """
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise RequestError(f"--out={out}: exists; choose another folder or delete it")
    beside = out.parent / f".{out.name}.{os.getpid()}.partial"
    made = [folder for folder in out.parents if not folder.exists()]
    try:
        beside.mkdir(parents=True)
        yield beside
        if out.exists():
            out.rmdir()
        beside.rename(out)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise RequestError(f"--out={out}: no space left on the disk; nothing was written") from error
        if not _concerns(error, out, beside):
            raise RequestError(f"{error.filename}: cannot be read ({error.strerror or error})") from error
        raise RequestError(f"--out={out}: cannot be written ({error.strerror or error}); choose another") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        if not out.exists():
            for folder in made:
                with contextlib.suppress(OSError):
                    folder.rmdir()


def _concerns(error: OSError, out: Path, beside: Path) -> bool:
    """Whether an error is of the folder that is written, not of a file that is read."""
    if not isinstance(error.filename, str | os.PathLike):
        return True
    failed = Path(error.filename).absolute()
    return any(
        failed.is_relative_to(folder.absolute()) or folder.absolute().is_relative_to(failed) for folder in (out, beside)
    )


def write_json(path: Path, content: Any) -> None:
    """Indented JSON."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def replace_text(path: Path, text: str) -> None:
    """Writes beside and renames.

    Raises:
      RequestError: the folder cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise RequestError(f"{path}: cannot be written ({error.strerror}); choose another --out") from error
