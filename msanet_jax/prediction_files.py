"""What one prediction leaves on disk, and under which name."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from msanet_jax.overlay import Drawing, save_overlay

PARTS = ("mask.png", "probability.npy", "overlay.png")
"""Written as STEM_mask.png and so on; STEM.json comes last: where it is, the others are complete."""


class OutputNames:
    """Gives every result a name of its own, whatever the inputs are called.

    The rule: a result is named after its file's stem; the second file of the same stem becomes STEM-2, the third
    STEM-3, in the order given. Upper and lower case count as the same, since some file systems think so.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def claim(self, stem: str) -> str:
        """The first free of stem, stem-2, stem-3..."""
        name, copy = stem, 1
        while self._files(name) & self._taken:
            copy += 1
            name = f"{stem}-{copy}"
        self._taken |= self._files(name)
        return name

    @staticmethod
    def _files(name: str) -> set[str]:
        return {file.lower() for file in file_names(name)}


def file_names(stem: str) -> list[str]:
    """The files of a result, in the order in which they appear."""
    return [*(f"{stem}_{part}" for part in PARTS), f"{stem}.json"]


def save_prediction(out: Path, stem: str, drawing: Drawing, mask: np.ndarray, record: dict[str, Any]) -> None:
    """Writes mask, probability, overlay and record: all four, or none.

    Args:
      out: folder.
      stem: see `OutputNames`.
      drawing: scan, probability and lesions.
      mask: [rows, columns] bool, saved as 0 and 255.
      record: JSON-able.
    """
    names = file_names(stem)
    with _all_or_none([out / name for name in names]) as (mask_path, probability_path, overlay_path, record_path):
        Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(mask_path, format="PNG")
        with probability_path.open("wb") as file:
            np.save(file, drawing.probability.astype(np.float32))
        save_overlay(drawing, overlay_path)
        record_path.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def counts_digest(counts: np.ndarray) -> str:
    """SHA-256 of the counts as little-endian int32, rows first: tells which pixels were segmented, not whose."""
    return hashlib.sha256(np.ascontiguousarray(counts, "<i4").tobytes()).hexdigest()


@contextlib.contextmanager
def _all_or_none(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Yields names beside `paths`; renames them at the end, or removes them if anything failed."""
    beside = [path.with_name(f".{path.name}.{os.getpid()}") for path in paths]
    try:
        yield beside
        for temporary, path in zip(beside, paths, strict=True):
            temporary.replace(path)
    finally:
        for temporary in beside:
            temporary.unlink(missing_ok=True)
