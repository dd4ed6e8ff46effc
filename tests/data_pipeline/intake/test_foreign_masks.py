"""Masks of other programs (pictures, NIfTI, nnU-Net, pages): the right pixels or one line."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from PIL import Image

from data_pipeline.annotations.pixels import read_pixel_mask
from data_pipeline.annotations.target import Target
from data_pipeline.readers import read_scans
from data_pipeline.readers.formats.images import open_picture
from data_pipeline.scan import ScanError, View
from tests.foreign import HOT, SHAPE, TRUTH, imported, is_refused, labelme, shapes
from tests.user_files import COLUMNS, LESIONS, ROWS, body_scan, lesion_mask, nm_header, save_dicom, save_picture


def _nnunet(folder: Path, labels: dict[str, Any], mask: np.ndarray) -> Path:
    save_picture(body_scan(), folder / "imagesTr" / "c1_0000.png")
    save_picture(mask, folder / "labelsTr" / "c1.png")
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".png"}))
    return folder


@pytest.mark.parametrize("word", ["hotspot", "lytic", "sclerotic", "Metastase", "bone lesion", "腫瘍"])
@pytest.mark.parametrize("version", [1, 2])
def test_any_nnunet_label_but_the_background_is_a_lesion(tmp_path: Path, word: str, version: int) -> None:
    labels: dict[str, Any] = {"background": 0, word: 1} if version == 2 else {"0": "background", "1": word}
    source = _nnunet(tmp_path / "in", labels, lesion_mask(value=1))
    _, masks = imported(source)
    np.testing.assert_array_equal(masks["imagesTr/c1_0000.png"], TRUTH)
    _, masks = imported(source, labels={word: "benign"})
    assert not np.any(masks["imagesTr/c1_0000.png"])


@pytest.mark.parametrize(
    ("labels", "lesions"),
    [
        ({"background": 0, "spot": [1, 2, 3], "metastasis": [2, 3]}, (1, 2, 3)),
        ({"background": 0, "lesion": [1, 2, 3], "benign": [1]}, (2, 3)),
        ({"background": 0, "benign": 1, "lytic": 2, "sclerotic": 3}, (2, 3)),
        ({"lesion": 1, "hotspot": 2, "background": 3}, (1, 2)),
    ],
)
def test_nnunet_regions(tmp_path: Path, labels: dict[str, Any], lesions: tuple[int, ...]) -> None:
    numbered = lesion_mask(value=0)
    _, masks = imported(_nnunet(tmp_path / "in", labels, numbered))
    np.testing.assert_array_equal(masks["imagesTr/c1_0000.png"], np.isin(numbered, lesions))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"background": 0, "no lesion": 1}, "'no lesion' negates"),
        ({"lesion": 0, "background": 1}, "label 0 is 'lesion'"),
        ({"background": 0, "a": 1, "b": 1}, "are both label 1"),
        ({"background": 0, "a": "x"}, "label 'a' has no whole number"),
        ({"background": 0}, "nothing but the background"),
        ({"background": [1, 2]}, "nothing but the background"),
        ({}, "nothing but the background"),
        ({"background": 0, "lesion": 1, "ignore": 2}, "value 2 has no meaning"),
    ],
)
def test_nnunet_labels_that_are_not_understood(tmp_path: Path, labels: dict[str, Any], said: str) -> None:
    source = _nnunet(tmp_path / "in", labels, lesion_mask(value=0) % 3)
    try:
        outcome, masks = imported(source)
    except ValueError as error:
        assert said in str(error)
    else:
        assert any(said in line for line in outcome.problems) and masks["imagesTr/c1_0000.png"] is None


def _mask_file(folder: Path, save: Callable[[Path], Any], name: str = "scan1_mask.png") -> Path:
    save_picture(body_scan(), folder / "scan1.png")
    save(folder / name)
    return folder


def _pages(path: Path) -> None:
    empty = Image.fromarray(np.zeros(SHAPE, np.uint8))
    empty.save(path, save_all=True, append_images=[Image.fromarray(lesion_mask())])


def _alpha(colour: int) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        pixels = np.full((*SHAPE, 4), colour, np.uint8)
        pixels[..., 3] = lesion_mask()
        Image.fromarray(pixels).save(path)

    return save


def _palette(path: Path) -> None:
    picture = Image.fromarray((~TRUTH).astype(np.uint8), "P")
    picture.putpalette([255, 255, 255, 0, 0, 0])
    picture.save(path)


def _turned(path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 3
    Image.fromarray(lesion_mask()).save(path, exif=exif)


def _grey_alpha(path: Path) -> None:
    Image.fromarray(np.stack([np.zeros(SHAPE, np.uint8), lesion_mask()], axis=-1), "LA").save(path)


@pytest.mark.parametrize(
    ("save", "name", "said"),
    [
        (_pages, "scan1_mask.tif", "scan1_mask.tif: 2 pages for a scan of 1 view(s)"),
        (_alpha(0), "scan1_mask.png", "the mask is in its transparency"),
        (_alpha(255), "scan1_mask.png", "the mask is in its transparency"),
        (_grey_alpha, "scan1_mask.png", "the mask is in its transparency"),
        (lambda path: save_picture(255 - lesion_mask(), path), "scan1_mask.png", "is its background another value"),
        (lambda path: save_picture(np.full(SHAPE, 255, np.uint8), path), "scan1_mask.png", "is its background another"),
        (lambda path: save_picture(lesion_mask(value=0) + 1, path), "scan1_mask.png", "is its background another"),
        (_palette, "scan1_mask.png", "is its background another value than 0"),
        (_turned, "scan1_mask.png", "a mask stored turned (orientation 3)"),
        (
            lambda path: np.save(path, np.stack([lesion_mask()] * 2)),
            "scan1_mask.npy",
            "an array of shape (2, 512, 128)",
        ),
        (
            lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
            "scan1_mask.png",
            "decoded",
        ),
    ],
)
def test_masks_with_something_not_understood(tmp_path: Path, save: Callable[[Path], Any], name: str, said: str) -> None:
    is_refused(_mask_file(tmp_path / "in", save, name), said)


def test_no_format_that_starts_a_program_is_opened(tmp_path: Path) -> None:
    for name in ("a.eps", "a.png"):
        (tmp_path / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\nshowpage\n")
        with pytest.raises(OSError, match="cannot identify"), open_picture(tmp_path / name):
            pass
    for path in Path(__file__).parents[3].glob("data_pipeline/[ai]*/*.py"):
        assert "Image.open(" not in path.read_text(), path
    content = shapes("mask", [[[50, 120], [54, 126]]], mask=base64.b64encode(b"%!PS-Adobe-3.0 EPSF").decode())
    is_refused(labelme(tmp_path / "in", content), "shape 1 is damaged")


def test_opaque_pictures_with_an_alpha_channel_are_masks(tmp_path: Path) -> None:
    pixels = np.dstack([lesion_mask()] * 3 + [np.full(SHAPE, 255, np.uint8)])
    Image.fromarray(pixels).save(tmp_path / "m.png")
    ids = read_pixel_mask(tmp_path / "m.png", kind="lesions", labels={}).masks["lesions"]
    np.testing.assert_array_equal(ids > 0, TRUTH)


ORIENTATIONS = ["RA", "RP", "LA", "LP", "AR", "PL", "RS", "RI", "LS", "LI", "SR", "IL"]


def _pair(folder: Path, plane: str) -> tuple[Any, Any]:
    """A NIfTI scan with lesions of one value, and its mask, both in one space."""
    counts = np.where(TRUTH, HOT, body_scan())
    shape = (COLUMNS, ROWS, 1) if plane == "axial" else (COLUMNS, 1, ROWS)
    spacing = (-4.5, -4.5, 1.0) if plane == "axial" else (-4.5, 1.0, -4.5)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (280.0, 1150.0, -30.0)
    return (
        nibabel.Nifti1Image(counts.T.reshape(shape).astype(np.int16), affine),
        nibabel.Nifti1Image(TRUTH.T.reshape(shape).astype(np.uint8), affine),
    )


def _reoriented(image: Any, code: str) -> Any:
    """As MONAI's Orientation and others store it: axes in another order and direction, the affine with them."""
    rest = "A" if {"S", "I"} & set(code) else "S"
    wanted = axcodes2ornt((*code, rest))
    return image.as_reoriented(ornt_transform(io_orientation(image.affine), wanted))


@pytest.mark.parametrize("scan_code", ORIENTATIONS)
def test_nifti_masks_lie_on_their_scan_whatever_both_affines_are(tmp_path: Path, scan_code: str) -> None:
    axial = not {"S", "I"} & set(scan_code)
    image, mask = _pair(tmp_path, "axial" if axial else "coronal")
    nibabel.save(_reoriented(image, scan_code), tmp_path / "a_anterior.nii")
    (scan,) = read_scans(tmp_path / "a_anterior.nii")
    target = Target(scan.view, nifti=tmp_path / "a_anterior.nii", orientation=scan.orientation)
    for mask_code in ORIENTATIONS:
        if ({"S", "I"} & set(mask_code) == set()) != axial:
            continue
        nibabel.save(_reoriented(mask, mask_code), tmp_path / "m.nii")
        found = read_pixel_mask(tmp_path / "m.nii", kind="lesions", labels={}, target=target)
        np.testing.assert_array_equal(found.masks["lesions"] > 0, scan.counts == HOT, err_msg=mask_code)
        assert found.warnings == ()
    # A mask that lost its affine is stored as the scan was read, and a note says so.
    stored = np.asarray(_reoriented(mask, scan_code).dataobj)
    nibabel.save(nibabel.Nifti1Image(stored, np.eye(4)), tmp_path / "m.nii")
    found = read_pixel_mask(tmp_path / "m.nii", kind="lesions", labels={}, target=target)
    np.testing.assert_array_equal(found.masks["lesions"] > 0, scan.counts == HOT)
    assert len(found.warnings) == 1


@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1)])
def test_a_nifti_mask_that_lies_elsewhere_than_its_scan_is_refused(tmp_path: Path, signs: tuple[int, int]) -> None:
    image, mask = _pair(tmp_path, "axial")
    nibabel.save(image, tmp_path / "a.nii")
    affine = np.diag([4.5 * signs[0], 4.5 * signs[1], 1.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(np.asarray(mask.dataobj), affine), tmp_path / "m.nii")
    (scan,) = read_scans(tmp_path / "a.nii")
    target = Target(nifti=tmp_path / "a.nii", orientation=scan.orientation)
    with pytest.raises(ScanError, match=r"m.nii: by its affine it lies elsewhere than its scan"):
        read_pixel_mask(tmp_path / "m.nii", kind="lesions", labels={}, target=target)


@pytest.mark.parametrize(
    ("affine", "said"),
    [
        (np.diag([-4.5, -4.5, 1, 1]), ()),
        (np.array([[-4.5, 0, 0, 2.0], [0, -4.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), ()),  # less than half a pixel
        (np.diag([-1.0, -1, 1, 1]), ("an affine without a place",)),
        (np.array([[-4.5, 0, 0, 22.5], [0, -4.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), None),
        (np.diag([-2.0, -2, 1, 1]), None),
        (np.array([[-4.0, 2, 0, 0], [-2, -4, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), None),
    ],
)
def test_a_nifti_mask_of_the_scans_directions_lies_in_its_place_too(
    tmp_path: Path, affine: np.ndarray, said: tuple[str, ...] | None
) -> None:
    scan = nibabel.Nifti1Image(body_scan().T[:, :, None].astype(np.int32), np.diag([-4.5, -4.5, 1, 1]))
    nibabel.save(scan, tmp_path / "a.nii")
    nibabel.save(nibabel.Nifti1Image(lesion_mask().T[:, :, None], affine), tmp_path / "m.nii")
    target = Target(nifti=tmp_path / "a.nii", orientation=read_scans(tmp_path / "a.nii")[0].orientation)
    if said is None:
        with pytest.raises(ScanError, match=r"m.nii: by its affine it lies elsewhere than its scan"):
            read_pixel_mask(tmp_path / "m.nii", kind="lesions", labels={}, target=target)
        return
    found = read_pixel_mask(tmp_path / "m.nii", kind="lesions", labels={}, target=target)
    np.testing.assert_array_equal(found.masks["lesions"] > 0, TRUTH)
    assert len(found.warnings) == len(said) and all(map(str.startswith, found.warnings, said))


def test_a_mirrored_nifti_mask_of_a_picture_is_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(lesion_mask().T, np.diag([4.5, -4.5, 1, 1])), tmp_path / "m.nii")
    with pytest.raises(ScanError, match="by its affine it is mirrored"):
        read_pixel_mask(tmp_path / "m.nii", kind="lesions", labels={}, target=Target(View.ANTERIOR))


@pytest.mark.parametrize("form", ["nii.gz", "npy", "tif"])
def test_a_mask_with_a_page_for_each_view(tmp_path: Path, form: str) -> None:
    source = tmp_path / "in"
    both = np.stack([body_scan(1), body_scan(2)[:, ::-1]])
    save_dicom(nm_header(both, views=("Anterior", "Posterior")), source / "a.dcm")
    pages = np.stack([lesion_mask(LESIONS[:1]), lesion_mask(LESIONS[1:])])
    path = source / f"a_mask.{form}"
    if form == "npy":
        np.save(path, pages)
    elif form == "tif":
        Image.fromarray(pages[0]).save(path, save_all=True, append_images=[Image.fromarray(pages[1])])
    else:
        nibabel.save(nibabel.Nifti1Image(pages.transpose(2, 1, 0), np.diag([-4.5, -4.5, 1, 1])), path)
    outcome, masks = imported(source)
    assert outcome.problems == []
    np.testing.assert_array_equal(list(masks.values()), pages > 0)
