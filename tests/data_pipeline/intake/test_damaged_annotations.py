"""Annotation files with wrong bytes in them: one line each, never a traceback, and never the scan's loss."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from data_pipeline.annotations.dicom_seg import read_segmentation
from data_pipeline.errors import RequestError
from data_pipeline.intake.annotate import annotate
from data_pipeline.intake.pairing import pair_files
from data_pipeline.readers.sources import open_source
from data_pipeline.scan import Scan, View
from tests.user_files import body_scan, nm_header, save_dicom, save_segmentation

SHAPE = (32, 24)
MASK = np.zeros(SHAPE, np.uint8)
MASK[5:9, 6:12] = 1
COPIES = 120


def _png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def _labelme(mask: bytes) -> str:
    shapes = [
        {"label": "lesion", "shape_type": "mask", "points": [[6, 5], [11, 8]], "mask": base64.b64encode(mask).decode()},
        {"label": "benign", "shape_type": "circle", "points": [[15, 20], [18, 20]], "group_id": 3},
    ]
    return json.dumps({"imagePath": "a.npy", "imageHeight": 32, "imageWidth": 24, "shapes": shapes})


def _write(form: str, folder: Path) -> Path:
    """A sound annotation of `a.npy`."""
    if form == "labelme":
        (path := folder / "a.json").write_text(_labelme(_png(MASK[5:9, 6:12] * 255)))
    elif form == "coco":
        parts = [{"segmentation": [[6, 5, 12, 5, 12, 9, 6, 9]]}, {"bbox": [3, 20, 4, 4]}]
        parts.append({"segmentation": {"size": list(SHAPE), "counts": [100, 20, 648]}})
        content = {
            "images": [{"id": 1, "file_name": "a.npy", "height": 32, "width": 24}],
            "categories": [{"id": 1, "name": "lesion"}],
            "annotations": [
                {"id": number, "image_id": 1, "category_id": 1, **part} for number, part in enumerate(parts)
            ],
        }
        (path := folder / "coco.json").write_text(json.dumps(content))
    elif form == "voc":
        box = "<bndbox><xmin>7</xmin><ymin>6</ymin><xmax>12</xmax><ymax>9</ymax></bndbox>"
        size = "<size><width>24</width><height>32</height></size>"
        (path := folder / "a.xml").write_text(
            f"<annotation>{size}<object><name>Abnormal</name>{box}</object></annotation>"
        )
    elif form == "npy":
        np.save(path := folder / "a_mask.npy", MASK)
    elif form == "nii":
        nibabel.save(nibabel.Nifti1Image(MASK.T[:, :, None], np.diag([-2.0, -2, 1, 1])), path := folder / "a_mask.nii")
    else:
        options = {"compression": "tiff_lzw"} if form == "tif" else {}
        Image.fromarray(MASK).save(path := folder / f"a_mask.{form}", **options)
    return path


def _read(folder: Path) -> tuple[bool, list[str]]:
    """Whether anything was annotated, and the lines about what was not."""
    scan = Scan(np.ones(SHAPE, np.int32), None, View.UNKNOWN, "p", "a.npy")
    with open_source(folder) as source:
        pairing = pair_files(source)
        (file,) = pairing.scans
        annotated = annotate(scan, file, frame=0, views=[scan.view], segments={}, labels={})
    found = annotated.annotation
    return bool(found.masks or found.boxes), [line for _, line in (*pairing.problems, *annotated.problems)]


@pytest.mark.parametrize("form", ["labelme", "coco", "voc", "png", "tif", "npy", "nii"])
def test_wrong_bytes_give_one_line(tmp_path: Path, form: str) -> None:
    np.save(tmp_path / "a.npy", np.ones(SHAPE, np.int32))
    path = _write(form, tmp_path)
    assert _read(tmp_path) == (True, [])
    sound, random = path.read_bytes(), np.random.default_rng(7)
    told = 0
    for number in range(COPIES):
        damaged = bytearray(sound)
        for place in random.integers(0, len(damaged), random.integers(1, 4)):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(damaged[: random.integers(1, len(damaged))] if number % 6 == 0 else damaged)
        _, lines = _read(tmp_path)
        told += bool(lines)
        assert len(lines) <= 1 and not any("\n" in line or "Traceback" in line for line in lines), lines
    assert told > COPIES // 10


def test_wrong_bytes_in_a_segmentation_give_one_line(tmp_path: Path) -> None:
    save_segmentation(save_dicom(nm_header(body_scan()), tmp_path / "scan.dcm"), tmp_path / "seg.dcm")
    sound, random = (tmp_path / "seg.dcm").read_bytes(), np.random.default_rng(7)
    told = 0
    for _ in range(COPIES // 2):
        damaged = bytearray(sound)
        # The end is pixels, where any byte is right.
        for place in random.integers(0, 4000, 6):
            damaged[place] = random.integers(0, 256)
        (tmp_path / "seg.dcm").write_bytes(damaged)
        try:
            read_segmentation(tmp_path / "seg.dcm", labels={})
        except RequestError as error:
            told += 1
            assert "\n" not in str(error) and str(error).startswith(f"{tmp_path / 'seg.dcm'}: ")
    assert told > COPIES // 20


def test_shapes_that_are_none_and_pictures_that_would_fill_the_memory(tmp_path: Path) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )
    np.save(tmp_path / "a.npy", np.ones(SHAPE, np.int32))
    path = tmp_path / "a.json"
    for text in (
        _labelme(bomb),
        _labelme(_png(MASK)[:50]),
        json.dumps({"imagePath": "a.npy", "shapes": ["x"]}),
        _labelme(_png(MASK)).replace("[6, 5]", "[-6, 5]"),
    ):
        path.write_text(text)
        found, (line,) = _read(tmp_path)
        assert not found
        assert line.removeprefix(f"{path}: shape 1 ") in (
            "is damaged; draw it again",
            "lies partly outside the picture; draw it again",
        )


def test_a_png_with_a_wrong_checksum_is_no_empty_mask(tmp_path: Path) -> None:
    """Zeros in the packed pixels: zlib decodes them to an empty picture, and never comes to its own checksum."""
    np.save(tmp_path / "a.npy", np.ones(SHAPE, np.int32))
    path = _write("png", tmp_path)
    content = path.read_bytes()
    pixels = content.index(b"IDAT") + 4
    length = int.from_bytes(content[pixels - 8 : pixels - 4], "big")
    packer = zlib.compressobj()
    packed = packer.compress(bytes(SHAPE[0] * (SHAPE[1] + 1))) + packer.flush(zlib.Z_SYNC_FLUSH)
    packed += b"\0\xe8\x03\x17\xfc"  # and the begin of 1000 bytes more
    assert len(packed) <= length
    path.write_bytes(content[:pixels] + packed.ljust(length, b"\0") + content[pixels + length :])
    found, lines = _read(tmp_path)
    assert not found and ["the mask cannot be decoded" in line for line in lines] == [True]


def test_a_tiff_with_damaged_pixels_is_no_empty_mask(tmp_path: Path) -> None:
    """As of a PNG: libtiff stops before the checksum of packed pixels."""
    np.save(tmp_path / "a.npy", np.ones(SHAPE, np.int32))
    whole = io.BytesIO()
    Image.fromarray(MASK).save(whole, "TIFF", compression="tiff_adobe_deflate")
    content = whole.getvalue()
    packed = zlib.compress(MASK.tobytes())
    at = content.index(packed[:2], 8)
    length = len(zlib.compress(MASK.tobytes(), 6))
    packer = zlib.compressobj()
    zeros = packer.compress(bytes(SHAPE[0] * SHAPE[1])) + packer.flush(zlib.Z_SYNC_FLUSH) + b"\0\xe8\x03\x17\xfc"
    damaged = content[:at] + zeros[:length].ljust(length, b"\0") + content[at + length :]
    bits = content.index(b"\x02\x01\x03\x00\x01\x00\x00\x00\x08") + 8
    one_bit = content[:bits] + b"\x01" + content[bits + 1 :]  # the first eighth of the pixels, all of them 0
    for written, wanted in ((content, []), (damaged, [True]), (one_bit, [True])):
        (tmp_path / "a_mask.tif").write_bytes(written)
        _, lines = _read(tmp_path)
        assert ["the mask cannot be decoded" in line for line in lines] == wanted


def test_a_tiff_without_its_bits_per_sample_is_no_empty_mask(tmp_path: Path) -> None:
    """One damaged tag, and the packed pixels decode as bits, of which the first are all 0."""
    np.save(tmp_path / "a.npy", np.ones(SHAPE, np.int32))
    path = _write("tif", tmp_path)
    content = path.read_bytes()
    tag = content.index(b"\x02\x01\x03\x00\x01\x00\x00\x00")  # 258, SHORT, one value
    path.write_bytes(content[:tag] + b"\0\0" + content[tag + 2 :])
    with Image.open(path, formats=["TIFF"]) as decoded:
        assert decoded.mode == "1"
    found, lines = _read(tmp_path)
    assert not found and ["the mask cannot be decoded" in line for line in lines] == [True]
