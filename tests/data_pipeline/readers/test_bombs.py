"""Small files that would unpack to far more than a scan: one line, before the memory is taken or the time is over."""

from __future__ import annotations

import ast
import gzip
import struct
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

from data_pipeline.annotations.pixels import pages_of, read_pixel_mask
from data_pipeline.annotations.target import Target
from data_pipeline.readers import budget, read_scans
from data_pipeline.readers.damage import read_or_refuse
from data_pipeline.readers.formats import dicom_file, tiff
from data_pipeline.readers.formats.images import open_picture
from data_pipeline.scan import ScanError
from tests.user_files import body_scan, nm_header, save_dicom

ROOT = Path(__file__).parents[3]
BODY = body_scan()
BOMB_BYTES = 48 << 20
"""What the bombs of these tests unpack to; reading one may take an eighth of it."""


@contextmanager
def _little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < BOMB_BYTES // 8
    finally:
        tracemalloc.stop()


def _refusal(read: Callable[[], object]) -> str:
    with pytest.raises(ScanError) as refused:
        read()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def _tiff(path: Path, strips: Sequence[tuple[int, int]], stored: bytes, **tags: int) -> Path:
    """A TIFF of 64 x 64 pixels of 8 bits with strips or tiles at (place in `stored`, length); tags may be replaced."""
    of_tiles = "t322" in tags
    known = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1} | ({} if of_tiles else {278: -(-64 // len(strips))})
    known |= {int(name[1:]): value for name, value in tags.items()}
    lists = {324 if of_tiles else 273: [8 + at for at, _ in strips], 325 if of_tiles else 279: [n for _, n in strips]}
    entries, extra = [], b""
    first = 8 + len(stored) + 2 + 12 * (len(known) + 2) + 4
    for tag, values in sorted(({tag: [value] for tag, value in known.items()} | lists).items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(packed) > 4:
            packed, extra = struct.pack("<I", first + len(extra)), extra + packed
        entries.append(struct.pack("<HHI", tag, 4, len(values)) + packed)
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(stored)) + stored + directory + extra)
    return path


def test_a_tiff_unpacks_to_no_more_than_its_pixels(tmp_path: Path) -> None:
    pixels = np.arange(64 * 64, dtype=np.uint8).tobytes()
    whole = zlib.compress(pixels)
    with open_picture(_tiff(tmp_path / "a.tif", [(0, len(whole))], whole)) as picture:
        assert np.asarray(picture).tobytes() == pixels
    tile = {"t322": 64, "t323": 64}
    with open_picture(_tiff(tmp_path / "tiled.tif", [(0, len(whole))], whole, **tile)) as picture:
        assert np.asarray(picture).tobytes() == pixels
    bomb = zlib.compress(bytes(BOMB_BYTES))
    of_strips = _tiff(tmp_path / "strips.tif", [(0, len(bomb))], bomb)
    of_tiles = _tiff(tmp_path / "tiles.tif", [(0, len(bomb))], bomb, **tile)
    with _little_memory():
        for path in (of_strips, of_tiles):
            assert "cannot be decoded" in _refusal(lambda path=path: read_scans(path))  # type: ignore[misc]
            assert "cannot be decoded" in _refusal(lambda path=path: read_pixel_mask(path, kind="lesions", labels={}))  # type: ignore[misc]
            with pytest.raises(OSError, match="damaged \\(ValueError"), open_picture(path.read_bytes()):
                pass  # as within an outline


@pytest.mark.parametrize("packing", [1, 5, 8])
def test_strips_of_a_tiff_share_no_bytes(tmp_path: Path, packing: int) -> None:
    strip = {1: bytes(64 * 32), 5: b"\x80\0", 8: zlib.compress(bytes(64 * 32))}[packing]
    for second in (0, len(strip) - 1):
        path = _tiff(tmp_path / "a.tif", [(0, len(strip)), (second, len(strip))], strip * 2, t259=packing)
        with pytest.raises(OSError, match="damaged \\(ValueError"), open_picture(path):
            pass


def test_tiles_far_larger_than_their_picture_are_not_unpacked(tmp_path: Path) -> None:
    """Libtiff takes the memory of a whole tile, which may be 2 GiB, for a picture of 64 x 64 pixels."""
    path = _tiff(tmp_path / "a.tif", [(0, 2)], b"\x80\0", t259=5, t322=1 << 15, t323=1 << 15)
    with pytest.raises(OSError, match="damaged \\(ValueError"), open_picture(path):
        pass


def test_pages_of_a_tiff_have_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [Image.fromarray(np.full((32, 32), page, np.uint8)) for page in range(3)]
    path = tmp_path / "s_mask.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_adobe_deflate")
    assert pages_of(path) == 3
    for limit, most in (("MAX_PAGES", 2), ("MAX_PIXELS", 3 * 32 * 32 - 1)):
        with monkeypatch.context() as patched:
            patched.setattr(tiff, limit, most)
            line = _refusal(lambda: read_pixel_mask(path, kind="lesions", labels={}))
            assert line == f"{path}: more pages or pixels than a planar scan has; save one page for each view"


@pytest.mark.parametrize("preamble", [True, False])
def test_a_deflated_dicom_unpacks_within_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preamble: bool
) -> None:
    header = nm_header(BODY)
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    header.add_new(0x7FE1_0010, "OB", bytes(BOMB_BYTES))
    path = save_dicom(header, tmp_path / "a.dcm")
    content = path.read_bytes()
    path.write_bytes(content if preamble else content[132:])
    monkeypatch.setattr(budget, "MAX_FILE_BYTES", 1 << 20)
    with _little_memory():
        assert "unpacks to more than 1 MiB" in _refusal(lambda: read_scans(path))


def test_a_deflated_dicom_without_preamble_is_read(tmp_path: Path) -> None:
    header = nm_header(BODY)
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save_dicom(header, tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes()[132:])
    (scan,) = read_scans(path)
    np.testing.assert_array_equal(scan.counts, BODY)


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("of", ["elements", "items"])
def test_a_dicom_has_no_entries_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deflated: bool, of: str
) -> None:
    """An element or item of 8 bytes takes 400 bytes of memory."""
    header = nm_header(BODY)
    if deflated:
        header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    for number in range(1000 if of == "elements" else 0):
        header.add_new(0x7FDF_0000 + number, "LO", "")
    if of == "items":
        header.add_new(0x7FDF_0010, "SQ", [pydicom.Dataset() for _ in range(1000)])
        header[0x7FDF_0010].is_undefined_length = True
    path = save_dicom(header, tmp_path / "a.dcm")
    monkeypatch.setattr(dicom_file, "MAX_READS", 10_000)
    np.testing.assert_array_equal(read_scans(path)[0].counts, BODY)
    monkeypatch.setattr(dicom_file, "MAX_READS", 1000)
    line = _refusal(lambda: read_scans(path))
    assert line == f"{path}: far more header entries than a scan has; export the scan itself"


def test_a_nifti_mask_unpacks_within_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = nibabel.Nifti1Image(np.ones((16, 16, 1), np.uint8), np.diag([-5.0, -5.0, 1.0, 1.0]))
    extension = struct.pack("<ii", BOMB_BYTES, 6) + bytes(BOMB_BYTES - 8)
    content = bytearray(image.to_bytes())
    content[108:112] = struct.pack("<f", 352 + BOMB_BYTES)
    content[348:352] = b"\1\0\0\0"
    path = tmp_path / "a_mask.nii.gz"
    path.write_bytes(gzip.compress(bytes(content[:352]) + extension + bytes(content[352:]), 1))
    monkeypatch.setattr(budget, "MAX_FILE_BYTES", 1 << 20)
    with _little_memory():
        assert "unpacks to more than 1 MiB" in _refusal(lambda: read_pixel_mask(path, kind="lesions", labels={}))


def test_files_are_unpacked_in_one_place() -> None:
    """Whatever inflates without being told how much could take all memory: `budget` knows a limit."""
    unpackers = {"gzip", "bz2", "lzma", "zlib", "nibabel", "nib", "pydicom"}
    calls = {"decompress", "decompressobj", "open", "GzipFile", "BZ2File", "LZMAFile", "load", "dcmread", "read_file"}
    found = set()
    for folder in ("data_pipeline", "msanet_jax", "configs", "experiments"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                called = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
                if called.partition(".")[0] in unpackers and called.partition(".")[2] in calls:
                    found.add((path.name, called))
                if isinstance(node, ast.ImportFrom) and node.module in unpackers:
                    found |= {(path.name, alias.name) for alias in node.names if alias.name in calls}
                if isinstance(node, ast.Attribute) and node.attr == "pixel_array":
                    found.add((path.name, node.attr))
    assert found == {
        ("budget.py", "zlib.decompressobj"),
        ("dicom_file.py", "pydicom.dcmread"),
        ("codestreams.py", "pixel_array"),
    }


def test_reading_has_an_end_in_any_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No alarm reaches a thread, as that of `msanet serve`: the loops look at the clock."""
    header = nm_header(BODY)
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    scan = save_dicom(header, tmp_path / "a.dcm")
    picture = tmp_path / "a.tif"
    Image.fromarray(np.ones((32, 32), np.uint8)).save(picture, compression="tiff_adobe_deflate")
    monkeypatch.setattr(budget, "MAX_SECONDS", -1.0)
    lines: list[str] = []
    for path in (scan, picture):
        reading = threading.Thread(target=lambda path=path: lines.append(_refusal(lambda: read_scans(path))))  # type: ignore[misc]
        reading.start()
        reading.join(60)
    assert lines == [
        f"{path}: reading it took more than -1 s; damaged or a trap: export it again" for path in (scan, picture)
    ]


def test_a_slow_loop_ends_in_any_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(path: Path) -> None:
        while True:
            time.sleep(0.001)
            budget.check_time()

    monkeypatch.setattr(budget, "MAX_SECONDS", 0.05)
    lines: list[str] = []
    reading = threading.Thread(
        target=lambda: lines.append(_refusal(lambda: read_or_refuse(tmp_path / "a", slow))), daemon=True
    )
    reading.start()
    reading.join(60)
    assert lines == [f"{tmp_path / 'a'}: reading it took more than 0.05 s; damaged or a trap: export it again"]
    budget.check_time()  # no limit outside


def test_several_jpegs_in_one_file_are_no_mask(tmp_path: Path) -> None:
    """Pillow calls them MPO, whatever formats it was asked for."""
    mask = Image.fromarray((np.indices((32, 32)).sum(0) > 50).astype(np.uint8) * 255)
    path = tmp_path / "s_mask.png"
    mask.save(path, "MPO", save_all=True, append_images=[mask])
    packed = tmp_path / "s_mask.tif"
    mask.save(packed, compression="jpeg")
    for file, target in ((path, Target(page=0, pages=2, paged=True)), (packed, Target())):
        line = _refusal(
            lambda file=file, target=target: read_pixel_mask(file, kind="lesions", labels={}, target=target)
        )  # type: ignore[misc]
        assert line == f"{file}: JPEG changes the values of a mask; save it as PNG"
    assert "lossy compression: the counts are not original" in read_scans(packed)[0].warnings
