"""What other cameras, archives and programs write: read as the standard says, or one line that names a flag."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from data_pipeline.readers import budget, read_scans
from data_pipeline.readers.orientation import NAMES, inverse, orientation_of, standing, upright
from data_pipeline.readers.stated import Stated, parse_view
from data_pipeline.readers.views import view_and_guess, without_view
from data_pipeline.scan import Scan, ScanError, View
from tests.user_files import body_scan, lesion_mask, nm_header, save_dicom, save_picture

BODY = body_scan(1)
A, P, U = View.ANTERIOR, View.POSTERIOR, View.UNKNOWN


def _file(path: Path, values: np.ndarray = BODY, change: Callable[[Dataset], Any] = lambda header: None) -> Path:
    """A DICOM of one view, or of two (anterior, posterior)."""
    header = nm_header(values, views=("Anterior", "Posterior")[: 1 if values.ndim == 2 else 2])
    change(header)
    return save_dicom(header, path)


def _one(path: Path, **stated: Any) -> Scan:
    (scan,) = read_scans(path, Stated(**stated))
    return scan


def _refused(path: Path, words: str, **stated: Any) -> None:
    with pytest.raises(ScanError) as refusal:
        read_scans(path, Stated(**stated))
    line = str(refusal.value)
    assert line.startswith(f"{path}: ") and "\n" not in line
    assert words in line


def _set(**values: Any) -> Callable[[Dataset], None]:
    def change(header: Dataset) -> None:
        for key, value in values.items():
            setattr(header, key, value)

    return change


def _as_dicom(folder: Path, values: np.ndarray) -> Path:
    return _file(folder / "a_ant.dcm", values)


def _as_npy(folder: Path, values: np.ndarray) -> Path:
    np.save(folder / "a_ant.npy", values.astype(np.int32))
    return folder / "a_ant.npy"


def _as_nifti(folder: Path, values: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(values.T.astype(np.int32), np.diag([-4.52, -4.52, 1, 1])), folder / "a_ant.nii.gz")
    return folder / "a_ant.nii.gz"


def _as_png(folder: Path, values: np.ndarray) -> Path:
    return save_picture(values.astype(np.uint16), folder / "a_ant.png")


def _as_tiff(folder: Path, values: np.ndarray) -> Path:
    return save_picture(values.astype(np.uint16), folder / "a_ant.tif")


FORMATS = [_as_dicom, _as_npy, _as_nifti, _as_png, _as_tiff]


@pytest.mark.parametrize("save", FORMATS)
def test_inverted_values_of_any_format(tmp_path: Path, save: Callable[[Path, np.ndarray], Path]) -> None:
    path = save(tmp_path, BODY.max() - BODY)
    _refused(path, "the background is brighter than the patient")
    _refused(path, "say --inverted")
    scan = _one(path, inverted=True)
    np.testing.assert_array_equal(scan.counts, BODY)
    np.testing.assert_array_equal(_one(path, inverted=False).counts, BODY.max() - BODY)
    np.testing.assert_array_equal(_one(save(tmp_path, BODY), inverted=True).counts, BODY)
    framed = BODY.max() - BODY
    framed[[0, -1]] = framed[:, [0, -1]] = 0  # a black frame around a white background
    _refused(save(tmp_path, framed), "brighter than the patient")


def test_monochrome1_alone_says_how_counts_are_shown(tmp_path: Path) -> None:
    path = _file(tmp_path / "a.dcm", change=_set(PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(_one(path).counts, BODY)


@pytest.mark.parametrize("save", FORMATS)
def test_masks_offsets_and_margins_are_no_counts(tmp_path: Path, save: Callable[[Path, np.ndarray], Path]) -> None:
    for mask in (lesion_mask(), lesion_mask(value=0), lesion_mask(value=1)):
        _refused(save(tmp_path, mask), "a mask, no scan")
    _refused(save(tmp_path, BODY + 1024), "an offset was added")
    margin = BODY.copy()
    margin[:4] = 60_000
    _refused(save(tmp_path, margin), "a margin; cut it off")


@pytest.mark.parametrize("value", [65535, 700, -1])
def test_padding_is_no_counts(tmp_path: Path, value: int) -> None:
    padded = BODY.copy()
    padded[:8] = value % 65536

    def change(header: Dataset) -> None:
        header.PixelPaddingValue = value
        header["PixelPaddingValue"].VR = "SS" if value < 0 else "US"

    scan = _one(_file(tmp_path / "a.dcm", padded, change))
    expected = np.where(np.arange(512)[:, None] < 8, 0, BODY)
    np.testing.assert_array_equal(scan.counts, expected)
    assert f"{8 * 128} pixels of PixelPaddingValue taken for no counts" in scan.warnings


def test_padding_range(tmp_path: Path) -> None:
    padded = BODY.copy()
    padded[:2], padded[2:4] = 60_000, 60_500
    scan = _one(_file(tmp_path / "a.dcm", padded, _set(PixelPaddingValue=60_000, PixelPaddingRangeLimit=61_000)))
    assert (scan.counts[:4] == 0).all() and (scan.counts[4:] == BODY[4:]).all()


@pytest.mark.parametrize("number", range(1, 9))
def test_turning_and_its_inverse(number: int) -> None:
    """By hand: rows and columns of a 2 x 3 image as the EXIF standard draws them."""
    shown = np.array([[1, 2, 3], [4, 5, 6]])
    drawn = {
        1: [[1, 2, 3], [4, 5, 6]],
        2: [[3, 2, 1], [6, 5, 4]],
        3: [[6, 5, 4], [3, 2, 1]],
        4: [[4, 5, 6], [1, 2, 3]],
        5: [[1, 4], [2, 5], [3, 6]],
        6: [[3, 6], [2, 5], [1, 4]],
        7: [[6, 3], [5, 2], [4, 1]],
        8: [[4, 1], [5, 2], [6, 3]],
    }
    np.testing.assert_array_equal(upright(np.array(drawn[number]), number), shown)
    np.testing.assert_array_equal(upright(shown, inverse(number)), drawn[number])


@pytest.mark.parametrize("view", [A, P])
@pytest.mark.parametrize("columns", "LRHF")
@pytest.mark.parametrize("rows", "LRHF")
def test_patient_orientation(tmp_path: Path, view: View, columns: str, rows: str) -> None:
    if {columns, rows} in ({"L"}, {"R"}, {"H"}, {"F"}, {"L", "R"}, {"H", "F"}):
        assert orientation_of(columns, rows, view) is None
        return
    # Stored so that its columns and rows run as the header says, by flipping what stands.
    stored = BODY if columns in "LR" else BODY.T
    side, foot = (columns, rows) if columns in "LR" else (rows, columns)
    flips = (foot == "H", side != ("L" if view == A else "R"))
    axes = [axis for axis, flip in zip((0, 1) if columns in "LR" else (1, 0), flips, strict=True) if flip]
    stored = np.flip(stored, axes)

    def change(header: Dataset) -> None:
        header.PatientOrientation = [columns, rows]
        header.DetectorInformationSequence[0].ViewCodeSequence[0].CodeMeaning = view.value

    path = _file(tmp_path / "a.dcm", stored, change)
    scan = _one(path)
    np.testing.assert_array_equal(scan.counts, BODY)
    np.testing.assert_array_equal(upright(stored, scan.orientation), BODY)
    assert standing(columns, rows, scan.orientation) == (("L" if view == A else "R"), "F")
    assert any("PatientOrientation" in note for note in scan.warnings) == (scan.orientation != 1)
    np.testing.assert_array_equal(_one(path, orientation=1).counts, stored)


def test_orientation_that_needs_a_view_or_is_lateral(tmp_path: Path) -> None:
    def unknown(header: Dataset) -> None:
        header.PatientOrientation, header.DetectorVector = ["L", "H"], 7

    path = _file(tmp_path / "a.dcm", BODY[::-1], unknown)
    _refused(path, "no view is stated; --view= says it")
    np.testing.assert_array_equal(_one(path, views=(A,)).counts, BODY)
    path = _file(tmp_path / "b.dcm", BODY, _set(PatientOrientation=["A", "F"]))
    _refused(path, "lateral")
    two = _file(tmp_path / "c.dcm", np.stack([BODY[::-1], BODY[::-1]]), _set(PatientOrientation=["L", "H"]))
    for scan in read_scans(two):
        np.testing.assert_array_equal(scan.counts, BODY)

    def cosines(header: Dataset) -> None:
        header.DetectorInformationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 0, 1]

    assert _one(_file(tmp_path / "d.dcm", BODY[::-1], cosines)).orientation == 4


@pytest.mark.parametrize("vector", [None, [1], [1, 2, 1]])
def test_detector_vector_absent_or_of_wrong_length(tmp_path: Path, vector: list[int] | None) -> None:
    def change(header: Dataset) -> None:
        del header.DetectorVector
        if vector:
            header.DetectorVector = vector

    path = _file(tmp_path / "a.dcm", np.stack([BODY, body_scan(2)]), change)
    scans = read_scans(path)
    assert [scan.view for scan in scans] == [A, P]
    assert all(any("--view= settles it" in note for note in scan.warnings) for scan in scans)
    assert [scan.view for scan in read_scans(path, Stated(views=(P, A)))] == [P, A]
    _refused(path, "--view=anterior does not fit 2 view(s)", views=(A,))


def test_two_frames_of_one_side_are_refused(tmp_path: Path) -> None:
    frames = np.stack([BODY, body_scan(2)])
    for name, change in {"detector": _set(DetectorVector=[1, 1]), "view": _both_anterior}.items():
        path = _file(tmp_path / f"{name}.dcm", frames, change)
        _refused(path, "--view=anterior,posterior says which is which")
        assert [scan.view for scan in read_scans(path, Stated(views=(A, P)))] == [A, P]


def _both_anterior(header: Dataset) -> None:
    header.DetectorInformationSequence[1].ViewCodeSequence[0].CodeMeaning = "Anterior"


def test_one_stated_view_tells_the_other(tmp_path: Path) -> None:
    def change(header: Dataset) -> None:
        header.DetectorInformationSequence[0].ViewCodeSequence[0].CodeMeaning = "head 1"
        header.DetectorInformationSequence[1].ViewCodeSequence[0].CodeMeaning = "Anterior"

    scans = read_scans(_file(tmp_path / "a.dcm", np.stack([BODY, body_scan(2)]), change))
    assert [scan.view for scan in scans] == [P, A]
    assert "opposite to the other; --view=" in " ".join(scans[0].warnings)


@pytest.mark.parametrize(
    ("code", "meaning"),
    [("x", "Left lateral"), ("399108003", "RAO"), ("G-5223", ""), ("x", "LPO"), ("49370004", ""), ("x", "Vertex")],
)
def test_lateral_and_oblique_codes_are_refused(tmp_path: Path, code: str, meaning: str) -> None:
    def change(header: Dataset) -> None:
        item = header.DetectorInformationSequence[0].ViewCodeSequence[0]
        item.CodeValue, item.CodeMeaning = code, meaning

    path = _file(tmp_path / "a.dcm", change=change)
    _refused(path, "a lateral or oblique view")
    assert _one(path, views=(A,)).view == A


def test_lateral_by_words(tmp_path: Path) -> None:
    path = _file(tmp_path / "a.dcm", change=_set(ImageID="LEFT LAT", DetectorInformationSequence=[]))
    _refused(path, "a lateral or oblique view by ImageID")
    _refused(save_picture(BODY, tmp_path / "p1_rao.png"), 'oblique view by its name ("rao")')


@pytest.mark.parametrize(
    ("text", "view", "guess"),
    [
        ("Whole body 3h post injection", U, ""),
        ("POST CHEMO", U, ""),
        ("back pain", U, ""),
        ("post_therapy", U, ""),
        ("pos", U, ""),
        ("3h post", U, ""),
        ("frontal bone", A, "frontal"),
        ("WB ANT post therapy", A, ""),
        ("WHOLE BODY POST", P, "post"),
        ("case7_POST", P, "post"),
        ("back view", P, "back"),
        ("wholeBodyPOST", P, "post"),
        ("Posterior", P, ""),
        ("ANT POST", U, ""),
    ],
)
def test_words_with_other_meanings(text: str, view: View, guess: str) -> None:
    assert view_and_guess(text) == (view, guess)


def test_post_injection_is_no_view_and_a_guess_is_named(tmp_path: Path) -> None:
    change = _set(SeriesDescription="Whole body 3h post injection", DetectorInformationSequence=[])
    scan = _one(_file(tmp_path / "a.dcm", change=change))
    assert scan.view == A and "detector's number" in " ".join(scan.warnings)
    scan = _one(save_picture(BODY, tmp_path / "post" / "p1.png"))
    assert scan.view == P and 'view taken from the word "post"; --view= settles it' in scan.warnings
    assert _one(save_picture(BODY, tmp_path / "pos" / "p1.png")).view == U
    assert without_view("p1_pos") == without_view("p1_ant") == "p1_"
    assert without_view("ant_important_posture") == "_important_posture"


def test_pixel_sizes_that_no_camera_has(tmp_path: Path) -> None:
    for spacing in (0.452, 0.00452, 45.2, 4520):
        path = _file(tmp_path / "a.dcm", change=_set(PixelSpacing=[spacing, spacing]))
        _refused(path, "which no camera has; say the size with --pixel-mm=")
        scan = _one(path, pixel_mm=4.52)
        assert scan.pixel_size_mm == (4.52, 4.52)
        assert any("--pixel-mm" in note for note in scan.warnings)
    path = _file(tmp_path / "b.dcm", change=_set(PixelSpacing=[1, 1]))
    scan = _one(path)
    assert scan.pixel_size_mm is None and "1 mm is what programs write that know none" in scan.warnings[-1]
    assert _one(path, pixel_mm=4.52).pixel_size_mm == (4.52, 4.52)
    affine = np.diag([-0.452, -0.452, 1, 1])
    nibabel.save(nibabel.Nifti1Image(BODY.T.astype(np.int32), affine), tmp_path / "c.nii")
    _refused(tmp_path / "c.nii", "which no camera has")
    assert _one(_file(tmp_path / "d.dcm"), pixel_mm=2.0).pixel_size_mm == (4.52, 4.52), "what a file states stays"


@pytest.mark.parametrize(
    ("stored", "slope", "intercept"), [(BODY + 1024, 1, -1024), (BODY * 2, 0.5, 0), (5000 - BODY, -1, 5000)]
)
def test_rescaling_as_the_standard_says(tmp_path: Path, stored: np.ndarray, slope: float, intercept: float) -> None:
    path = _file(tmp_path / "a.dcm", stored, _set(RescaleSlope=slope, RescaleIntercept=intercept))
    scan = _one(path)
    np.testing.assert_array_equal(scan.counts, BODY)
    assert any("rescale slope" in note for note in scan.warnings)


def test_a_slope_that_is_only_a_unit(tmp_path: Path) -> None:
    stored = BODY + 100
    scan = _one(_file(tmp_path / "a.dcm", stored, _set(RescaleSlope=0.37, RescaleIntercept=-37)))
    np.testing.assert_array_equal(scan.counts, BODY)
    _refused(_file(tmp_path / "b.dcm", change=_set(RescaleSlope=0, RescaleIntercept=1)), "rescale slope of 0")


def test_nifti_slope_and_intercept(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image((BODY + 1024).T.astype(np.int16), np.diag([-4.52, -4.52, 1, 1]))
    image.header.set_slope_inter(1, -1024)
    raw = bytearray(image.to_bytes())
    raw[112:120] = np.array([1, -1024], "<f4").tobytes()
    raw[352:] = (BODY + 1024).T.astype("<i2").tobytes(order="F")
    (tmp_path / "a.nii").write_bytes(raw)
    np.testing.assert_array_equal(_one(tmp_path / "a.nii").counts, BODY)


@pytest.mark.parametrize("signed", [0, 1])
def test_left_justified_bits(tmp_path: Path, signed: int) -> None:
    peak = BODY.copy()
    peak[200, 60] = 2000
    change = _set(BitsStored=12, HighBit=15, PixelRepresentation=signed)
    np.testing.assert_array_equal(_one(_file(tmp_path / "a.dcm", peak << 4, change)).counts, peak)
    _refused(_file(tmp_path / "b.dcm", peak, change), "left-justified, the lowest bits are not empty")
    _refused(_file(tmp_path / "c.dcm", peak, _set(BitsStored=12, HighBit=7)), "12 bits up to bit 7 of 16 cannot be")


def _windows(*limits: tuple[float, float], vector: list[int], names: tuple[str, ...] = ()) -> Callable[[Dataset], None]:
    def change(header: Dataset) -> None:
        header.EnergyWindowVector, header.DetectorVector = vector, [1] * len(vector)
        header.EnergyWindowInformationSequence = []
        for number, (low, high) in enumerate(limits):
            item, window = Dataset(), Dataset()
            item.EnergyWindowLowerLimit, item.EnergyWindowUpperLimit = low, high
            window.EnergyWindowRangeSequence = [item] if high else []
            window.EnergyWindowName = names[number] if names else ""
            header.EnergyWindowInformationSequence.append(window)

    return change


def test_scatter_window_stored_first(tmp_path: Path) -> None:
    frames = np.stack([body_scan(2) // 3, BODY])
    path = _file(tmp_path / "a.dcm", frames, _windows((114, 126), (126, 154), vector=[1, 2]))
    scan = _one(path)
    np.testing.assert_array_equal(scan.counts, BODY)
    assert scan.frame == 1 and "number 2, that of the photopeak, is used" in " ".join(scan.warnings)
    np.testing.assert_array_equal(_one(path, energy_window=1).counts, frames[0])
    _refused(path, "--energy-window=3: the file has 2 windows", energy_window=3)
    named = _file(tmp_path / "b.dcm", frames, _windows((0, 0), (0, 0), vector=[1, 2], names=("SCATTER", "TC99M")))
    np.testing.assert_array_equal(_one(named).counts, BODY)
    silent = _file(tmp_path / "c.dcm", frames, _windows((0, 0), (0, 0), vector=[1, 2]))
    scan = _one(silent)
    np.testing.assert_array_equal(scan.counts, BODY)
    assert "that with the most counts, is used; --energy-window= settles it" in " ".join(scan.warnings)
    alone = _file(tmp_path / "d.dcm", BODY, _windows((114, 126), vector=[1]))
    _refused(alone, "scattered radiation only; --energy-window=")
    assert _one(alone, energy_window=1).view == A


@pytest.mark.parametrize("save", [_as_dicom, _as_npy, _as_png])
def test_arrays_that_lie(tmp_path: Path, save: Callable[[Path, np.ndarray], Path]) -> None:
    for number in range(1, 9):
        path = save(tmp_path, upright(BODY, inverse(number)))
        if number >= 5:
            _refused(path, "the patient lies")
        np.testing.assert_array_equal(_one(path, orientation=number).counts, BODY)


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_orientation(tmp_path: Path, number: int, compression: str | None) -> None:
    stored = upright(BODY.astype(np.uint16), inverse(number))
    path = tmp_path / "a_ant.tif"
    tifffile.imwrite(path, stored, compression=compression, extratags=[(274, "H", 1, number, True)])
    scan = _one(path)
    np.testing.assert_array_equal(scan.counts, BODY)
    assert scan.orientation == number
    # The tag alone: pixels that stand are laid down by it, which is told, and `--orientation` settles it.
    tifffile.imwrite(path, BODY.astype(np.uint16), extratags=[(274, "H", 1, 6, True)])
    _refused(path, "the patient lies")
    np.testing.assert_array_equal(_one(path, orientation=NAMES["as-stored"]).counts, BODY)


@pytest.mark.parametrize("number", range(1, 9))
def test_exif_orientation(tmp_path: Path, number: int) -> None:
    exif = Image.Exif()
    exif[274] = number
    Image.fromarray(upright(BODY.astype(np.uint16), inverse(number))).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(_one(tmp_path / "a.png").counts, BODY)


@pytest.mark.parametrize("view", [A, P])
@pytest.mark.parametrize("x", [-1, 1])
@pytest.mark.parametrize("z", [-1, 1])
@pytest.mark.parametrize("rows_first", [False, True])
def test_coronal_nifti(tmp_path: Path, view: View, x: int, z: int, rows_first: bool) -> None:
    """Columns of an anterior view run to -x (the patient's left), of a posterior one to +x; rows to -z."""
    stored = np.flip(BODY, [axis for axis, turn in ((0, z > 0), (1, x != (-1 if view == A else 1))) if turn])
    affine = np.array([[4.52 * x, 0, 0, 0], [0, 0, 1, 0], [0, 4.52 * z, 0, 0], [0, 0, 0, 1.0]])
    volume = stored.T[:, :, None]
    if rows_first:
        volume, affine = stored[:, :, None], affine[:, [1, 0, 2, 3]]
    path = tmp_path / f"scan_{view}.nii.gz"
    nibabel.save(nibabel.Nifti1Image(volume.astype(np.int32), affine), path)
    np.testing.assert_array_equal(_one(path).counts, BODY)
    nibabel.save(nibabel.as_closest_canonical(nibabel.load(path)), path)
    np.testing.assert_array_equal(_one(path).counts, BODY)


def test_planar_nifti_in_canonical_form(tmp_path: Path) -> None:
    """ITK's planar image, columns along -x and rows along -y, turned by `as_closest_canonical`, is turned back."""
    image = nibabel.Nifti1Image(BODY.T[:, :, None].astype(np.int32), np.diag([-4.52, -4.52, 1, 1]))
    nibabel.save(nibabel.as_closest_canonical(image), tmp_path / "scan_ant.nii")
    np.testing.assert_array_equal(_one(tmp_path / "scan_ant.nii").counts, BODY)


def test_view_flag() -> None:
    assert parse_view("Anterior") == (A,)
    assert parse_view("posterior, anterior") == (P, A)
    assert parse_view(None) == ()
    for text in ("left", "anterior,posterior,anterior", ""):
        with pytest.raises(ValueError, match="must be anterior, posterior, or both"):
            parse_view(text)


def test_bombs_stop_at_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = nm_header(BODY)
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save_dicom(header, tmp_path / "deflated.dcm")
    np.testing.assert_array_equal(_one(path).counts, BODY)
    packed = _as_nifti(tmp_path, BODY)
    np.testing.assert_array_equal(_one(packed).counts, BODY)
    monkeypatch.setattr(budget, "MAX_FILE_BYTES", 100_000)
    for bomb in (path, packed):
        _refused(bomb, "unpacks to more than")
    _refused(_file(tmp_path / "plain.dcm"), "no planar scan is that large")


def test_reading_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(path: Path, stated: Stated) -> list[Scan]:
        while True:
            pass

    monkeypatch.setattr("data_pipeline.readers._read", endless)
    monkeypatch.setattr(budget, "MAX_SECONDS", 0.05)
    _refused(tmp_path / "a.dcm", "took more than 0.05 s")
