"""Writes the files of a data set folder, beside its place and renamed at the end."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipeline.files import write_json, write_text
from data_pipeline.intake.folder import DOCUMENT, LAYOUT_VERSION, PRIVATE, SPLITS_FILE
from data_pipeline.intake.manifest import MANIFEST, ImageEntry, manifest_text
from data_pipeline.readers.pseudonyms import KEY_FILE
from data_pipeline.text import printable, table_cell


def key_beside(data_set: Path | None) -> Path | None:
    """The key that was drawn for a data set, if it is there."""
    file = data_set / PRIVATE / KEY_FILE if data_set else None
    return file if file and file.is_file() else None


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


def write_documents(
    folder: Path, entries: Sequence[ImageEntry], splits: Mapping[str, Sequence[str]], *, origin: str
) -> None:
    """Manifest, splits and the set's description."""
    write_text(folder / MANIFEST, manifest_text(entries))
    write_json(folder / SPLITS_FILE, splits)
    write_json(folder / DOCUMENT, {"layout_version": LAYOUT_VERSION, "origin": origin})


def write_private(folder: Path, origins: Sequence[tuple[str, str, int]], key: str | None) -> None:
    """Which file of the source each image came from, and the key if it was drawn here; for the owner's eyes."""
    folder.chmod(0o700)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image_id", "source_file", "frame"))
    writer.writerows((image_id, table_cell(printable(name)), frame) for image_id, name, frame in origins)
    files = {"sources.csv": text.getvalue()} | ({KEY_FILE: key + "\n"} if key is not None else {})
    for name, content in files.items():
        with os.fdopen(
            os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        ) as file:
            file.write(content)
