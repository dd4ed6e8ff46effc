"""Compressed pixels of DICOM files whose codestream is larger than the header says never reach a decoder."""

from __future__ import annotations

import io
import os
import re
import struct
import threading
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from data_pipeline.annotations.dicom_seg import read_segmentation
from data_pipeline.readers import read_scans
from data_pipeline.readers.damage import read_or_refuse
from data_pipeline.readers.formats.codestreams import decoded_pixels
from data_pipeline.readers.formats.dicom_file import read_dicom_file
from data_pipeline.scan import ScanError
from tests.user_files import nm_header, save_dicom

SIDE = 64
PIXELS = np.random.default_rng(0).poisson(20, (SIDE, SIDE)).astype(np.uint8)
OTHER = struct.pack(">H", 30_000)
SYNTAX = {
    "jpeg": JPEGBaseline8Bit,
    "lossless": JPEGLosslessSV1,
    "ls": JPEGLSLossless,
    "j2k": JPEG2000Lossless,
    "jp2": JPEG2000Lossless,
    "rle": RLELossless,
}


def _header(kind: str) -> pydicom.Dataset:
    header = nm_header(PIXELS)
    header.BitsAllocated, header.BitsStored, header.HighBit = 8, 8, 7
    header.PixelData = PIXELS.tobytes()
    if kind in ("ls", "rle"):
        header.compress(SYNTAX[kind])
    return header


def _stream(kind: str) -> bytes:
    if kind in ("ls", "rle"):
        return next(generate_frames(_header(kind).PixelData, number_of_frames=1))
    if kind == "lossless":  # of its header and one table, since nothing here writes it
        frame = b"\xff\xc3" + struct.pack(">HBHHB", 11, 8, SIDE, SIDE, 1) + b"\1\x11\0"
        return b"\xff\xd8" + frame + b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\1\0\1\0\0" + bytes(100) + b"\xff\xd9"
    file, form = io.BytesIO(), "JPEG" if kind == "jpeg" else "JPEG2000"
    options = {"quality": 95} if kind == "jpeg" else {"no_jp2": kind == "j2k", "irreversible": False}
    Image.fromarray(PIXELS).save(file, form, **options)
    return file.getvalue()


def _file(path: Path, kind: str, *frames: bytes, allocated: int = 8) -> Path:
    header = _header(kind)
    header.file_meta.TransferSyntaxUID = SYNTAX[kind]
    header.BitsAllocated = allocated
    header.PixelData = encapsulate([frame + b"\0" * (len(frame) % 2) for frame in frames])
    header["PixelData"].VR = "OB"
    header.NumberOfFrames = len(frames)
    return save_dicom(header, path)


SIZE = "a compressed frame has another size than the header says; export it uncompressed"
DAMAGED = r"\(transfer syntax .*, ValueError\)|segmentation cannot be read"


def _refused_before_decoding(path: Path, monkeypatch: pytest.MonkeyPatch, said: str = DAMAGED) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(pydicom.Dataset, "pixel_array", property(lambda header: pytest.fail("was decoded")))
        for read in (read_scans, lambda path: read_segmentation(path, labels={})):
            with pytest.raises(ScanError, match=f"^{re.escape(str(path))}: .*({said})"):
                read(path)


@pytest.mark.parametrize("kind", ["jpeg", "ls", "j2k", "jp2", "rle"])
def test_frames_of_the_size_that_the_header_says_are_read(tmp_path: Path, kind: str) -> None:
    (scan,) = read_scans(_file(tmp_path / "a.dcm", kind, _stream(kind)))
    assert np.abs(scan.counts - PIXELS.astype(int)).max() <= (8 if kind == "jpeg" else 0)


@pytest.mark.parametrize("kind", ["jpeg", "lossless", "ls", "j2k", "jp2"])
@pytest.mark.parametrize("what", ["rows", "columns", "samples", "bits"])
def test_frames_of_another_size_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, what: str
) -> None:
    stream = bytearray(_stream(kind))
    if kind in ("j2k", "jp2"):
        at = stream.index(b"\xff\x4f\xff\x51") + 2
        place, value = {"rows": (12, OTHER), "columns": (8, OTHER), "samples": (39, b"\3"), "bits": (40, b"\x0f")}[what]
    else:
        begin = {"jpeg": b"\xff\xc0", "lossless": b"\xff\xc3", "ls": b"\xff\xf7"}[kind]
        at = stream.index(begin)
        place, value = {"rows": (5, OTHER), "columns": (7, OTHER), "samples": (9, b"\3"), "bits": (4, b"\x10")}[what]
    stream[at + place : at + place + len(value)] = value
    _refused_before_decoding(_file(tmp_path / "a.dcm", kind, bytes(stream)), monkeypatch, SIZE)
    _refused_before_decoding(_file(tmp_path / "b.dcm", kind, _stream(kind), bytes(stream)), monkeypatch, SIZE)


def test_what_has_no_size_or_two_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _stream("jpeg")
    at = stream.index(b"\xff\xc0")
    frame = stream[at : at + 2 + int.from_bytes(stream[at + 2 : at + 4])]
    larger = frame[:5] + OTHER + frame[7:]
    endless = _stream("jp2")[:12] + struct.pack(">I", 1) + b"free" + bytes(40)
    for kind, content in (
        ("jpeg", stream[:at] + frame + larger + stream[at + len(frame) :]),
        ("jpeg", stream[:at] + stream[at + len(frame) :]),
        ("jpeg", b"anything"),
        ("j2k", endless),
    ):
        _refused_before_decoding(_file(tmp_path / "a.dcm", kind, content), monkeypatch)


def test_tiles_without_number_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = bytearray(_stream("j2k"))
    stream[24:32] = struct.pack(">II", 1, 1)  # XTsiz, YTsiz
    monkeypatch.setattr("data_pipeline.readers.formats.codestreams._J2K_TILES_MAX", SIDE * SIDE - 1)
    _refused_before_decoding(_file(tmp_path / "a.dcm", "j2k", bytes(stream)), monkeypatch)


def test_runs_that_repeat_more_than_the_pixels_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rle(*segments: bytes, places: tuple[int, ...] = ()) -> bytes:
        found = places or tuple(64 + sum(map(len, segments[:number])) for number in range(len(segments)))
        return struct.pack("<16I", len(found), *found, *[0] * (15 - len(found))) + b"".join(segments)

    whole = b"\x81\1" * (SIDE * SIDE // 128)
    header = read_dicom_file(_file(tmp_path / "a.dcm", "rle", rle(whole)))
    assert decoded_pixels(header, "a.dcm").sum() == SIDE * SIDE
    for frame, allocated in (
        (rle(whole * 3), 8),
        (rle(b"\x80" * (3 * SIDE * SIDE)), 8),
        (rle(whole, whole), 8),
        (rle(whole, places=(0, 64)), 16),
    ):
        _refused_before_decoding(_file(tmp_path / "b.dcm", "rle", frame, allocated=allocated), monkeypatch)


def test_decoders_lines_stay_unseen_in_any_thread(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    both = threading.Barrier(2)

    def write(path: Path) -> None:
        both.wait(60)
        for number in (1, 2):
            os.write(number, b"ERIKA\n")
        both.wait(60)

    readings = [threading.Thread(target=read_or_refuse, args=(tmp_path / "a", write)) for _ in range(2)]
    for reading in readings:
        reading.start()
    for reading in readings:
        reading.join(60)
    os.write(1, b"out\n")
    os.write(2, b"err\n")
    assert tuple(capfd.readouterr()) == ("out\n", "err\n")
