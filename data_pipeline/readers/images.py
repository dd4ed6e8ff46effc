"""Greyscale pictures (PNG, JPEG, TIFF) and NPY arrays -> scans."""

from __future__ import annotations

import warnings as python_warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from data_pipeline.readers.pseudonyms import pseudonym
from data_pipeline.readers.values import check_size, to_counts
from data_pipeline.readers.views import view_of_file_name, without_view
from data_pipeline.scan import Scan, ScanError, View

_GREY_MODES = {"L": 8, "I;16": 16, "I;16B": 16, "I;16L": 16, "I": 32, "F": 32}
# In a scan the border is air. Brighter than this share of the maximum, it is an inverted display picture.
_BRIGHT_BORDER_SHARE = 0.75


def read_picture(path: Path) -> Scan:
    """Reads a greyscale picture whose brightness is proportional to counts (hot = bright).

    Raises:
      ScanError: colour, transparency, several pages, inverted grey, damaged.
    """
    try:
        # Damaged metadata do not matter here, damaged pixels raise.
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            mode, pages, lossy, values = _decode(path)
    except ScanError:
        raise
    except Image.DecompressionBombError:
        raise ScanError(f"{path}: far more pixels than a planar scan has; export the scan at its own size") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ScanError(f"{path}: the picture cannot be decoded ({type(error).__name__}); export it again") from None
    if mode not in _GREY_MODES:
        raise ScanError(f"{path}: a picture of mode {mode} (colour, palette or transparency); save 8 or 16 bit grey")
    if pages > 1:
        raise ScanError(f"{path}: {pages} pages; save one picture per view")
    counts, warnings = to_counts(values, str(path))
    _refuse_inverted(counts, path)
    if _GREY_MODES[mode] == 8:
        warnings += ("8 bit picture: counts may be scaled and cut off at 255, uptake is relative",)
    if lossy:
        warnings += ("lossy compression: the counts are not original",)
    return _scan(counts, path, view_of_file_name(path.stem, path.parent.name), warnings)


def _decode(path: Path) -> tuple[str, int, bool, np.ndarray]:
    """Mode, number of pages, whether lossy, pixels."""
    with Image.open(path) as picture:
        check_size(picture.size[::-1], str(path))
        return picture.mode, getattr(picture, "n_frames", 1), picture.format == "JPEG", np.asarray(picture)


def read_numpy(path: Path) -> list[Scan]:
    """Reads counts from an NPY file; never unpickles.

    Raises:
      ScanError: pickled objects, another number of dimensions, truncated, no counts.
    """
    try:
        # Mapped, so that a header that promises terabytes costs nothing and a short file is noticed.
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, OverflowError, SyntaxError) as error:
        if "objects" in str(error) or "pickle" in str(error):
            raise ScanError(
                f"{path}: holds pickled objects, which are never read; save a plain numeric array"
            ) from None
        raise ScanError(f"{path}: the array cannot be read ({type(error).__name__}); save it again") from None
    if values.ndim == 3 and values.shape[0] in (1, 2):
        views = [View.ANTERIOR, View.POSTERIOR][: values.shape[0]] if values.shape[0] == 2 else [_named_view(path)]
        frames = list(zip(values, views, strict=True))
    elif values.ndim == 2:
        frames = [(values, _named_view(path))]
    else:
        raise ScanError(
            f"{path}: an array of shape {values.shape} is no planar scan; save [rows, columns] or [2, rows, columns]"
        )
    scans = []
    for frame, view in frames:
        check_size(frame.shape, str(path))
        counts, warnings = to_counts(np.asarray(frame), str(path))
        scans.append(_scan(counts, path, view, warnings))
    return scans


def _named_view(path: Path) -> View:
    return view_of_file_name(path.stem, path.parent.name)


def _scan(counts: np.ndarray, path: Path, view: View, warnings: tuple[str, ...]) -> Scan:
    return Scan(
        counts=counts,
        pixel_size_mm=None,
        view=view,
        patient=pseudonym(without_view(path.stem)),
        source=path.name,
        warnings=(*warnings, "no pixel size in the file: lengths in mm are unknown"),
    )


def _refuse_inverted(counts: np.ndarray, path: Path) -> None:
    border = np.concatenate([counts[0], counts[-1], counts[:, 0], counts[:, -1]])
    if np.median(border) > _BRIGHT_BORDER_SHARE * counts.max():
        raise ScanError(f"{path}: the background is brighter than the patient: invert the picture (hot = bright)")
