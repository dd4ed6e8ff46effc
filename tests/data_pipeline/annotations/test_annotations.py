"""Every kind of annotation gives the same known lesions, and everything that is none gives one line."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from data_pipeline.annotations.coco import coco_annotation, coco_annotations
from data_pipeline.annotations.dicom_seg import SegmentFrame, read_segmentation, segment_annotation
from data_pipeline.annotations.kinds import WeakBox, combine, connected_instances, kind_of_label
from data_pipeline.annotations.outlines import _placed, labelme_annotation, voc_boxes
from data_pipeline.annotations.pixels import read_pixel_mask
from data_pipeline.scan import ScanError
from tests.user_files import (
    COLUMNS,
    LESIONS,
    ROWS,
    body_scan,
    lesion_mask,
    nm_header,
    save_dicom,
    save_picture,
    save_segmentation,
)

SHAPE = (ROWS, COLUMNS)
AREAS = sorted(rows * columns for _, _, rows, columns in LESIONS)


def _is_the_lesions(ids: np.ndarray, lesions: int = 3) -> None:
    np.testing.assert_array_equal(ids > 0, lesion_mask() > 0)
    assert ids.dtype == np.uint8
    assert sorted(np.bincount(ids.ravel())[1:].tolist()) == AREAS[-lesions:]


@pytest.mark.parametrize("value", [1, 255, 0])
@pytest.mark.parametrize("form", ["png", "tif", "npy", "nii.gz", "bool"])
def test_pixel_masks(tmp_path: Path, value: int, form: str) -> None:
    mask = lesion_mask(value=value)
    path = tmp_path / f"a_mask.{form}"
    if form == "npy":
        np.save(path, mask)
    elif form == "nii.gz":  # as ITK writes: columns first, affine negative
        nibabel.save(nibabel.Nifti1Image(mask.T, np.diag([-4.5, -4.5, 1.0, 1.0])), path)
    elif form == "bool":
        path = tmp_path / "a_mask.png"
        Image.fromarray(mask > 0).save(path)
    else:
        save_picture(mask, path)
    ids = read_pixel_mask(path, kind="lesions", labels={}).masks["lesions"]
    _is_the_lesions(ids)
    if value == 0 and form != "bool":
        np.testing.assert_array_equal(ids, mask)  # numbers are kept


def test_numbered_masks_of_one_lesion_in_two_parts_stay_one(tmp_path: Path) -> None:
    mask = np.where(lesion_mask() > 0, 1, 0).astype(np.uint8)
    path = save_picture(mask, tmp_path / "m.png")
    assert read_pixel_mask(path, kind="lesions", labels={}, numbered=True).masks["lesions"].max() == 1
    assert read_pixel_mask(path, kind="lesions", labels={}).masks["lesions"].max() == 3


def test_class_numbers_become_kinds(tmp_path: Path) -> None:
    mask = lesion_mask(value=0)
    path = save_picture(mask, tmp_path / "m.png")
    masks = read_pixel_mask(path, kind="lesions", labels={"1": "benign", "2": "lesions", "3": "ignored"}).masks
    np.testing.assert_array_equal(masks["benign"] > 0, mask == 1)
    np.testing.assert_array_equal(masks["lesions"] > 0, mask == 2)
    with pytest.raises(ScanError, match=r"value 3 has no meaning; add --labels 3=lesions"):
        read_pixel_mask(path, kind="lesions", labels={"1": "benign", "2": "lesions"})


def _grey(path: Path) -> None:
    small = Image.fromarray(lesion_mask()).resize((64, 256), Image.Resampling.BILINEAR)
    small.save(path)


def _jpeg(path: Path) -> None:
    Image.fromarray(lesion_mask()).save(path, format="JPEG")


def _colour(path: Path) -> None:
    pixels = np.zeros((*SHAPE, 3), np.uint8)
    pixels[5:9, 5:9, 0] = 255
    Image.fromarray(pixels).save(path)


def _specks(path: Path) -> None:
    pixels = np.zeros(SHAPE, np.uint8)
    pixels[::4, ::4] = 1
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (_grey, "grey values in a mask"),
        (_jpeg, "JPEG changes the values"),
        (_colour, "a coloured mask"),
        (_specks, "4096 separate regions"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n broken"), "cannot be decoded"),
    ],
)
def test_masks_that_are_none(tmp_path: Path, write: Any, said: str) -> None:
    write(tmp_path / "m.png")
    with pytest.raises(ScanError, match=f"m.png: .*{said}"):
        read_pixel_mask(tmp_path / "m.png", kind="lesions", labels={})


def test_arrays_that_are_no_masks(tmp_path: Path) -> None:
    for values, said in (
        (np.full(SHAPE, np.nan), "fractions or NaN"),
        (np.full(SHAPE, 0.5), "fractions or NaN"),
        (np.full(SHAPE, -1), "negative values"),
        (np.zeros((2, *SHAPE)), r"an array of shape \(2, 512, 128\)"),
    ):
        np.save(tmp_path / "m.npy", values)
        with pytest.raises(ScanError, match=said):
            read_pixel_mask(tmp_path / "m.npy", kind="lesions", labels={})
    np.save(tmp_path / "m.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ScanError, match="pickled objects, which are never read"):
        read_pixel_mask(tmp_path / "m.npy", kind="lesions", labels={})


def _labelme(**changes: Any) -> dict[str, Any]:
    """The three lesions as polygon, rectangle and mask, corners counted from pixel corners."""
    (r0, c0, h0, w0), (r1, c1, h1, w1), (r2, c2, h2, w2) = LESIONS
    buffer = io.BytesIO()
    Image.fromarray(np.full((h2, w2), 255, np.uint8)).save(buffer, format="PNG")
    shapes = [
        {
            "label": "lesion",
            "shape_type": "polygon",
            "points": [[c0, r0], [c0 + w0, r0], [c0 + w0, r0 + h0], [c0, r0 + h0]],
        },
        {"label": "metastasis", "shape_type": "rectangle", "points": [[c1, r1], [c1 + w1, r1 + h1]]},
        {
            "label": "lesion",
            "shape_type": "mask",
            "points": [[c2, r2], [c2 + w2 - 1, r2 + h2 - 1]],
            "mask": base64.b64encode(buffer.getvalue()).decode(),
        },
    ]
    return {"imagePath": "a.png", "imageHeight": ROWS, "imageWidth": COLUMNS, "shapes": shapes, **changes}


def test_labelme() -> None:
    annotation = labelme_annotation(_labelme(), SHAPE, labels={}, source="a.json")
    _is_the_lesions(annotation.masks["lesions"])
    content = _labelme()
    content["shapes"][0]["group_id"] = content["shapes"][1]["group_id"] = 4
    grouped = labelme_annotation(content, SHAPE, labels={}, source="a.json").masks["lesions"]
    assert sorted(np.bincount(grouped.ravel())[1:].tolist()) == [24, 49]
    circle = {"label": "benign", "shape_type": "circle", "points": [[40.0, 300.0], [46.0, 300.0]]}
    point = {"label": "lesion", "shape_type": "point", "points": [[40.0, 300.0]]}
    annotation = labelme_annotation(_labelme(shapes=[circle]), SHAPE, labels={}, source="a.json")
    assert not annotation.masks["lesions"].any()
    assert (annotation.masks["benign"] > 0).sum() == pytest.approx(np.pi * 36, rel=0.05)
    assert (annotation.used, annotation.not_understood) == (1, "")
    annotation = labelme_annotation(_labelme(shapes=[circle, point]), SHAPE, labels={}, source="a.json")
    assert annotation.not_understood == "shape 2 is a 'point', which encloses nothing; draw its outline as a polygon"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_labelme(shapes=[], imageWidth=None), "nothing is drawn, and the picture's size is missing"),
        (_labelme(shapes=[], imageHeight=None), "nothing is drawn, and the picture's size is missing"),
        (_labelme(imageHeight=1024), "drawn on 1024 x 128 pixels, the scan has 512 x 128"),
        (_labelme(shapes=[{"label": "thing", "points": []}]), "label 'thing' names neither .* --labels thing=lesions"),
        (_labelme(shapes=[{"label": "lesion", "points": [["x", 1]]}]), "shape 1 is damaged"),
    ],
)
def test_labelme_refused(content: dict[str, Any], said: str) -> None:
    with pytest.raises(ScanError, match=f"a.json: .*{said}"):
        labelme_annotation(content, SHAPE, labels={}, source="a.json").complete("a.json")


def _coco() -> dict[str, Any]:
    (r0, c0, h0, w0), *_ = LESIONS
    one = np.zeros(SHAPE, bool)
    r1, c1, h1, w1 = LESIONS[1]
    one[r1 : r1 + h1, c1 : c1 + w1] = True
    flat = one.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat.astype(int), [0]])))
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    polygon = [c0, r0, c0 + w0, r0, c0 + w0, r0 + h0, c0, r0 + h0]
    return {
        "images": [{"id": 7, "file_name": "deep/a.png", "height": ROWS, "width": COLUMNS}],
        "categories": [{"id": 1, "name": "lesion"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "segmentation": [polygon], "bbox": [0, 0, 1, 1]},
            {"id": 2, "image_id": 7, "category_id": 1, "segmentation": {"size": [ROWS, COLUMNS], "counts": runs}},
            {"id": 3, "image_id": 7, "category_id": 1, "bbox": [60, 230, 8, 3]},
        ],
    }


def test_coco() -> None:
    images = coco_annotations(_coco())
    assert list(images) == ["deep/a.png"]
    annotation = coco_annotation(*images["deep/a.png"], SHAPE, labels={}, source="coco.json")
    np.testing.assert_array_equal(annotation.masks["lesions"] > 0, lesion_mask(LESIONS[:2]) > 0)
    assert annotation.masks["lesions"].max() == 2
    (box,) = annotation.boxes
    assert (box.row, box.column, box.rows, box.columns) == (230.0, 60.0, 3.0, 8.0)


def test_compressed_coco_runs() -> None:
    """`54o2` and so on as pycocotools 2.0 encodes a 3 x 4 image whose second column is set: runs 3, 3, 6."""
    content = {"images": [{"id": 1, "file_name": "a"}], "categories": [{"id": 1, "name": "lesion"}]}
    entry = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": {"size": [3, 4], "counts": "336"}}
    images = coco_annotations({**content, "annotations": [entry]})
    ids = coco_annotation(*images["a"], (3, 4), labels={}, source="c").masks["lesions"]
    np.testing.assert_array_equal(ids, [[0, 1, 0, 0]] * 3)
    # Differences from the fourth run on, and a run above 31 in two characters: 40, 2, 30, 2, 26.
    entry["segmentation"] = {"size": [10, 10], "counts": "X1 2 n0 0 L".replace(" ", "")}
    ids = coco_annotation(*coco_annotations({**content, "annotations": [entry]})["a"], (10, 10), labels={}, source="c")
    assert np.flatnonzero(ids.masks["lesions"].ravel(order="F")).tolist() == [40, 41, 72, 73]


def test_damaged_coco() -> None:
    content = _coco()
    content["annotations"][1]["segmentation"]["counts"][0] += 1
    with pytest.raises(ScanError, match="annotation 2 of its image is damaged"):
        coco_annotation(*coco_annotations(content)["deep/a.png"], SHAPE, labels={}, source="c").complete("coco.json")


VOC = """<annotation><filename>0001.jpg</filename><size><width>256</width><height>1024</height></size>
<object><name>Normal</name><bndbox><xmin>11</xmin><ymin>21</ymin><xmax>20</xmax><ymax>24</ymax></bndbox></object>
<object><name>Abnormal</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object>
</annotation>"""


def test_voc_boxes_count_from_one_and_include_the_last_pixel(tmp_path: Path) -> None:
    (tmp_path / "0001.xml").write_text(VOC)
    name, shape, boxes = voc_boxes(tmp_path / "0001.xml", labels={})
    assert (name, shape) == ("0001.jpg", (1024, 256))
    assert [box.kind for box in boxes] == ["benign", "lesions"]
    assert boxes[0] == WeakBox("benign", row=20.0, column=10.0, rows=4.0, columns=10.0)
    for text in ("no xml", "<other/>", '<!DOCTYPE a [<!ENTITY b "c">]>' + VOC, VOC.replace("<xmin>1<", "<xmin>z<")):
        (tmp_path / "0001.xml").write_text(text)
        with pytest.raises(ScanError, match=r"0001.xml: is not a readable Pascal VOC"):
            voc_boxes(tmp_path / "0001.xml", labels={})


@pytest.mark.parametrize("frame", [None, 2])
def test_dicom_segmentation_made_by_highdicom(tmp_path: Path, frame: int | None) -> None:
    header = nm_header(body_scan())
    save_segmentation(save_dicom(header, tmp_path / "scan.dcm"), tmp_path / "seg.dcm", frame=frame)
    segmentation = read_segmentation(tmp_path / "seg.dcm", labels={})
    frames = segmentation.frames
    assert (segmentation.scans, segmentation.not_understood) == ({str(header.SOPInstanceUID)}, "")
    assert {(found.references, found.frame) for found in frames} == {(str(header.SOPInstanceUID), frame)}
    _is_the_lesions(segment_annotation(frames, SHAPE, "seg.dcm").masks["lesions"])
    _is_the_lesions(segment_annotation(_one_segment(frames), SHAPE, "seg.dcm").masks["lesions"])
    with pytest.raises(ScanError, match="segments of 512 x 128 pixels, the scan has 256 x 64"):
        segment_annotation(frames, (256, 64), "seg.dcm")
    content = (tmp_path / "seg.dcm").read_bytes()
    (tmp_path / "short.dcm").write_bytes(content[: len(content) // 2])
    with pytest.raises(ScanError, match=r"short.dcm: the segmentation cannot be read"):
        read_segmentation(tmp_path / "short.dcm", labels={})


def _one_segment(frames: Sequence[SegmentFrame]) -> list[SegmentFrame]:
    """All regions in the first segment, which must then be cut into connected regions."""
    return [dataclasses.replace(frame, segment=1) for frame in frames]


def test_words_and_instances() -> None:
    assert kind_of_label("Bone metastasis", {}, "") == "lesions"
    assert kind_of_label("Normal", {}, "") == "benign"
    assert kind_of_label("reader 1", {}, "") == "reader_1"
    assert kind_of_label("Normal", {"Normal": "ignored"}, "") == "ignored"
    diagonal = np.eye(4, dtype=bool)
    assert connected_instances(diagonal, "").max() == 1  # a corner connects
    large, small = np.zeros((2, 8, 8), bool)
    large[:6, :6], small[2:4, 2:4] = True, True
    ids = combine({"lesions": [small, large]}, (8, 8), "")["lesions"]
    assert (ids == 1).sum() == 4 and (ids == 2).sum() == 32  # the smaller one shows


@pytest.mark.parametrize("corner", [(1e300, 0.0), (0.0, np.inf), (np.nan, 0.0), (-1.0, 0.0), (7.0, 0.0)])
def test_a_labelme_mask_that_lies_outside(corner: tuple[float, float]) -> None:
    patch = np.ones((2, 2), bool)
    assert np.argwhere(_placed(patch, np.array([[6.0, 5.0]]), (8, 8))).tolist() == [[5, 6], [5, 7], [6, 6], [6, 7]]
    with pytest.raises(ScanError, match="lies partly outside the picture"):
        _placed(patch, np.array([corner]), (8, 8))
