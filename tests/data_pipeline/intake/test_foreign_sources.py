"""Sources of several files: no lesion on another scan, none lost, nothing declared healthy that is not known."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from data_pipeline.intake.annotate import annotate
from data_pipeline.intake.folder import load_scan
from data_pipeline.intake.pairing import pair_files
from data_pipeline.readers.orientation import upright
from data_pipeline.readers.sources import open_source
from data_pipeline.scan import Scan, View
from tests.foreign import HOT, TRUTH, imported, is_refused, labelme, seg, shapes, two_scans
from tests.user_files import body_scan, lesion_mask, nm_header, save_dicom, save_picture


def test_names_that_differ_in_capitals_only(tmp_path: Path) -> None:
    source = tmp_path / "in"
    save_picture(body_scan(1), source / "Case1.png")
    save_picture(body_scan(2), source / "case1.png")
    save_picture(lesion_mask(), source / "case1_mask.png")
    outcome, masks = imported(source)
    assert masks["Case1.png"] is None
    np.testing.assert_array_equal(masks["case1.png"], TRUTH)
    (source / "case1_mask.png").rename(source / "CASE1_mask.png")
    outcome, masks = imported(source, scans_without_mask="no-lesion")
    assert masks == {"Case1.png": None, "case1.png": None}
    assert any("CASE1_mask.png: several scans have that name" in line for line in outcome.problems)
    (source / "Case1.png").unlink()
    _, masks = imported(source)
    np.testing.assert_array_equal(masks["case1.png"], TRUTH)


@pytest.mark.parametrize(("scan", "mask"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_unicode_forms_of_one_name_pair(tmp_path: Path, scan: Any, mask: Any) -> None:
    source = tmp_path / "in"
    save_picture(body_scan(), source / unicodedata.normalize(scan, "Müller.png"))
    save_picture(lesion_mask(), source / unicodedata.normalize(mask, "Müller_mask.png"))
    outcome, masks = imported(source)
    assert outcome.problems == []
    np.testing.assert_array_equal(next(iter(masks.values())), TRUTH)


def test_names_with_the_digits_of_label_studio(tmp_path: Path) -> None:
    """It puts eight hexadecimal digits before the name of what is uploaded, and exports annotations under that name."""
    source = tmp_path / "in"
    save_picture(body_scan(1), source / "scan1.png")
    save_picture(body_scan(2), source / "0123abcd-scan2.png")
    save_picture(lesion_mask(), source / "masks" / "3f2b9c1d-scan1.png")
    save_picture(lesion_mask(), source / "0123abcd-scan2_mask.png")
    outcome, masks = imported(source)
    assert outcome.problems == []
    assert set(masks) == {"scan1.png", "0123abcd-scan2.png"}
    for mask in masks.values():
        np.testing.assert_array_equal(mask, TRUTH)
    save_picture(lesion_mask(), source / "masks" / "3f2b9c1e-scan1.png")  # which of the two uploads is meant?
    outcome, masks = imported(source)
    assert masks["scan1.png"] is None
    assert any("3f2b9c1e-scan1.png: a second mask of the same scan" in line for line in outcome.problems)


@pytest.mark.parametrize("form", ["png", "dcm", "nii.gz"])
def test_names_of_eighty_letters_of_three_bytes(tmp_path: Path, form: str) -> None:
    name = "骨" * 80  # 240 bytes of the 255 that file systems allow
    source = tmp_path / "in"
    source.mkdir()
    if form == "png":
        save_picture(body_scan(), source / f"{name}.png")
    elif form == "dcm":
        save_dicom(nm_header(body_scan()), source / f"{name}.dcm")
    else:
        image = nibabel.Nifti1Image(body_scan().T[:, :, None].astype(np.int32), np.diag([-4.5, -4.5, 1, 1]))
        nibabel.save(image, source / f"{name}.nii.gz")
    save_picture(lesion_mask(), source / "masks" / f"{name}.png")
    outcome, masks = imported(source)
    assert outcome.problems == []
    np.testing.assert_array_equal(masks[f"{name}.{form}"], TRUTH)


@pytest.mark.parametrize("canonical", ["scan", "mask", "both"])
def test_nifti_in_canonical_form_is_imported_as_it_lies(tmp_path: Path, canonical: str) -> None:
    """`nibabel.as_closest_canonical`, of the scan, of its mask or of both: counts and lesions lie as before."""
    (tmp_path / "in").mkdir()
    for name, values in (("scan_ant", body_scan()), ("scan_ant_mask", lesion_mask(value=1))):
        image = nibabel.Nifti1Image(values.T[:, :, None].astype(np.int32), np.diag([-4.52, -4.52, 1, 1]))
        if canonical == "both" or (canonical == "mask") == name.endswith("_mask"):
            image = nibabel.as_closest_canonical(image)
        nibabel.save(image, tmp_path / "in" / f"{name}.nii.gz")
    outcome, masks = imported(tmp_path / "in")
    assert outcome.problems == []
    np.testing.assert_array_equal(masks["scan_ant.nii.gz"], TRUTH)
    (entry,) = outcome.entries
    np.testing.assert_array_equal(load_scan(tmp_path / "set0", entry).counts, body_scan())


def test_a_picture_that_pillow_scrambles_is_imported_upright(tmp_path: Path) -> None:
    """An uncompressed TIFF of a tall scan with Orientation 6, whose rows one decoder reads at the turned width."""
    counts = np.where(TRUTH, HOT, body_scan()).astype(np.uint16)
    stored = upright(counts, 8)
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "scan1_ant.tif", stored, extratags=[(274, "H", 1, 6, False)])
    content = shapes("polygon") | {"imagePath": "scan1_ant.tif"}
    (tmp_path / "in" / "scan1_ant.json").write_text(json.dumps(content))
    outcome, masks = imported(tmp_path / "in")
    assert outcome.problems == []
    np.testing.assert_array_equal(masks["scan1_ant.tif"], TRUTH)
    (entry,) = outcome.entries
    np.testing.assert_array_equal(load_scan(tmp_path / "set0", entry).counts, counts)


def test_file_names_that_are_no_text(tmp_path: Path) -> None:
    source = tmp_path / "in"
    scan = save_dicom(nm_header(body_scan()), source / "a.dcm")
    scan.rename(source / b"Fr\xfchling.dcm".decode("utf-8", "surrogateescape"))
    save_picture(lesion_mask(), source / "a.png").rename(
        source / b"Fr\xfchling_mask.png".decode("utf-8", "surrogateescape")
    )
    outcome, masks = imported(source)
    assert outcome.problems == []
    np.testing.assert_array_equal(masks["Fr\\udcfchling.dcm"], TRUTH)
    save_picture(body_scan(2), source / "b.png").rename(source / b"\xfc.png".decode("utf-8", "surrogateescape"))
    save_picture(body_scan(3), source / "=cmd.png")
    _, masks = imported(source)
    assert sorted(masks) == ["'=cmd.png", "Fr\\udcfchling.dcm", "\\udcfc.png"]


@pytest.mark.parametrize(
    ("label", "meaning"), [("Lesion", ""), ("Segment_1", "Tissue"), ("", ""), ("Rib", "Neoplasm"), ("Tumor", "Bone")]
)
def test_segments_that_are_lesions(tmp_path: Path, label: str, meaning: str) -> None:
    ant, _ = two_scans(tmp_path / "in")
    seg(tmp_path / "in" / "seg.dcm", [ant], label=label, meaning=meaning)
    _, masks = imported(tmp_path / "in")
    assert masks["p.dcm"] is None
    np.testing.assert_array_equal(masks["a.dcm"], TRUTH)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label": "Bladder", "meaning": "Urinary bladder"}, "segment 1: label 'Bladder'"),
        ({"label": "Segment_1", "meaning": "Urinary bladder"}, "segment 1: label 'Urinary bladder'"),
        ({"label": "Rib"}, "segment 1: label 'Rib'"),
        ({"label": "Background"}, "segment 1: label 'Background'"),
        ({"label": "no lesion", "meaning": "Neoplasm"}, "segment 1: label 'no lesion' negates"),
        ({"PixelData": (lesion_mask() // 3).tobytes()}, "frame 1 lies below one half everywhere"),
        ({"SegmentationType": "LABELMAP"}, "frame 1 holds the value 255, which no segment describes"),
        ({"SegmentationType": "ODD"}, "has a type other than"),
    ],
)
def test_segments_that_are_not_understood(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    ant, _ = two_scans(tmp_path / "in")
    seg(tmp_path / "in" / "seg.dcm", [ant], **options)
    is_refused(tmp_path / "in", said, "a.dcm")


def test_segments_of_several_scans_mark_none(tmp_path: Path) -> None:
    ant, post = two_scans(tmp_path / "in")
    seg(tmp_path / "in" / "seg.dcm", [post, ant])
    is_refused(tmp_path / "in", "frame 1 references 2 scans", "a.dcm")
    is_refused(tmp_path / "in", "frame 1 references 2 scans", "p.dcm")
    post.SOPInstanceUID = ant.SOPInstanceUID
    save_dicom(post, tmp_path / "in" / "p.dcm")
    seg(tmp_path / "in" / "seg.dcm", [ant])
    is_refused(tmp_path / "in", "has its SOP instance UID from several", "a.dcm")
    is_refused(tmp_path / "in", "has its SOP instance UID from several", "p.dcm")
    save_dicom(ant, tmp_path / "in" / "p.dcm")  # a copy of the same file is no other scan
    _, masks = imported(tmp_path / "in")
    np.testing.assert_array_equal(masks["a.dcm"], TRUTH)


def _annotated(tmp_path: Path, scan: Scan, name: str, save: Callable[[Path], Any]) -> tuple[Any, list[str]]:
    save(tmp_path)
    with open_source(tmp_path) as source:
        (file,) = [scan for scan in pair_files(source).scans if scan.file.name == name]
        found = annotate(scan, file, frame=0, views=[scan.view], segments={}, labels={})
    return found.annotation.masks.get("lesions"), [line for _, line in found.problems]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_is_drawn_on_a_scan_that_is_stored_turned(tmp_path: Path, orientation: int) -> None:
    """Outlines are drawn on the picture as it is shown; pixels on a turned picture may be either and are refused."""
    scan = Scan(body_scan(), None, View.ANTERIOR, "p", "scan1.png", orientation=orientation)
    ids, lines = _annotated(tmp_path, scan, "scan1.png", lambda folder: labelme(folder, shapes("polygon")))
    assert lines == []
    np.testing.assert_array_equal(ids > 0, TRUTH)
    (tmp_path / "scan1.json").unlink()
    ids, lines = _annotated(
        tmp_path, scan, "scan1.png", lambda folder: save_picture(lesion_mask(), folder / "scan1_mask.png")
    )
    if orientation == 1:
        np.testing.assert_array_equal(ids > 0, TRUTH)
    else:
        assert ids is None and f"its scan is stored turned (orientation {orientation})" in lines[0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_is_drawn_on_a_dicom_lies_as_that_is_stored(tmp_path: Path, orientation: int) -> None:
    back = {6: 8, 8: 6}.get(orientation, orientation)
    scan = Scan(body_scan(), None, View.ANTERIOR, "p", "a.dcm", orientation=orientation)
    save_dicom(nm_header(body_scan()), tmp_path / "a.dcm")
    stored = upright(lesion_mask(), back)
    ids, lines = _annotated(tmp_path, scan, "a.dcm", lambda folder: save_picture(stored, folder / "a_mask.png"))
    assert lines == []
    np.testing.assert_array_equal(ids > 0, TRUTH)


@pytest.mark.parametrize("form", ["png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_outlines_on_a_picture_with_an_exif_orientation(tmp_path: Path, orientation: int, form: str) -> None:
    counts = np.where(TRUTH, HOT, body_scan()).astype(np.uint16)
    exif = Image.Exif()
    exif[274] = orientation
    (tmp_path / "in").mkdir()
    stored = upright(counts, {6: 8, 8: 6}.get(orientation, orientation))
    Image.fromarray(stored).save(tmp_path / "in" / f"scan1.{form}", exif=exif)
    (tmp_path / "in" / "scan1.json").write_text(json.dumps(shapes("polygon")))
    outcome, masks = imported(tmp_path / "in")
    assert outcome.problems == []
    np.testing.assert_array_equal(masks[f"scan1.{form}"], TRUTH)


def _yolo(folder: Path) -> None:
    (folder / "scan1.txt").write_text("0 0.4 0.25 0.03 0.01\n0 0.5 0.3 0.02 0.02\n")


def _rtstruct(folder: Path) -> None:
    header = nm_header(body_scan())
    header.Modality = "RTSTRUCT"
    save_dicom(header, folder / "rs.dcm")


def _write(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    "write",
    [
        _yolo,
        _rtstruct,
        _write("project-1.json", b'[{"id": 1, "annotations": [{"result": [{"type": "polygonlabels"}]}]}]'),
        _write("via.json", b'{"_via_settings": {}, "_via_img_metadata": {"a": {"regions": []}}}'),
        _write("via.csv", b"filename,file_size,region_shape_attributes\n"),
        _write("boxes.csv", b"image,xmin,ymin,xmax,ymax\n"),
        _write("x.seg.nrrd", b"NRRD0004\n"),
        _write("x.mrk.json", b'{"markups": []}'),
        _write("outline.svg", b"<svg/>"),
        _write("other.xml", b"<annotations><track/></annotations>"),
        lambda folder: save_picture(lesion_mask(), folder / "scan1_mask1.png"),
        lambda folder: save_picture(lesion_mask(value=0), folder / "drawn.png"),
        lambda folder: save_picture(lesion_mask(), folder / "SegmentationObject" / "scan1.png"),
        lambda folder: seg(folder / "seg.dcm", [nm_header(body_scan(3))]),
    ],
)
def test_nothing_is_declared_healthy_while_an_annotation_was_not_used(
    tmp_path: Path, write: Callable[..., Any]
) -> None:
    source = tmp_path / "in"
    save_picture(body_scan(1), source / "scan1.png")
    save_picture(body_scan(2), source / "scan2.png")
    write(source)
    outcome, masks = imported(source, scans_without_mask="no-lesion")
    assert masks == {"scan1.png": None, "scan2.png": None}
    assert len(outcome.problems) == 3, outcome.problems


def test_what_is_no_annotation_does_not_stop_it(tmp_path: Path) -> None:
    source = tmp_path / "in"
    save_picture(body_scan(1), source / "scan1.png")
    for name, text in {
        "readme.txt": "Scans of 2024", "ages.csv": "patient,age\n1,60\n", "numbers.txt": "1 2\n3 4\n",
        "sidecar.json": '{"Modality": "NM"}', "report.pdf": "%PDF",
    }.items():  # fmt: skip
        (source / name).write_text(text)
    header = nm_header(body_scan(4))
    header.Modality = "CT"
    save_dicom(header, source / "ct.dcm")
    _, masks = imported(source, scans_without_mask="no-lesion")
    assert masks["scan1.png"] is not None and not masks["scan1.png"].any()


def test_masks_in_the_folder_of_pascal_voc(tmp_path: Path) -> None:
    save_picture(body_scan(1), tmp_path / "in" / "JPEGImages" / "scan1.png")
    save_picture(lesion_mask(), tmp_path / "in" / "SegmentationClass" / "scan1.png")
    outcome, masks = imported(tmp_path / "in")
    assert outcome.problems == []
    np.testing.assert_array_equal(masks["JPEGImages/scan1.png"], TRUTH)


def test_ten_thousand_foreign_files_take_a_few_lines(tmp_path: Path) -> None:
    source = tmp_path / "in"
    save_picture(body_scan(1), source / "scan1.png")
    save_picture(lesion_mask(), source / "scan1_mask.png")
    for number in range(200):
        (source / f"{number}.dat").write_bytes(b"no scan")
    outcome, _ = imported(source)
    assert len(outcome.problems) == 4
    assert outcome.problems[-1].startswith("197 more files: is not a DICOM")
