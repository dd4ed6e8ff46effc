"""Files of an imported data set that were damaged: one line that names the file, or what the whole file says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_pipeline.errors import RequestError
from data_pipeline.files import write_json, write_text
from data_pipeline.intake.folder import load_boxes, load_facts, read_data_set
from data_pipeline.intake.manifest import ImageEntry, manifest_text
from data_pipeline.scan import View
from data_pipeline.windows import ThoraxBox
from tests.damage import damaged_csv, damaged_json, refused

BOX = {"kind": "lesions", "row": 3.0, "column": 2.0, "rows": 17.0, "columns": 7.0}
FACTS = {"id": 1, "bone": "rib_5_left", "size_mm": 12.5, "contrast": 3.0, "cnr": 8.0, "visible": True, "more": [1]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three patients of one view each, with weak boxes and facts; the pictures are never looked at."""
    entries = []
    for number in range(3):
        for name in (f"counts/i{number}.png", f"masks/i{number}.png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        entries.append(
            ImageEntry(
                image_id=f"i{number}",
                patient=f"p{number}",
                view=View.ANTERIOR,
                pixel_size_mm=(2.26, 2.26),
                pixel_size_from="file",
                thorax=ThoraxBox(-5, 7, 256),
                counts=f"counts/i{number}.png",
                masks={"lesions": f"masks/i{number}.png"},
                lesion_facts="masks/facts.json",
                weak_boxes="masks/boxes.json",
            )
        )
    write_text(tmp_path / "manifest.csv", manifest_text(entries))
    write_json(tmp_path / "splits.json", {"train": ["p0"], "validation": ["p1"], "test": ["p2"]})
    write_json(tmp_path / "dataset.json", {"layout_version": 1, "origin": "own"})
    write_json(tmp_path / "masks/facts.json", {"lesions": [FACTS]})
    write_json(tmp_path / "masks/boxes.json", {"boxes": [BOX]})
    return tmp_path


def test_manifest(folder: Path) -> None:
    path = folder / "manifest.csv"
    free = ("image_id", "patient", "pixel_size_from", "image_label", "notes", "thorax_row = -1", "thorax_column = -1")
    damage = ((what, content) for what, content in damaged_csv(path.read_bytes()) if not what.startswith(free))
    assert refused(path, damage, lambda: read_data_set(folder)) > 80


def test_splits(folder: Path) -> None:
    path = folder / "splits.json"
    assert refused(path, damaged_json(path.read_bytes()), lambda: read_data_set(folder)) > 40


def test_document(folder: Path) -> None:
    path = folder / "dataset.json"
    assert refused(path, damaged_json(path.read_bytes()), lambda: read_data_set(folder)) > 30


def test_weak_boxes(folder: Path) -> None:
    path, (entry, *_) = folder / "masks/boxes.json", read_data_set(folder).entries
    one = "('boxes', 0) deleted"  # leaves none
    damage = ((what, content) for what, content in damaged_json(path.read_bytes()) if what != one)
    assert refused(path, damage, lambda: load_boxes(folder, entry)) > 60


def test_facts(folder: Path) -> None:
    path, (entry, *_) = folder / "masks/facts.json", read_data_set(folder).entries
    optional = ("bone", "size_mm", "contrast", "cnr", "visible", "more")
    valid = {"('lesions', 0) deleted", *(f"('lesions', 0, '{name}') deleted" for name in optional)}
    damage = (
        (what, content)
        for what, content in damaged_json(path.read_bytes())
        if what not in valid and "'more'" not in what
    )
    assert refused(path, damage, lambda: load_facts(folder, entry)) > 60
    write_json(path, {"lesions": [FACTS | {"id": 0}]})
    with pytest.raises(RequestError, match=r"facts\.json: lesions\[0\]\.id: expected `int` >= 1; mend it, or empty"):
        load_facts(folder, entry)


def test_the_files_of_the_fuzzer(folder: Path) -> None:
    (entry, *_) = read_data_set(folder).entries
    for content in (
        b'{"boxes": {"a":1}}',
        b'{"boxes": 0.5}',
        b"1e999\n",
        b"{\n  null: []\n}",
        b'{"boxes": [{\n \x02\r',
    ):
        (folder / "masks/boxes.json").write_bytes(content)
        with pytest.raises(RequestError, match=r"boxes\.json: .*; mend it, or empty its cell in manifest\.csv"):
            load_boxes(folder, entry)
    splits = json.loads((folder / "splits.json").read_text())
    write_json(folder / "splits.json", splits | {"test": [2]})
    with pytest.raises(RequestError, match=r"splits\.json: test: \[0\]: expected `str`, got `int`; a split is a list"):
        read_data_set(folder)
