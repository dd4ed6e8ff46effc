"""Results in other programs: every file marks the pixels of its own frame, and lies where viewers look for it."""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from scipy import ndimage

from msanet_jax.prediction.predict import Request, predict_with
from tests.fakes import HOT_MODEL
from tests.user_files import LESIONS, body_scan, lesion_mask, nm_header, save_dicom

BACK = ((130, 70, 6, 4), (150, 40, 9, 7))
"""Lesions that the posterior detector sees."""
AXIAL, FRONT, BEHIND = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [-1, 0, 0, 0, 0, -1]
SPACE = "1.2.3.4"


def _two_views() -> Dataset:
    return nm_header(np.stack([body_scan(1), body_scan(2, BACK)]), views=("Anterior", "Posterior"))


def _run(header: Dataset, tmp_path: Path, *formats: str, **options: Any) -> Path:
    """Results of a scan in a folder of their own."""
    out = tmp_path / "out"
    source = save_dicom(header, tmp_path / "a.dcm")
    predict_with(HOT_MODEL, [source], out=out, request=Request(formats=formats, progress=False, **options))
    return out


def test_every_file_of_two_views_marks_its_own_frame(tmp_path: Path) -> None:
    out = _run(_two_views(), tmp_path, "png", "npy", "csv", "nifti", "seg")
    for frame, (view, lesions) in enumerate((("anterior", LESIONS), ("posterior", BACK)), start=1):
        mask = lesion_mask(lesions) > 0
        numbered, _ = ndimage.label(mask)
        with Image.open(out / f"a_{view}_mask.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture) > 0, mask)
        np.testing.assert_array_equal(np.load(out / f"a_{view}_probability.npy") > 0.5, mask)
        volume = nibabel.load(out / f"a_{view}_mask.nii.gz")
        np.testing.assert_array_equal(np.asarray(volume.dataobj)[:, :, 0].T, numbered)
        assert nibabel.aff2axcodes(volume.affine) == ("L" if view == "anterior" else "R", "I", "A")
        with (out / f"a_{view}_lesions.csv").open(newline="") as table:
            centres = {(float(row["centre_row_px"]), float(row["centre_column_px"])) for row in csv.DictReader(table)}
        assert centres == {(row + (high - 1) / 2, column + (wide - 1) / 2) for row, column, high, wide in lesions}
        stored = highdicom.seg.segread(out / f"a_{view}_seg.dcm")
        planes = stored.get_pixels_by_source_frame(
            source_sop_instance_uid=pydicom.dcmread(tmp_path / "a.dcm").SOPInstanceUID,
            source_frame_numbers=[frame],
            combine_segments=True,
        )
        np.testing.assert_array_equal(planes[0], numbered)


def _place(header: Dataset, *places: tuple[list[float], list[float]], **entries: Any) -> Dataset:
    header.FrameOfReferenceUID = SPACE
    for detector, (orientation, corner) in zip(header.DetectorInformationSequence, places, strict=False):
        detector.ImageOrientationPatient, detector.ImagePositionPatient = orientation, corner
    for keyword, value in entries.items():
        setattr(header, keyword, value)
    return header


def _four_frames() -> Dataset:
    """Two energy windows; the second is the photopeak."""
    frames = np.stack([body_scan(3, ()), body_scan(4, ()), body_scan(1), body_scan(2, BACK)])
    header = nm_header(frames, views=("Anterior", "Posterior"))
    header.DetectorVector, header.EnergyWindowVector = [1, 2, 1, 2], [1, 1, 2, 2]
    header.EnergyWindowInformationSequence = []
    for low, high in ((90, 120), (126, 154)):
        window, limits = Dataset(), Dataset()
        limits.EnergyWindowLowerLimit, limits.EnergyWindowUpperLimit = low, high
        window.EnergyWindowRangeSequence = [limits]
        header.EnergyWindowInformationSequence.append(window)
    return header


CAMERA = ((FRONT, [-280, -100, 900]), (BEHIND, [280, 100, 900]))
PLACES = {
    # What viewers read: nothing, so the plane is assumed and the frames are 1 mm apart.
    "not placed": (lambda: _place(_two_views()), [(1, AXIAL, [0, 0, 0], True), (2, AXIAL, [0, 0, 1], True)]),
    "four frames": (lambda: _place(_four_frames()), [(3, AXIAL, [0, 0, 2], True), (4, AXIAL, [0, 0, 3], True)]),
    # The first detector, and the stack behind it: rows x columns of FRONT is +y. The second detector stands elsewhere.
    "placed": (
        lambda: _place(_two_views(), *CAMERA),
        [(1, FRONT, [-280, -100, 900], True), (2, FRONT, [-280, -99, 900], False)],
    ),
    "spacing": (
        lambda: _place(_two_views(), *CAMERA, SpacingBetweenSlices=-4.5),
        [(1, FRONT, [-280, -100, 900], True), (2, FRONT, [-280, -104.5, 900], False)],
    ),
    "second detector first": (
        lambda: _place(_two_views(), *CAMERA, DetectorVector=[2, 1]),
        [(1, FRONT, [-280, -100, 900], False), (2, FRONT, [-280, -99, 900], True)],
    ),
    # Two rows in one direction are no plane.
    "no plane": (
        lambda: _place(_two_views(), *2 * [([1, 0, 0, 1, 0, 0], [-5, 6, 7])]),
        [(1, AXIAL, [-5, 6, 7], True), (2, AXIAL, [-5, 6, 8], True)],
    ),
    "one frame": (lambda: _place(nm_header(body_scan(1)), CAMERA[0]), [(None, AXIAL, [0, 0, 0], False)]),
    "one frame, not counted": (
        lambda: _place(nm_header(body_scan(1)), CAMERA[0], NumberOfFrames=None),
        [(None, FRONT, [-280, -100, 900], True)],
    ),
    "placed as a whole": (
        lambda: _place(nm_header(body_scan(1)), ImageOrientationPatient=FRONT, ImagePositionPatient=[1, 2, 3]),
        [(None, FRONT, [1, 2, 3], True)],
    ),
}


@pytest.mark.parametrize("case", PLACES)
def test_a_segmentation_lies_where_viewers_show_its_frame(case: str, tmp_path: Path) -> None:
    """(Frame, plane, corner, whether in the scan's frame of reference) of each segmentation."""
    make, expected = PLACES[case]
    found = []
    for path in _run(make(), tmp_path, "seg").glob("*_seg.dcm"):
        stored = pydicom.dcmread(path)
        (shared,) = stored.SharedFunctionalGroupsSequence
        corners = [
            group.PlanePositionSequence[0].ImagePositionPatient for group in stored.PerFrameFunctionalGroupsSequence
        ]
        assert all(corner == corners[0] for corner in corners)
        for group in stored.PerFrameFunctionalGroupsSequence:
            (reference,) = group.DerivationImageSequence[0].SourceImageSequence
            frame = reference.get("ReferencedFrameNumber")
        plane = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        found.append((frame, list(plane), list(corners[0]), stored.FrameOfReferenceUID == SPACE))
    assert sorted(found, key=str) == expected


def _picture() -> Dataset:
    """A scan that was sent as a picture, under the class of pictures."""
    header = nm_header(body_scan(1))
    del header.NumberOfFrames
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    return header


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
@pytest.mark.parametrize("make", [_two_views, _picture, lambda: _place(_two_views(), *CAMERA)])
@pytest.mark.parametrize("anonymous", [False, True])
def test_dicom_results_pass_a_validator(make: Any, anonymous: bool, tmp_path: Path) -> None:
    out = _run(make(), tmp_path, "seg", "sc", anonymous=anonymous)
    for path in out.glob("*.dcm"):
        checked = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, timeout=60)
        said = checked.stdout + checked.stderr
        assert "Segmentation" in said or "SCImage" in said
        assert [line for line in said.splitlines() if line.startswith("Error")] == []
