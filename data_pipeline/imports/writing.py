"""Writes the files of a data set folder, beside its place and renamed at the end."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_pipeline.errors import RequestError
from data_pipeline.imports import manifest
from data_pipeline.imports.manifest import ImageEntry
from data_pipeline.readers.values import KEY_VARIABLE

KEY_FILE = "pseudonym.key"
_KEY_CHARACTERS_MIN = 8


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


def read_or_draw_key(file: Path | None) -> tuple[str, bool]:
    """Key of the pseudonyms, and whether it was drawn here and must be kept with the set.

    Args:
      file: of the user; without it, the environment's key, else a new one.

    Raises:
      RequestError: the file cannot be read or is too short to keep a secret.
    """
    if file is None:
        own = os.environ.get(KEY_VARIABLE)
        return (own, False) if own else (secrets.token_hex(32), True)
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise RequestError(f"--key-file={file}: cannot be read as text") from None
    if len(key) < _KEY_CHARACTERS_MIN:
        raise RequestError(f"--key-file={file}: {len(key)} characters are no secret; use 32 or more random ones")
    return key, False


def write_image(folder: Path, stem: str, values: np.ndarray) -> str:
    """Whole numbers >= 0 as grey PNG of 8 or 16 bits, as NPY where they need more; returns the name in `folder`."""
    if values.dtype == np.uint8:
        Image.fromarray(values).save(folder / f"{stem}.png")
        return f"{stem}.png"
    if values.max(initial=0) <= np.iinfo(np.uint16).max:
        Image.fromarray(values.astype(np.uint16)).save(folder / f"{stem}.png")
        return f"{stem}.png"
    np.save(folder / f"{stem}.npy", values)
    return f"{stem}.npy"


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


def write_documents(
    folder: Path, entries: Sequence[ImageEntry], splits: Mapping[str, Sequence[str]], *, origin: str
) -> None:
    """Manifest, splits and the set's description."""
    (folder / manifest.MANIFEST).write_text(manifest.manifest_text(entries), encoding="utf-8")
    write_json(folder / manifest.SPLITS_FILE, splits)
    write_json(folder / manifest.DOCUMENT, {"layout_version": manifest.LAYOUT_VERSION, "origin": origin})


def write_private(folder: Path, origins: Sequence[tuple[str, str, int]], key: str | None) -> None:
    """Which file of the source each image came from, and the key if it was drawn here; for the owner's eyes."""
    folder.chmod(0o700)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image_id", "source_file", "frame"))
    writer.writerows(origins)
    files = {"sources.csv": text.getvalue()} | ({KEY_FILE: key + "\n"} if key is not None else {})
    for name, content in files.items():
        with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(content)
