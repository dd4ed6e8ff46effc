"""Greyscale pictures (PNG, JPEG, TIFF) and NPY arrays -> scans, and the one way into a picture file."""

from __future__ import annotations

import contextlib
import io
import warnings as python_warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from data_pipeline.readers import budget
from data_pipeline.readers.orientation import AS_STORED, inverse, upright
from data_pipeline.readers.pseudonyms import pseudonym
from data_pipeline.readers.settle import StoredImage, settle, stated_views, view_of_path
from data_pipeline.readers.stated import Stated
from data_pipeline.readers.values import check_pixels, check_size
from data_pipeline.readers.views import without_view
from data_pipeline.scan import Scan, ScanError, View

PICTURE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
"""What is ever decoded. Pillow knows others, of which EPS starts a program that runs what is in the file."""

_COLUMNS, _ROWS, _BITS_A_SAMPLE, _COMPRESSION, _STRIPS, _SAMPLES, _ROWS_A_STRIP = 256, 257, 258, 259, 273, 277, 278
_PLAIN, _DEFLATED, _PLACES = 1, (8, 32946), ((273, 279), (324, 325))
_UNCOUNTED = (5, 32773)  # LZW, PackBits
"""TIFF tags, kinds of packing, and tags of places and lengths of strips and tiles."""

_GREY_MODES = {"L": 8, "I;16": 16, "I;16B": 16, "I;16L": 16, "I": 32, "F": 32}


@contextlib.contextmanager
def open_picture(source: Path | bytes) -> Iterator[Image.Image]:
    """Opens a picture of `PICTURE_FORMATS`; its first pixels are decoded when they are asked for.

    Args:
      source: a file, or the bytes of one.

    Raises:
      ScanError: no regular file, or too large a one.
      OSError: no picture of these formats, or damaged.
    """
    if isinstance(source, Path):
        budget.check_regular(source)
        source = source.read_bytes()
    # From memory: of a file, Pillow maps uncompressed pixels, and scrambles those of a turned TIFF.
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")  # damaged metadata do not matter, damaged pixels raise
        with Image.open(io.BytesIO(source), formats=PICTURE_FORMATS) as picture:
            try:
                _check_whole(picture, source)
            except Exception as error:  # Pillow says SyntaxError, struct and zlib have their own
                raise OSError(f"damaged ({type(error).__name__})") from None
            yield picture


def _check_whole(picture: Image.Image, content: bytes) -> None:
    """Refuses damage that Pillow does not see: pixels decode even so, as others, and a mask may be empty.

    Raises:
      Exception: of any type, for a wrong checksum in a PNG or in packed pixels of a TIFF; for a TIFF that does not say
        how many bits a pixel has, or has more pixels than it says.
    """
    if picture.format == "PNG":
        with PngImageFile(io.BytesIO(content)) as other:
            other.verify()
    if not isinstance(picture, TiffImageFile):
        return
    for page in range(picture.n_frames):
        picture.seek(page)
        _check_page(picture.tag_v2, content)
    picture.seek(0)


def _check_page(tags: Any, content: bytes) -> None:
    """Refuses a page whose stored pixels, where their number can be told, are damaged or more than its tags promise."""
    bits, samples = tags[_BITS_A_SAMPLE], tags.get(_SAMPLES, 1)
    row_bytes = -(-tags[_COLUMNS] * bits[0] * samples // 8)
    offsets, lengths = next(((tags[a], tags[b]) for a, b in _PLACES if a in tags and b in tags), ((), ()))
    if (packing := tags.get(_COMPRESSION, _PLAIN)) in _DEFLATED:
        places = zip(offsets, lengths, strict=True)
        lengths = [len(zlib.decompress(content[at : at + length])) for at, length in places]
    spare = min(tags.get(_ROWS_A_STRIP, tags[_ROWS]), tags[_ROWS])  # some programs fill the last strip
    if packing in (_PLAIN, *_DEFLATED) and _STRIPS in tags and sum(lengths) > (tags[_ROWS] + spare) * row_bytes:
        raise ValueError("more pixels than promised")
    if packing in _UNCOUNTED and bits[0] == 1:
        # Pixels of 8 bits whose tag was damaged decode as a blank picture of single bits, and nothing tells.
        raise ValueError("single bits in a packing whose pixels cannot be counted")


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
            mode, pages, lossy = picture.mode, getattr(picture, "n_frames", 1), picture.format == "JPEG"
            values, turn = stored_pixels(picture)
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
