"""Greyscale pictures (PNG, JPEG, TIFF) and NPY arrays -> scans, and the one way into a picture file."""

from __future__ import annotations

import contextlib
import io
import warnings as python_warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from data_pipeline.readers import budget
from data_pipeline.readers.formats.tiff import check_tiff
from data_pipeline.readers.orientation import AS_STORED, inverse, upright
from data_pipeline.readers.pseudonyms import pseudonym
from data_pipeline.readers.settle import StoredImage, settle, stated_views, view_of_path
from data_pipeline.readers.stated import Stated
from data_pipeline.readers.values import check_most, check_pixels, check_size
from data_pipeline.readers.views import without_view
from data_pipeline.scan import Scan, ScanError, View

PICTURE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
"""What is ever decoded. Pillow knows others, of which EPS starts a program that runs what is in the file."""

_LOSSY_FORMATS, _LOSSY_TIFF = ("JPEG", "MPO"), ("jpeg", "tiff_jpeg", "webp")
"""Pillow calls a JPEG that holds several MPO, whatever it was asked for; a TIFF says how its current page is packed."""

_GREY_MODES = {"L": 8, "I;16": 16, "I;16B": 16, "I;16L": 16, "I": 32, "F": 32}


@contextlib.contextmanager
def open_picture(source: Path | bytes) -> Iterator[Image.Image]:
    """Opens a picture of `PICTURE_FORMATS`; its first pixels are decoded when they are asked for.

    Args:
      source: a file, or the bytes of one.

    Raises:
      ScanError: no regular file, too large a one, or far more pixels than a planar scan has.
      OSError: no picture of these formats, or damaged.
    """
    name = "the picture"
    if isinstance(source, Path):
        budget.check_regular(source)
        name, source = str(source), source.read_bytes()
    # From memory: of a file, Pillow maps uncompressed pixels, and scrambles those of a turned TIFF.
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")  # damaged metadata do not matter, damaged pixels raise
        try:
            opened = Image.open(io.BytesIO(source), formats=PICTURE_FORMATS)
        except Image.DecompressionBombError:
            raise ScanError(f"{name}: far more pixels than a planar scan has; export it at its own size") from None
        with opened as picture:
            check_most(1, (picture.size[1], picture.size[0]), name)
            try:
                _check_whole(picture, source, name)
            except ScanError:
                raise
            except Exception as error:  # Pillow says SyntaxError, struct and zlib have their own
                raise OSError(f"damaged ({type(error).__name__})") from None
            yield picture


def _check_whole(picture: Image.Image, content: bytes, name: str) -> None:
    """Refuses damage that Pillow does not see: pixels decode even so, as others, and a mask may be empty.

    Raises:
      Exception: of any type, for a wrong checksum in a PNG, or as `check_tiff`.
    """
    if picture.format == "PNG":
        with PngImageFile(io.BytesIO(content)) as other:
            other.verify()
    if isinstance(picture, TiffImageFile):
        check_tiff(picture, content, name)


def is_lossy(picture: Image.Image) -> bool:
    """Whether the pixels of the current page are others than those that were saved."""
    packed = picture.info.get("compression") if picture.format == "TIFF" else None
    return picture.format in _LOSSY_FORMATS or packed in _LOSSY_TIFF


def stored_pixels(picture: Image.Image) -> tuple[np.ndarray, int]:
    """Pixels as stored, and how they lie: the EXIF or TIFF orientation, 1 where there is none or an impossible one."""
    tag = picture.getexif().get(ExifTags.Base.Orientation, AS_STORED)
    tag = tag if tag in range(1, 9) else AS_STORED
    values = np.asarray(picture)
    # Pillow turns a TIFF itself while it decodes.
    return (upright(values, inverse(tag)) if picture.format == "TIFF" else values), tag


def read_picture(path: Path, stated: Stated | None = None) -> Scan:
    """Reads a greyscale picture whose brightness is proportional to counts (hot = bright).

    Raises:
      ScanError: colour, transparency, several pages, inverted grey, damaged.
    """
    stated = stated or Stated()
    try:
        with open_picture(path) as picture:
            check_pixels(1, picture.size[::-1], str(path))
            mode, pages, lossy = picture.mode, getattr(picture, "n_frames", 1), is_lossy(picture)
            values, turn = stored_pixels(picture)
    except ScanError:
        raise
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ScanError(f"{path}: the picture cannot be decoded ({type(error).__name__}); export it again") from None
    if mode not in _GREY_MODES:
        raise ScanError(f"{path}: a picture of mode {mode} (colour, palette or transparency); save 8 or 16 bit grey")
    if pages > 1:
        raise ScanError(f"{path}: {pages} pages; save one picture per view")
    view, notes = view_of_path(path, path.stem, stated)
    if _GREY_MODES[mode] == 8:
        notes += ("8 bit picture: counts may be scaled and cut off at 255, uptake is relative",)
    if lossy:
        notes += ("lossy compression: the counts are not original",)
    image = StoredImage(values, None, view, _patient(path), notes, turn, "its EXIF or TIFF orientation")
    return settle(image, path, stated)


def read_numpy(path: Path, stated: Stated | None = None) -> list[Scan]:
    """Reads counts from an NPY file; never unpickles.

    Raises:
      ScanError: pickled objects, another number of dimensions, truncated, no counts.
    """
    stated = stated or Stated()
    try:
        # Mapped, so that a header that promises terabytes costs nothing and a short file is noticed.
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, OverflowError, SyntaxError) as error:
        if "objects" in str(error) or "pickle" in str(error):
            raise ScanError(
                f"{path}: holds pickled objects, which are never read; save a plain numeric array"
            ) from None
        raise ScanError(f"{path}: the array cannot be read ({type(error).__name__}); save it again") from None
    views: list[View]
    if values.ndim == 3 and values.shape[0] == 2:
        views = stated_views(stated, 2, path) if stated.views else [View.ANTERIOR, View.POSTERIOR]
        notes: tuple[str, ...] = () if stated.views else ("the first array is taken as anterior; --view= settles it",)
    elif values.ndim == 2 or (values.ndim == 3 and values.shape[0] == 1):
        view, notes = view_of_path(path, path.stem, stated)
        views, values = [view], values.reshape(-1, *values.shape[-2:])
    else:
        raise ScanError(
            f"{path}: an array of shape {values.shape} is not a planar scan; save [rows, columns] or [2, rows, columns]"
        )
    scans = []
    for number, (frame, view) in enumerate(zip(values, views, strict=True)):
        check_size(frame.shape, str(path))
        check_pixels(len(views), frame.shape, str(path))
        scans.append(
            settle(StoredImage(np.asarray(frame), None, view, _patient(path), notes, frame=number), path, stated)
        )
    return scans


def _patient(path: Path) -> str:
    return pseudonym(without_view(path.stem))
