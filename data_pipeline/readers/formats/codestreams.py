"""Compressed pixels of a DICOM file say their size themselves: it is compared with the header's before a decoder runs.

A decoder takes the memory that the codestream asks for, whatever the header says.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pydicom
from pydicom.encaps import generate_frames
from pydicom.uid import RLELossless

from data_pipeline.readers import budget
from data_pipeline.readers.formats.dicom_file import entry
from data_pipeline.scan import ScanError

_SOI, _SOS, _EOI = 0xD8, 0xDA, 0xD9
_SOF = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
"""Markers of JPEG that begin a frame; 0xF7 is that of JPEG-LS."""

_J2K_BEGIN, _JP2_BEGIN, _JP2_CODESTREAM = b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ", b"jp2c"
_J2K_TILES_MAX = 4096
_RLE_HEADER, _RLE_SEGMENTS_MAX, _RLE_REPEATED_FROM = 64, 15, 129


@dataclasses.dataclass(frozen=True)
class _Size:
    rows: int
    columns: int
    samples: int
    bits: int


def decoded_pixels(header: pydicom.Dataset, source: str) -> np.ndarray:
    """Stored values of a file, decoded by whatever decoder pydicom has.

    Args:
      header: of the file, with its pixels.
      source: begins the message.

    Raises:
      ScanError: a compressed frame has other rows, columns or samples than the header, or more bits.
      Exception: damaged frames fail in many ways.
    """
    if header.file_meta.TransferSyntaxUID.is_encapsulated:
        _check_frames(header, source)
    return header.pixel_array


def _check_frames(header: pydicom.Dataset, source: str) -> None:
    stated = _Size(
        entry(header, "Rows", int, 0),
        entry(header, "Columns", int, 0),
        entry(header, "SamplesPerPixel", int, 1),
        entry(header, "BitsAllocated", int, 0),
    )
    offsets, lengths = header.get("ExtendedOffsetTable", b""), header.get("ExtendedOffsetTableLengths", b"")
    frames = generate_frames(
        header.PixelData,
        number_of_frames=entry(header, "NumberOfFrames", int, 1) or 1,
        extended_offsets=(offsets, lengths) if offsets and len(offsets) == len(lengths) else None,
    )
    for frame in frames:
        budget.check_time()
        if header.file_meta.TransferSyntaxUID == RLELossless:
            _check_rle(frame, stated)
            continue
        size = _size_of_j2k(frame) if frame.startswith((_J2K_BEGIN, _JP2_BEGIN)) else _size_of_jpeg(frame)
        if dataclasses.replace(size, bits=stated.bits) != stated or size.bits > stated.bits:
            raise ScanError(
                f"{source}: a compressed frame has another size than the header says; export it uncompressed"
            )


def _size_of_jpeg(stream: bytes) -> _Size:
    """What the frame header of a JPEG or JPEG-LS says; a second one before the pixels is refused."""
    found: list[_Size] = []
    at = 0
    while True:
        budget.check_time()
        while stream[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        if stream[at] != 0xFF:
            raise ValueError("no marker")
        marker, at = stream[at + 1], at + 2
        if marker == _SOI and at == 2:
            continue
        if marker in (_SOS, _EOI):
            break
        if marker in _SOF:
            rows, columns = int.from_bytes(stream[at + 3 : at + 5]), int.from_bytes(stream[at + 5 : at + 7])
            found.append(_Size(rows, columns, stream[at + 7], stream[at + 2]))
        at += int.from_bytes(stream[at : at + 2])
    (size,) = found
    return size


def _size_of_j2k(stream: bytes) -> _Size:
    """What the header of a JPEG 2000 codestream says, which may lie in the boxes of a JP2 file."""
    at = 0
    while stream.startswith(_JP2_BEGIN) and stream[at + 4 : at + 8] != _JP2_CODESTREAM:
        budget.check_time()
        at += max(int.from_bytes(stream[at : at + 4]), 8)
        if at >= len(stream):
            raise ValueError("no codestream")
    at += 8 if stream.startswith(_JP2_BEGIN) else 0
    if not stream.startswith(_J2K_BEGIN, at):
        raise ValueError("no codestream")
    width, height, left, top, tile_width, tile_height, tile_left, tile_top = (
        int.from_bytes(stream[place : place + 4]) for place in range(at + 8, at + 40, 4)
    )
    if -(-(width - tile_left) // tile_width) * -(-(height - tile_top) // tile_height) > _J2K_TILES_MAX:
        raise ValueError("more tiles than a scan has")
    samples = int.from_bytes(stream[at + 40 : at + 42])
    bits = max((stream[at + 42 + 3 * sample] & 0x7F) + 1 for sample in range(samples))
    return _Size(height - top, width - left, samples, bits)


def _check_rle(frame: bytes, stated: _Size) -> None:
    """Refuses segments that unpack to more than twice the pixels: padding is less, and runs repeat 64 times."""
    count = int.from_bytes(frame[:4], "little")
    if count != stated.samples * -(-stated.bits // 8) or count > _RLE_SEGMENTS_MAX:
        raise ValueError("another number of segments")
    places = [int.from_bytes(frame[4 * n : 4 * n + 4], "little") for n in range(1, count + 1)]
    if places[0] < _RLE_HEADER or places != sorted(places):
        raise ValueError("segments overlap")
    for begin, end in zip(places, [*places[1:], len(frame)], strict=True):
        budget.check_time()
        _check_segment(frame, begin, end, 2 * stated.rows * stated.columns + _RLE_REPEATED_FROM)


def _check_segment(frame: bytes, at: int, end: int, most: int) -> None:
    total = 0
    while at < end and total <= most:
        head = frame[at]
        if head >= _RLE_REPEATED_FROM:
            total, at = total + 257 - head, at + 2
        elif head < _RLE_REPEATED_FROM - 1:
            total, at = total + head + 1, at + head + 2
        else:
            total, at = total + 1, at + 1  # nothing, which costs time
    if total > most:
        raise ValueError("more pixels than the header says")
