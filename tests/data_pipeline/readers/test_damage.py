"""Damaged files and lying headers: one line each, that quotes nothing of what is in the file."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from data_pipeline.annotations.dicom_seg import read_segmentation
from data_pipeline.annotations.pixels import read_pixel_mask
from data_pipeline.readers import budget, read_scans
from data_pipeline.readers.damage import read_or_refuse
from data_pipeline.readers.formats.dicom import read_modality
from data_pipeline.scan import ScanError
from tests.user_files import body_scan, nm_header, save_dicom, save_picture

COUNTS = np.random.default_rng(0).poisson(20, (32, 24)).astype(np.int32)
DAMAGED_COPIES = 120
# Bytes before the pixels, and between them, are where a flip does harm.
PIXEL_BYTES = {".dcm": 32 * 24 * 2}


def _refusal(path: Path, read: Callable[[Path], object] = read_scans) -> str:
    with pytest.raises(ScanError) as refused:
        read(path)
    line = str(refused.value)
    assert line.startswith(f"{path}: ") and "\n" not in line
    return line.removeprefix(f"{path}: ")


def _dicom(path: Path, syntax: str) -> Path:
    header = nm_header(COUNTS)
    if syntax == "rle":
        header.compress(pydicom.uid.RLELossless)
    if syntax == "implicit":
        header.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        header.save_as(path, implicit_vr=True, little_endian=True)
        return path
    return save_dicom(header, path)


def _nifti(path: Path) -> Path:
    nibabel.save(nibabel.Nifti1Image(COUNTS.astype(np.int16), np.diag([-5, -5, 1, 1])), path)
    return path


def _numpy(path: Path) -> Path:
    np.save(path, COUNTS)
    return path


def _lzw(path: Path) -> Path:
    Image.fromarray(COUNTS.astype(np.uint16)).save(path, compression="tiff_lzw")
    return path


def _jpeg(path: Path) -> Path:
    Image.fromarray(COUNTS.astype(np.uint8)).save(path)
    return path


FORMATS: dict[str, Callable[[Path], Path]] = {
    "explicit.dcm": lambda path: _dicom(path, "explicit"),
    "implicit.dcm": lambda path: _dicom(path, "implicit"),
    "rle.dcm": lambda path: _dicom(path, "rle"),
    "grey.png": lambda path: save_picture(COUNTS, path),
    "plain.tif": lambda path: save_picture(COUNTS, path),
    "lzw.tif": _lzw,
    "lossy.jpg": _jpeg,
    "array.npy": _numpy,
    "plain.nii": _nifti,
    "packed.nii.gz": _nifti,
}


@pytest.mark.parametrize("name", FORMATS)
def test_flipped_bytes_never_end_in_a_traceback(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = FORMATS[name](tmp_path / name)
    whole = path.read_bytes()
    read_scans(path)
    reachable = len(whole) - (PIXEL_BYTES.get(path.suffix, 0) if name != "rle.dcm" else 0)
    generator = np.random.default_rng(len(whole))
    refused = 0
    for _ in range(DAMAGED_COPIES):
        copy = bytearray(whole)
        for _ in range(generator.integers(1, 5)):
            copy[generator.integers(0, reachable)] = generator.integers(0, 256)
        path.write_bytes(copy[: generator.integers(1, len(copy))] if generator.random() < 0.15 else copy)
        try:
            read_scans(path)
            if path.suffix != ".dcm":
                read_pixel_mask(path, kind="lesions", labels={})
        except ScanError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    assert refused > 0
    assert capfd.readouterr().err == "", "decoders' own lines stay unseen"


@pytest.mark.parametrize("failure", [NotImplementedError("x"), TypeError("ERIKA"), RecursionError()])
def test_any_failure_of_a_reader_is_one_line(tmp_path: Path, failure: Exception) -> None:
    def read(path: Path) -> None:
        raise failure

    line = _refusal(tmp_path / "a.dcm", lambda path: read_or_refuse(path, read))
    assert line == f"damaged ({type(failure).__name__}); export it again"


def test_refusals_name_the_entry_not_its_content(tmp_path: Path) -> None:
    path = save_dicom(nm_header(body_scan(1)), tmp_path / "a.dcm")
    content = path.read_bytes()
    assert content.count(b"4.52\\4.52 ") == 1
    path.write_bytes(content.replace(b"4.52\\4.52 ", b"ERIKA\\1964"))
    assert _refusal(path) == "the header entry cannot be read (PixelSpacing, ValueError); export the file again"
    header = nm_header(body_scan(1))
    header.Modality = "ERIKA"
    save_dicom(header, path)
    assert _refusal(path).startswith("modality unknown; ")
    assert read_modality(path) == ""
    header.Modality = "PT"
    save_dicom(header, path)
    assert _refusal(path).startswith("modality PT; ")
    assert read_modality(path) == "PT"


def test_more_pixels_than_memory_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = nm_header(COUNTS)
    header.NumberOfFrames, header.Rows, header.Columns = 60, 8000, 8000
    path = save_dicom(header, tmp_path / "huge.dcm")
    decoded = []
    monkeypatch.setattr(pydicom.Dataset, "pixel_array", property(decoded.append))
    assert "60 frames of 8000 x 8000 pixels are too many" in _refusal(path)
    header.Modality, header.NumberOfFrames = "SEG", 1000
    save_dicom(header, path)
    assert "1000 frames of 8000 x 8000" in _refusal(path, lambda seg: read_segmentation(seg, labels={}))
    assert not decoded


def test_lossy_jpeg_that_nobody_decodes(tmp_path: Path) -> None:
    line = _refusal(Path(get_testdata_file("JPEG-lossy.dcm")))
    assert "transfer syntax JPEG Extended" in line
    assert "export it lossless or uncompressed" in line


def test_gzip_of_many_members_is_that_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [random.Random(size).randbytes(size) * 3 for size in (0, 1, 50, 0, 700)]
    packed = b"".join(gzip.compress(content) + bytes(number) for number, content in enumerate(contents))
    raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = raw.compress(contents[-1]) + raw.flush()
    for feed, chunk in ((1, 1), (7, 1000), (1 << 14, 13), (1 << 14, 1 << 20)):
        monkeypatch.setattr(budget, "_FEED", feed)
        monkeypatch.setattr(budget, "_CHUNK", chunk)
        assert budget.inflate(packed, Path("a"), gzip=True) == b"".join(contents)
        with pytest.raises(ScanError, match="a: ends too early"):
            budget.inflate(packed[:-30], Path("a"), gzip=True)
        assert budget.inflate(deflated + b"\0padding", Path("a")) == contents[-1]


def test_empty_members_cost_no_more_than_their_bytes() -> None:
    """Zlib copies what lies behind a member: of 100,000 members in one piece that would be 100 GB."""
    assert budget.inflate(gzip.compress(b"") * 100_000 + gzip.compress(b"x"), Path("a"), gzip=True) == b"x"


def test_small_floats_are_compared_without_a_warning(tmp_path: Path) -> None:
    np.save(tmp_path / "a_ant.npy", body_scan().astype(np.float16))
    (scan,) = read_scans(tmp_path / "a_ant.npy")
    np.testing.assert_array_equal(scan.counts, body_scan())
