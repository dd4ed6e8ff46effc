"""What a TIFF says of its stored pixels, checked against what is there before Pillow and libtiff decode them."""

from __future__ import annotations

from typing import Any

from PIL.TiffImagePlugin import TiffImageFile

from data_pipeline.readers import budget
from data_pipeline.readers.values import MAX_PIXELS, MAX_SIDE_PX
from data_pipeline.scan import ScanError

MAX_PAGES = 64
"""Of one file; a scan or its mask has one for each view."""

_COLUMNS, _ROWS, _BITS_A_SAMPLE, _COMPRESSION, _SAMPLES, _ROWS_A_STRIP = 256, 257, 258, 259, 277, 278
_TILE_COLUMNS, _TILE_ROWS = 322, 323
_PLACES = ((273, 279), (324, 325))
"""TIFF tags, those of places and lengths of strips and tiles the last."""

_PLAIN, _DEFLATED = 1, (8, 32946)
_UNCOUNTED = (5, 32773)  # LZW, PackBits
_TILE_MARGIN = 1024
"""Pixels by which a tile may be larger than its picture: libtiff unpacks whole tiles."""


def check_tiff(picture: TiffImageFile, content: bytes, name: str) -> None:
    """Refuses a file whose stored pixels are damaged, or more than its tags promise.

    Raises:
      ScanError: more pages, or pixels on all of them, than a planar scan has; begins with `name`.
      Exception: of any type: packed pixels with a wrong checksum; no number of bits a pixel; more pixels than promised;
        strips or tiles that overlap, which would unpack without end.
    """
    pixels = 0
    for page in range(MAX_PAGES + 1):
        budget.check_time()
        try:
            picture.seek(page)
        except EOFError:
            break
        rows, columns = picture.tag_v2[_ROWS], picture.tag_v2[_COLUMNS]
        pixels += rows * columns
        if page == MAX_PAGES or max(rows, columns) > MAX_SIDE_PX or pixels > MAX_PIXELS:
            raise ScanError(f"{name}: more pages or pixels than a planar scan has; save one page for each view")
        _check_page(picture.tag_v2, content)
    picture.seek(0)


def _check_page(tags: Any, content: bytes) -> None:
    """Refuses a page whose stored pixels, where their number can be told, are damaged or more than its tags promise."""
    bits, samples, packing = tags[_BITS_A_SAMPLE], tags.get(_SAMPLES, 1), tags.get(_COMPRESSION, _PLAIN)
    most = _most_bytes(tags, bits[0] * samples)
    offsets, lengths = next(((tags[a], tags[b]) for a, b in _PLACES if a in tags and b in tags), ((), ()))
    places = list(zip(offsets, lengths, strict=packing in _DEFLATED))
    _check_apart(places)
    stored = sum(lengths) if packing == _PLAIN and _TILE_COLUMNS not in tags else 0
    for at, length in places if packing in _DEFLATED else ():
        if stored > most:
            break
        stored += budget.inflated_bytes(content[at : at + length], most - stored)
    if stored > most:
        raise ValueError("more pixels than promised")
    if packing in _UNCOUNTED and bits[0] == 1:
        # Pixels of 8 bits whose tag was damaged decode as a blank picture of single bits, and nothing tells.
        raise ValueError("single bits in a packing whose pixels cannot be counted")


def _most_bytes(tags: Any, pixel_bits: int) -> int:
    """Unpacked, of a page; the last strip may be filled, and every tile is."""
    rows, columns = tags[_ROWS], tags[_COLUMNS]
    if _TILE_COLUMNS not in tags:
        spare = min(tags.get(_ROWS_A_STRIP, rows), rows)
        return int((rows + spare) * -(-columns * pixel_bits // 8))
    high, wide = tags[_TILE_ROWS], tags[_TILE_COLUMNS]
    if high > rows + _TILE_MARGIN or wide > columns + _TILE_MARGIN:
        raise ValueError("tiles far larger than the picture")
    return int(-(-rows // high) * -(-columns // wide) * high * -(-wide * pixel_bits // 8))


def _check_apart(places: list[tuple[int, int]]) -> None:
    """Refuses strips that share bytes: a small file would have as many pixels as it names the same strip."""
    end = 0
    for at, length in sorted(place for place in places if place[1]):
        budget.check_time()
        if at < end:
            raise ValueError("strips or tiles overlap")
        end = at + length
