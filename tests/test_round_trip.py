"""A data set exported, edited in another program and imported again keeps every pixel."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from data_pipeline.errors import RequestError
from data_pipeline.intake.build import ImportOptions, import_source
from data_pipeline.intake.folder import load_masks, load_scan, read_data_set
from data_pipeline.intake.nnunet import Case, write_cases, write_nnunet
from tests.user_files import LESIONS, body_scan, lesion_mask, nm_header, save_dicom, save_picture

TOUCHING = ((120, 50, 6, 4), (126, 50, 5, 5), (170, 60, 3, 8))
"""Lesions of which two touch: only their numbers tell them apart."""


def _set(folder: Path) -> Path:
    for number, lesions in enumerate((LESIONS, TOUCHING, ())):
        name = folder / "in" / f"case{number}"
        save_dicom(nm_header(body_scan(number, lesions), patient=f"N{number}"), name.with_suffix(".dcm"))
        save_picture(lesion_mask(lesions, value=0), folder / "in" / f"case{number}_mask.png")
    import_source(folder / "in", folder / "set", ImportOptions(), progress=False)
    return folder / "set"


def _pixels(out: Path) -> dict[bytes, np.ndarray]:
    """Lesion numbers by the counts of their scan."""
    data_set = read_data_set(out)
    return {
        load_scan(out, entry).counts.tobytes(): load_masks(out, entry, ("lesions",))["lesions"]
        for entry in data_set.entries
    }


def _as_labelme(data_set: Path, folder: Path) -> None:
    """As LabelMe 5 saves masks: a small picture for each lesion, placed by its first and last pixel."""
    for entry in read_data_set(data_set).entries:
        save_picture(load_scan(data_set, entry).counts, folder / f"{entry.image_id}.png")
        ids, shapes = load_masks(data_set, entry, ("lesions",))["lesions"], []
        for number in range(1, int(ids.max()) + 1):
            rows, columns = np.nonzero(ids == number)
            (top, bottom), (left, right) = (rows.min(), rows.max()), (columns.min(), columns.max())
            patch, buffer = (ids == number)[top : bottom + 1, left : right + 1], io.BytesIO()
            Image.fromarray(patch).save(buffer, "PNG")
            shapes.append(
                {
                    "label": "lesion",
                    "shape_type": "mask",
                    "points": [[float(left), float(top)], [float(right), float(bottom)]],
                    "mask": base64.b64encode(buffer.getvalue()).decode(),
                    "group_id": None,
                    "flags": {},
                }
            )
        content = {"version": "5.5.0", "flags": {}, "imagePath": f"{entry.image_id}.png", "imageData": None}
        size = {"imageHeight": ids.shape[0], "imageWidth": ids.shape[1]}
        (folder / f"{entry.image_id}.json").write_text(json.dumps(content | size | {"shapes": shapes}))


def _as_itk_snap(data_set: Path, folder: Path) -> None:
    """Scan and segmentation as NIfTI of one slice, as programs built on ITK write them."""
    folder.mkdir()
    for entry in read_data_set(data_set).entries:
        counts, ids = load_scan(data_set, entry).counts, load_masks(data_set, entry, ("lesions",))["lesions"]
        affine = np.diag([-4.52, -4.52, 1.0, 1.0])
        nibabel.save(
            nibabel.Nifti1Image(counts.T[:, :, None].astype(np.int16), affine), folder / f"{entry.image_id}.nii.gz"
        )
        nibabel.save(nibabel.Nifti1Image(ids.T[:, :, None], affine), folder / f"{entry.image_id}_seg.nii.gz")


@pytest.mark.parametrize("form", ["labelme", "itk-snap", "data set", "nnunet"])
def test_round_trips_keep_every_pixel(tmp_path: Path, form: str) -> None:
    first = _set(tmp_path)
    back = tmp_path / "edited"
    if form == "labelme":
        _as_labelme(first, back)
    elif form == "itk-snap":
        _as_itk_snap(first, back)
    elif form == "nnunet":
        write_nnunet(first, back)
    else:
        back = first
    outcome = import_source(back, tmp_path / "again", ImportOptions(), progress=False)
    assert outcome.problems == []
    before, after = _pixels(first), _pixels(tmp_path / "again")
    assert set(before) == set(after) and len(before) == 3
    for counts, ids in before.items():
        np.testing.assert_array_equal(after[counts] > 0, ids > 0)
        if form != "nnunet":  # its labels have no lesion numbers
            pairs = {(int(one), int(other)) for one, other in zip(ids.flat, after[counts].flat, strict=True)}
            assert len(pairs) == int(ids.max()) + 1


def test_a_mask_edited_in_the_data_set_is_what_the_next_import_has(tmp_path: Path) -> None:
    first = _set(tmp_path)
    with (first / "manifest.csv").open() as text:
        path = first / next(csv.DictReader(text))["lesions"]
    edited = np.array(Image.open(path, formats=["PNG"]))
    edited[300:304, 40:44] = 9
    Image.fromarray(edited).save(path)
    import_source(first, tmp_path / "again", ImportOptions(), progress=False)
    assert any(np.array_equal(ids, edited) for ids in _pixels(tmp_path / "again").values())


@pytest.mark.parametrize(
    ("split", "count", "said"),
    [("train", 65536, "set: case has counts above 65535"), ("test", 1, "set: no image for training")],
)
def test_nnunet_gets_a_whole_folder_or_none(tmp_path: Path, split: str, count: int, said: str) -> None:
    case = Case(split, "case", np.full((4, 4), count), np.zeros((4, 4), bool))
    with pytest.raises(RequestError, match=said):
        write_cases([case], tmp_path / "out", source="set")
    assert not (tmp_path / "out").exists()
