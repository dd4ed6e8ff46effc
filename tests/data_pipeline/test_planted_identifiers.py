"""A person's name, number and dates, planted wherever a format keeps texts, reach neither data sets nor results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image, PngImagePlugin
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from msanet_jax import cli
from msanet_jax.prediction.predict import Request, predict_with
from tests.fakes import HOT_MODEL
from tests.foreign import CORNERS, imported, seg, shapes
from tests.user_files import (
    BIRTH,
    COLUMNS,
    NAME,
    NUMBER,
    PLACE,
    ROWS,
    SECRETS,
    body_scan,
    lesion_mask,
    nm_header,
    save_dicom,
    save_picture,
    without_random_numbers,
)

PERSON = f"{NAME} {NUMBER} {BIRTH} {PLACE} Roentgenblick"
COUNTS = body_scan().astype(np.uint16)


def _exif() -> Image.Exif:
    """Description, maker, model, software, date, artist, host computer, copyright, comment, owner."""
    exif = Image.Exif()
    for tag in (270, 271, 272, 305, 306, 315, 316, 33432, 37510, 42032):
        exif[tag] = PERSON
    return exif


def _png(path: Path, values: np.ndarray = COUNTS) -> None:
    texts = PngImagePlugin.PngInfo()
    for key in ("Title", "Author", "Description", "Comment", "Creation Time", NAME):
        texts.add_text(key, PERSON)
    texts.add_text("Source", PERSON, zip=True)
    texts.add_itxt("XML:com.adobe.xmp", f"<x:xmpmeta>{PERSON}</x:xmpmeta>")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, pnginfo=texts, exif=_exif(), icc_profile=PERSON.encode() * 9)


def _tiff(path: Path, values: np.ndarray = COUNTS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = {tag: PERSON for tag in (269, 270, 271, 272, 285, 305, 306, 315, 316, 33432, 65000)} | {700: PERSON.encode()}
    Image.fromarray(values).save(path, tiffinfo=tags)


def _jpeg(path: Path, values: np.ndarray = COUNTS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.minimum(values, 255).astype(np.uint8)
    Image.fromarray(small).save(path, quality=100, exif=_exif(), comment=PERSON.encode())


def _coco(folder: Path) -> None:
    save_picture(COUNTS, folder / "scan1.png")
    text = {"description": PERSON, "contributor": PERSON, "date_created": BIRTH, "url": PERSON}
    content: dict[str, Any] = {
        "info": text,
        "licenses": [{"id": 1, "name": PERSON}],
        "images": [
            {
                "id": 1,
                "file_name": "scan1.png",
                "height": ROWS,
                "width": COLUMNS,
                "date_captured": BIRTH,
                "note": PERSON,
            }
        ],
        "categories": [{"id": 1, "name": "lesion", "supercategory": PERSON}],
        "annotations": [
            {
                "id": n,
                "image_id": 1,
                "category_id": 1,
                "segmentation": [np.ravel(c).tolist()],
                "author": PERSON,
                "s": text,
            }
            for n, c in enumerate(CORNERS)
        ],
    }
    (folder / "coco.json").write_text(json.dumps(content))


def _labelme(folder: Path) -> None:
    save_picture(COUNTS, folder / "scan1.png")
    content = shapes("polygon") | {"imagePath": "scan1.png", "imageData": None, "author": PERSON, "text": PERSON}
    content["shapes"] = [shape | {"description": PERSON, "attributes": {"by": PERSON}} for shape in content["shapes"]]
    (folder / "scan1.json").write_text(json.dumps(content))


def _voc(folder: Path) -> None:
    save_picture(COUNTS, folder / "scan1.png")
    save_picture(lesion_mask(), folder / "scan1_mask.png")
    (folder / "scan1.xml").write_text(
        f"<annotation><folder>{PERSON}</folder><filename>scan1.png</filename><path>/home/{PERSON}</path>"
        f"<source><annotation>{PERSON}</annotation></source><owner><name>{PERSON}</name></owner><size><width>{COLUMNS}"
        f"</width><height>{ROWS}</height></size><object><name>lesion</name><pose>{PERSON}</pose><bndbox><xmin>50</xmin>"
        "<ymin>120</ymin><xmax>54</xmax><ymax>126</ymax></bndbox></object></annotation>"
    )


def _seg(folder: Path) -> None:
    scan = nm_header(body_scan())
    save_dicom(scan, folder / "scan1.dcm")
    texts = {
        "PatientName": NAME,
        "PatientID": NUMBER,
        "PatientBirthDate": BIRTH,
        "ContentCreatorName": NAME,
        "InstitutionName": PLACE,
        "SeriesDescription": PERSON[:64],
        "ContentDescription": PERSON[:64],
        "OperatorsName": "Roentgenblick^Otto",
    }
    seg(folder / "seg.dcm", [scan], **texts)


def _picture(save: Callable[..., None], suffix: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        save(folder / f"scan1{suffix}")
        (_png if suffix == ".jpg" else save)(
            folder / f"scan1_mask{'.png' if suffix == '.jpg' else suffix}", lesion_mask()
        )

    return make


SOURCES = {
    "png": _picture(_png, ".png"),
    "tiff": _picture(_tiff, ".tif"),
    "jpeg": _picture(_jpeg, ".jpg"),
    "coco": _coco,
    "labelme": _labelme,
    "voc": _voc,
    "seg": _seg,
}


def _check(paths: list[Path], said: str) -> None:
    assert paths
    contents = {path: without_random_numbers(path.read_bytes()) for path in paths}
    for secret in SECRETS:
        assert secret not in said
        for path, content in contents.items():
            assert secret.encode() not in content and secret not in path.name, (path, secret)


@pytest.mark.parametrize("form", SOURCES)
def test_a_data_set_has_none_of_it(form: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in"
    source.mkdir()
    SOURCES[form](source)
    planted = b"".join(path.read_bytes() for path in source.iterdir())
    assert any(secret.encode() in planted for secret in SECRETS)
    outcome, masks = imported(source)
    (mask,) = masks.values()
    assert mask is not None and mask.any(), outcome.problems
    assert cli.main(["check", str(tmp_path / "set0")]) in (0, 1)
    written = [path for path in tmp_path.glob("set*/**/*") if path.is_file() and "private" not in path.parts]
    _check(written, "".join(capfd.readouterr()) + "".join((*outcome.problems, *outcome.notes)))


def _results(source: Path, out: Path, **options: Any) -> list[Path]:
    request = Request(formats=("png", "npy", "overlay", "csv", "nifti", "seg", "sheet"), progress=False, **options)
    assert predict_with(HOT_MODEL, [source], out=out, request=request).failed == ()
    return [path for path in out.rglob("*") if path.is_file()]


@pytest.mark.parametrize("save", [_png, _tiff, _jpeg], ids=["png", "tif", "jpg"])
@pytest.mark.parametrize("anonymous", [False, True])
def test_results_of_a_picture_have_none_of_it(
    save: Callable[..., None], anonymous: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"scan1.{save.__name__[1:].replace('tiff', 'tif').replace('jpeg', 'jpg')}"
    save(path)
    _check(_results(path, tmp_path / "out", anonymous=anonymous), "".join(capfd.readouterr()))


def _planted_scan(path: Path) -> Dataset:
    """Texts in places that no result takes over, next to those of patient and study."""
    header = nm_header(body_scan())
    for key in ("SeriesDescription", "ImageComments", "ProtocolName", "RequestedProcedureDescription"):
        setattr(header, key, f"{PERSON} ANT"[:64])
    header.StationName = NAME
    header.PatientComments = header.AdditionalPatientHistory = PERSON
    header.OtherPatientIDs = NUMBER
    header.add_new((0x0009, 0x0010), "LO", NAME)
    header.add_new((0x0009, 0x1001), "LO", PERSON[:64])
    private = Dataset()
    private.PatientName, private.TextValue = NAME, PERSON
    header.RequestAttributesSequence = [private]
    header.FrameOfReferenceUID = generate_uid()
    save_dicom(header, path)
    return header


def test_an_anonymous_segmentation_has_none_of_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    header = _planted_scan(tmp_path / "scan1.dcm")
    written = _results(tmp_path / "scan1.dcm", tmp_path / "out", anonymous=True)
    _check(written, "".join(capfd.readouterr()))
    (path,) = [path for path in written if path.name.endswith("_seg.dcm")]
    content = path.read_bytes()
    for key in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert str(header[key].value).encode() not in content, key
    for date in (header.StudyDate, header.StudyTime):
        assert str(date).encode() not in content


def test_a_plain_segmentation_has_patient_and_study_and_nothing_else(tmp_path: Path) -> None:
    """Plain results belong to the study: who the patient is stands in the modules of patient and study alone."""
    _planted_scan(tmp_path / "scan1.dcm")
    written = _results(tmp_path / "scan1.dcm", tmp_path / "out")
    (path,) = [path for path in written if path.name.endswith("_seg.dcm")]
    _check([other for other in written if other != path], "")
    result = pydicom.dcmread(path)
    assert (result.PatientName, result.PatientID) == (NAME, NUMBER)
    meant = {"PatientName", "PatientID", "PatientBirthDate", "ReferringPhysicianName"}

    def look(dataset: Dataset, element: pydicom.DataElement) -> None:
        text = without_random_numbers(str(element.value).encode()).decode() if element.VR != "SQ" else ""
        assert element.keyword in meant or not any(secret in text for secret in SECRETS), element.keyword

    result.walk(look)
