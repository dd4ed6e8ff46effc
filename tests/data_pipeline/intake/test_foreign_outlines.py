"""Outlines of other programs (LabelMe, X-AnyLabeling, COCO) and their labels: the right pixels or one line."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_pipeline.annotations.kinds import kind_of_label
from data_pipeline.annotations.outlines import labelme_annotation
from data_pipeline.scan import ScanError
from tests.foreign import CORNERS, SHAPE, TRUTH, imported, is_refused, labelme, shapes
from tests.user_files import COLUMNS, ROWS, body_scan, save_picture


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        ("rotation", lambda corners: corners),
        ("oriented_rectangle", lambda corners: corners),
        ("oriented_rectangle", lambda corners: corners[:3]),
        ("quadrilateral", lambda corners: [corners[0], corners[2], corners[1], corners[3]]),
        ("rectangle", lambda corners: [corners[0], corners[2]]),
        ("rectangle", lambda corners: corners),
        ("rectangle", lambda corners: [*corners, corners[0]]),
        ("linestrip", lambda corners: [*corners, corners[0]]),
        ("polygon", lambda corners: corners),
        (None, lambda corners: corners),
    ],
)
def test_every_closed_shape_of_labelme_and_x_anylabeling(tmp_path: Path, kind: str, points: Callable[..., Any]) -> None:
    source = labelme(tmp_path / "in", shapes(kind, [points(corners) for corners in CORNERS]))
    outcome, masks = imported(source)
    assert outcome.problems == []
    np.testing.assert_array_equal(masks["scan1.png"], TRUTH)


def test_a_turned_box_lies_as_it_is_drawn() -> None:
    """A square of side 20 turned by 45 degrees: its area is that of the square, not of the box around it."""
    half = 10 * np.sqrt(2)
    centre = np.array([64.3, 200.6])
    points = (centre + half * np.array([[0, -1], [1, 0], [0, 1], [-1, 0]])).tolist()
    ids = labelme_annotation(shapes("rotation", [points]), SHAPE, labels={}, source="a").masks["lesions"]
    assert (ids > 0).sum() == pytest.approx(400, rel=0.02)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (shapes("linestrip"), "shape 1 is a 'linestrip', which encloses nothing"),
        (shapes("point", [[[50, 120]]]), "shape 1 is a 'point'"),
        (shapes("cuboid"), "shape 1 is a 'cuboid'"),
        (shapes("polygon", [(np.array(c) / [COLUMNS, ROWS]).tolist() for c in CORNERS]), "coordinates of 1 and less"),
        (shapes("rectangle", [[[0.4, 0.23], [0.42, 0.25]]]), "coordinates of 1 and less"),
        (shapes("circle", [[[0.4, 0.23], [0.42, 0.25]]]), "coordinates of 1 and less"),
        (shapes("polygon", [[[500, 20], [510, 20], [510, 30]]]), "shape 1 covers no pixel"),
        (shapes("polygon", [[[50, 20], [51, 20]]]), "shape 1 is damaged"),
        (shapes("rectangle", [[[50, 20], [51, 20], [60, 30]]]), "shape 1 is damaged"),
        (shapes("polygon", label="lesion", flags={"no lesion": True}), "'no lesion' negates"),
        (shapes("polygon", []) | {"flags": {"metastasis": True}}, "flag 'metastasis' is set, but nothing is drawn"),
    ],
)
def test_labelme_files_with_something_not_understood(tmp_path: Path, content: dict[str, Any], said: str) -> None:
    is_refused(labelme(tmp_path / "in", content), said)


def test_one_shape_that_is_not_understood_loses_none_of_the_others_in_silence(tmp_path: Path) -> None:
    content = shapes("polygon")
    content["shapes"][2]["label"] = "kein Befund"
    is_refused(labelme(tmp_path / "in", content), "shape 3: label 'kein Befund'")


NEGATED = """
non-metastatic|non metastatic|nonmetastatic|NonMetastatic|Non-malignant|no lesion|No_Lesion|NoLesion|no-lesions
not malignant|not a metastasis|without lesion|lesion-free|lesion free|free of metastases|negative for metastasis
metastasis negative|lesion absent|absence of lesion|no evidence of metastasis|metastasis ruled out
excluded metastasis|keine Metastase|Keine Läsion|kein Tumor|ohne Läsion|nicht metastatisch|nicht maligne
metastasenfrei|Läsion ausgeschlossen|sans lésion|pas de métastase|aucune lésion|non métastatique|sin lesión
ninguna lesión|no metastásico|sem lesão|não lesão|senza lesione|nessuna lesione|non metastatico|geen laesie
zonder metastase|ikke metastase|ingen lesion|utan lesion|bez przerzutu|brak zmian|无病变|非转移|没有转移|転移なし
нет метастазов|без метастазов|не метастаз|병변 없음|-lesion|lesion-|lesion (-)|!lesion|¬lesion|~metastasis|lesion: 0
metastasis=0|0 lesions|lesion=no|lesion: false|M0|met?no|lesion ✗|∅ lesion|un-metastatic|unmetastatic|antilesion
pseudo lesion|lesion mimic|not lesion|NOT_LESION|notlesion|never met|false lesion|former metastasis
healed metastasis|metastasis excluded|rule out metastasis|r/o mets|no mets|neg mets|not-met
lesion?|benign?|metastasis (?)|¿lesión|转移？
"""


@pytest.mark.parametrize("label", NEGATED.strip().replace("\n", "|").split("|"))
def test_labels_that_negate_in_any_form_and_language_are_refused(label: str) -> None:
    with pytest.raises(ScanError, match="--labels"):
        kind_of_label(label, {}, "a.json")
    assert kind_of_label(label, {label: "ignored"}, "") == "ignored"


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        *[(word, "lesions") for word in (
            "lesion", "Lesion 3", "lesion_12", "Bone metastasis", "bone-metastases", "BoneMetastasis", "mets L4",
            "metastasis left femur", "hot lesion in the spine", "malignant", "tumour", "Metastase", "métastase",
            "Läsion",
            "metástasis", "lesione", "转移", "転移", "метастаз", "osteoblastic metastasis Th12", "mask", "GT",
        )],
        *[(word, "benign") for word in ("benign", "Normal", "degenerative", "gutartig")],
        ("reader 1", "reader_1"), ("lesions_isocontour", "lesions_isocontour"),
    ],
)  # fmt: skip
def test_labels_that_are_understood(label: str, kind: str) -> None:
    assert kind_of_label(label, {}, "") == kind


def _coco(folder: Path, scans: int = 1, **changes: Any) -> Path:
    content: dict[str, Any] = {
        "images": [
            {"id": n, "file_name": f"scan{n}.png", "height": ROWS, "width": COLUMNS} for n in range(1, scans + 1)
        ],
        "categories": [{"id": 1, "name": "lesion"}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": 1, "segmentation": [np.ravel(corners).tolist()]}
            for n, corners in enumerate(CORNERS)
        ],
    }
    for number in range(1, scans + 1):
        save_picture(body_scan(number), folder / f"scan{number}.png")
    for key, change in changes.items():
        content[key] = change(content[key])
    (folder / "coco.json").write_text(json.dumps(content))
    return folder


def _each(**fields: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda entries: [{**entry, **fields} for entry in entries]


@pytest.mark.parametrize(
    "changes",
    [
        {"annotations": _each(image_id="1")},
        {"annotations": _each(image_id=1.0, category_id="1")},
        {"images": _each(id="1")},
        {"images": _each(id="scan1.png"), "annotations": _each(image_id="scan1.png")},
        {"images": _each(file_name="deep\\scan1.png")},
    ],
)
def test_coco_ids_are_the_same_as_text_and_as_numbers(tmp_path: Path, changes: dict[str, Any]) -> None:
    outcome, masks = imported(_coco(tmp_path / "in", **changes))
    assert outcome.problems == []
    np.testing.assert_array_equal(masks["scan1.png"], TRUTH)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"annotations": _each(image_id=0)}, "annotation 1 has image_id '0', which no image has"),
        ({"annotations": _each(image_id=None, item_id=1)}, "annotation 1 has image_id '', which no image has"),
        ({"annotations": _each(image_id="scan1.png")}, "image_id 'scan1.png', which no image has"),
        ({"annotations": _each(image_id=True)}, "image_id '', which no image has"),
        ({"annotations": _each(category_id=0)}, "annotation 1 has category_id '0', which no category has"),
        ({"images": lambda images: [*images, {"id": "1", "file_name": "x.png"}]}, "two images have the id '1'"),
        ({"categories": lambda old: [*old, {"id": 1, "name": "benign"}]}, "two categories have the id '1'"),
        ({"annotations": _each(segmentation=[[0.4, 0.2, 0.5, 0.2, 0.5, 0.3]])}, "coordinates of 1 and less"),
        ({"annotations": _each(ignore=1)}, "annotation 1 of its image is marked as to be ignored"),
    ],
)
def test_coco_files_with_something_not_understood(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    is_refused(_coco(tmp_path / "in", **changes), said)


def test_two_coco_images_of_one_id_mark_neither_scan(tmp_path: Path) -> None:
    source = _coco(tmp_path / "in", 2, images=_each(id=1))
    _, masks = imported(source, scans_without_mask="no-lesion")
    assert masks == {"scan1.png": None, "scan2.png": None}


def test_a_coco_image_without_annotation_is_unknown_not_healthy(tmp_path: Path) -> None:
    outcome, masks = imported(_coco(tmp_path / "in", 2))
    np.testing.assert_array_equal(masks["scan1.png"], TRUTH)
    assert masks["scan2.png"] is None
    (line,) = outcome.problems
    assert "scan2.png: a scan without a lesion mask" in line


def test_a_box_that_the_mask_does_not_have(tmp_path: Path) -> None:
    def boxed(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [entries[0], {**entries[1], "segmentation": [], "bbox": [74, 140, 5, 5]}]

    is_refused(_coco(tmp_path / "in", annotations=boxed), "a box around a lesion in which nothing is drawn")


def test_pictures_in_base64_are_small_grey_masks(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((6, 4, 4), np.uint8)).save(buffer, "PNG")
    content = shapes("mask", [[[50, 120], [53, 125]]], mask=base64.b64encode(buffer.getvalue()).decode())
    is_refused(labelme(tmp_path / "in", content), "shape 1 is damaged")
