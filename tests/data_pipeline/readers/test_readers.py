"""Readers on the real scan, on DICOM files made here, and on everything that is no scan."""

from __future__ import annotations

import pickle
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data_store
import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, NuclearMedicineImageStorage, generate_uid

from data_pipeline.readers import read_scans
from data_pipeline.readers.pseudonyms import KEY_VARIABLE, pseudonym, pseudonym_key
from data_pipeline.readers.values import to_counts
from data_pipeline.readers.views import file_view_and_guess, view_of_text, without_view
from data_pipeline.scan import ScanError, View

DATA = Path(data_store.__file__).parent / "data"
NAME, NUMBER = "DOE^JANE", "4711-XY"


def _counts(rows: int = 64, columns: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(20, (rows, columns)).astype(np.int16)


def _header(frames: np.ndarray) -> Dataset:
    """A small planar NM study with a patient in it."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = NuclearMedicineImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid(entropy_srcs=["scan"])
    header.Modality, header.PatientName, header.PatientID = "NM", NAME, NUMBER
    header.PatientBirthDate = "19500102"
    header.ImageType = ["ORIGINAL", "PRIMARY", "WHOLE BODY", "EMISSION"]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 1
    header.PixelSpacing = [4.8, 4.8]
    _fill(header, frames)
    return header


def _fill(header: Dataset, frames: np.ndarray) -> None:
    frames = frames[None] if frames.ndim == 2 else frames
    header.NumberOfFrames, header.Rows, header.Columns = frames.shape
    header.PixelData = frames.astype("<i2").tobytes()


def _save(header: Dataset, path: Path) -> Path:
    header.save_as(path, enforce_file_format=True)
    return path


def _dicom(tmp_path: Path, change: Callable[[Dataset], Any] = lambda header: None, frames: int = 1) -> Path:
    counts = np.stack([_counts(seed=frame) for frame in range(frames)])
    header = _header(counts)
    change(header)
    return _save(header, tmp_path / "scan.dcm")


def _detectors(*meanings: str) -> Callable[[Dataset], None]:
    def change(header: Dataset) -> None:
        header.DetectorVector = list(range(1, len(meanings) + 1))
        header.DetectorInformationSequence = []
        for meaning in meanings:
            detector, code = Dataset(), Dataset()
            code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "x", "99TEST", meaning
            detector.ViewCodeSequence = [code]
            header.DetectorInformationSequence.append(detector)

    return change


def test_real_lossless_scan() -> None:
    (scan,) = read_scans(DATA / "JPEG-LL.dcm")
    assert scan.counts.shape == (1024, 256)
    assert scan.counts.sum() == 3_596_452
    assert (scan.counts.min(), scan.counts.max()) == (0, 278)
    assert scan.pixel_size_mm == (2.26, 2.26)
    assert scan.view == View.ANTERIOR
    assert scan.source == "JPEG-LL.dcm"
    assert any("detector's number" in warning for warning in scan.warnings)


def test_real_lossy_scan_is_clipped_and_says_so() -> None:
    (scan,) = read_scans(DATA / "JPEG2000_UNC.dcm")
    assert scan.counts.min() == 0
    assert scan.counts.max() == 245
    told = " | ".join(scan.warnings)
    assert "negative pixels (down to -30)" in told
    assert "lossy compression" in told
    assert "states 3596452 counts" in told


def test_lossy_and_lossless_scan_have_one_patient() -> None:
    patients = {read_scans(DATA / name)[0].patient for name in ("JPEG-LL.dcm", "JPEG2000_UNC.dcm")}
    assert len(patients) == 1


def test_one_frame(tmp_path: Path) -> None:
    (scan,) = read_scans(_dicom(tmp_path))
    np.testing.assert_array_equal(scan.counts, _counts())
    assert scan.pixel_size_mm == (4.8, 4.8)
    assert scan.view == View.UNKNOWN


def test_nothing_identifying_is_kept(tmp_path: Path) -> None:
    (scan,) = read_scans(_dicom(tmp_path))
    kept = f"{scan.patient} {scan.source} {scan.warnings}"
    for secret in ("DOE", "JANE", NUMBER, "4711", "1950"):
        assert secret not in kept


@pytest.mark.parametrize(
    ("change", "views"),
    [
        (_detectors("Anterior projection", "Posterior projection"), [View.ANTERIOR, View.POSTERIOR]),
        (_detectors("Posterior", "Anterior"), [View.POSTERIOR, View.ANTERIOR]),
        (lambda header: setattr(header, "DetectorVector", [1, 2]), [View.ANTERIOR, View.POSTERIOR]),
        (lambda header: setattr(header, "DetectorVector", [2, 1]), [View.POSTERIOR, View.ANTERIOR]),
    ],
)
def test_two_frames(tmp_path: Path, change: Callable[[Dataset], Any], views: list[View]) -> None:
    scans = read_scans(_dicom(tmp_path, change, frames=2))
    assert [scan.view for scan in scans] == views
    for frame, scan in enumerate(scans):
        np.testing.assert_array_equal(scan.counts, _counts(seed=frame))
    assert scans[0].patient == scans[1].patient


@pytest.mark.parametrize(
    ("keyword", "text", "view"),
    [
        ("ImageID", "WB_ANT", View.ANTERIOR),
        ("ImageID", "Posterior", View.POSTERIOR),
        ("SeriesDescription", "WHOLE BODY POST", View.POSTERIOR),
        ("ImageID", "LEFT POST", View.UNKNOWN),
        ("ImageID", "ANT/POST", View.UNKNOWN),
    ],
)
def test_view_of_one_frame_from_text(tmp_path: Path, keyword: str, text: str, view: View) -> None:
    assert read_scans(_dicom(tmp_path, lambda header: setattr(header, keyword, text)))[0].view == view


def test_codes_go_before_text_and_file_name(tmp_path: Path) -> None:
    def change(header: Dataset) -> None:
        _detectors("Posterior projection")(header)
        header.ImageID = "ANT"

    path = _dicom(tmp_path, change).rename(tmp_path / "anterior.dcm")
    assert read_scans(path)[0].view == View.POSTERIOR


def test_view_from_the_file_name(tmp_path: Path) -> None:
    path = _dicom(tmp_path).rename(tmp_path / "wholeBodyPOST.dcm")
    assert read_scans(path)[0].view == View.POSTERIOR


def test_second_energy_window_is_left_out(tmp_path: Path) -> None:
    def change(header: Dataset) -> None:
        header.EnergyWindowVector, header.DetectorVector = [1, 1, 2, 2], [1, 2, 1, 2]

    scans = read_scans(_dicom(tmp_path, change, frames=4))
    assert [scan.view for scan in scans] == [View.ANTERIOR, View.POSTERIOR]
    assert any("energy windows" in warning for warning in scans[0].warnings)


def test_rescaling_is_not_applied_but_told(tmp_path: Path) -> None:
    def change(header: Dataset) -> None:
        header.RescaleSlope, header.RescaleIntercept = 0.5, 0

    (scan,) = read_scans(_dicom(tmp_path, change))
    np.testing.assert_array_equal(scan.counts, _counts())
    assert any("rescale slope 0.5" in warning for warning in scan.warnings)


def test_broken_header_entries_stay_out_of_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _dicom(tmp_path, lambda header: setattr(header, "PatientID", "4711 in room 9"))
    # Breaks the rules for identifiers and numbers in place, as old exports do.
    path.write_bytes(path.read_bytes().replace(b"4711 in room 9", b"4711\\in room 9").replace(b"4.8\\4.8", b"4,8\\4,8"))
    with pytest.raises(ScanError, match="header entry cannot be read"):
        read_scans(path)
    assert caplog.text == ""


def test_file_without_preamble_and_suffix(tmp_path: Path) -> None:
    whole = _dicom(tmp_path).read_bytes()
    bare = tmp_path / "IM0001"
    bare.write_bytes(whole[132:])
    np.testing.assert_array_equal(read_scans(bare)[0].counts, _counts())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: setattr(header, "Modality", "CT"), "modality CT"),
        (lambda header: header.__delitem__("Modality"), "states no modality; it was cut short"),
        (lambda header: header.__delitem__("PixelData"), "no pixel data"),
        (lambda header: setattr(header, "ImageType", ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]), "tomographic"),
        (lambda header: setattr(header, "ImageType", ["ORIGINAL", "PRIMARY", "DYNAMIC", "EMISSION"]), "tomographic"),
        (lambda header: setattr(header, "SamplesPerPixel", 3), "colour"),
        (lambda header: setattr(header, "PhotometricInterpretation", "PALETTE COLOR"), "palette"),
        (lambda header: setattr(header, "PixelData", header.PixelData[:-64]), "cannot be decoded"),
        (lambda header: setattr(header, "PixelSpacing", [4.8, 9.6]), "square pixels"),
        (lambda header: setattr(header, "NumberOfFrames", 200), "200 frames"),
        (lambda header: _fill(header, np.zeros((3, 64, 32))), "3 frames"),
        (lambda header: _fill(header, np.zeros((64, 32))), "empty"),
        (lambda header: _fill(header, _counts() - 30), "negative values make up"),
        (lambda header: _fill(header, np.ones((8, 8))), "8 x 8 pixels"),
    ],
)
def test_refused_dicom(tmp_path: Path, change: Callable[[Dataset], Any], message: str) -> None:
    _assert_refused(_dicom(tmp_path, change), message)


def _assert_refused(path: Path, message: str) -> None:
    """One clear line that names the file, and none of the patient."""
    with pytest.raises(ScanError) as refusal:
        read_scans(path)
    text = str(refusal.value)
    assert message in text
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert NAME not in text
    assert NUMBER not in text


@pytest.mark.parametrize("kept", [140, 400, 1500, 3000])
def test_truncated_dicom(tmp_path: Path, kept: int) -> None:
    path = _dicom(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    _assert_refused(path, "")


def test_truncated_real_scan(tmp_path: Path) -> None:
    path = tmp_path / "cut.dcm"
    path.write_bytes((DATA / "JPEG-LL.dcm").read_bytes()[:60_000])
    _assert_refused(path, "damaged or truncated DICOM")


def test_unknown_transfer_syntax(tmp_path: Path) -> None:
    header = pydicom.dcmread(DATA / "JPEG-LL.dcm")
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.103"  # MPEG-4
    path = tmp_path / "film.dcm"
    header.save_as(path)
    _assert_refused(path, "cannot be decoded")


@pytest.mark.parametrize("name", ["CT_small.dcm", "SC_rgb_rle.dcm", "rtplan.dcm", "MR_small.dcm"])
def test_other_modalities(tmp_path: Path, name: str) -> None:
    _assert_refused(Path(shutil.copy(get_testdata_file(name), tmp_path)), "modality")


def test_dicom_with_the_preamble_of_a_tiff(tmp_path: Path) -> None:
    path = _dicom(tmp_path)
    path.write_bytes(b"II*\x00" + path.read_bytes()[4:])
    assert read_scans(path)[0].counts.sum() == _counts().sum()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.dcm", b"This is a letter about a scan.\n" * 40, "is not a DICOM, PNG, JPEG, TIFF, NPY or NIfTI file"),
        ("short.dcm", b"hello", "is not a DICOM"),
        ("empty.dcm", b"", "empty"),
        ("list.npz", b"PK\x03\x04" + bytes(200), "archive"),
        ("cut.png", b"\x89PNG\r\n\x1a\n" + bytes(60), "cannot be decoded"),
        ("cut.npy", b"\x93NUMPY\x01\x00", "cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_that_are_no_scan(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    _assert_refused(path, message)


def test_a_picture_larger_than_any_scan(tmp_path: Path) -> None:
    """A header that promises 30000 x 30000 pixels; nothing is decoded."""
    chunks = (b"IHDR" + (30_000).to_bytes(4) * 2 + bytes((8, 0, 0, 0, 0)), b"IDAT" + zlib.compress(b""))
    path = tmp_path / "huge.png"
    packed = [(len(chunk) - 4).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4) for chunk in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    _assert_refused(path, "far more pixels than a planar scan has")


def test_absent_file_and_folder(tmp_path: Path) -> None:
    _assert_refused(tmp_path / "none.dcm", "no such file")
    _assert_refused(tmp_path, "is a folder")


@pytest.mark.parametrize(
    ("dtype", "suffix"), [("uint8", "png"), ("uint16", "png"), ("uint16", "tif"), ("uint8", "tif")]
)
def test_grey_pictures(tmp_path: Path, dtype: str, suffix: str) -> None:
    counts = _counts().astype(dtype) * (100 if dtype == "uint16" else 1)
    path = tmp_path / f"A12_ant.{suffix}"
    Image.fromarray(counts).save(path)
    (scan,) = read_scans(path)
    np.testing.assert_array_equal(scan.counts, counts)
    assert scan.counts.dtype == np.int32
    assert (scan.view, scan.pixel_size_mm) == (View.ANTERIOR, None)
    assert any("8 bit" in warning for warning in scan.warnings) == (dtype == "uint8")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1"])
def test_colour_and_transparency(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(_counts().astype(np.uint8)).convert(mode).save(path)
    _assert_refused(path, f"mode {mode}")


def test_inverted_picture(tmp_path: Path) -> None:
    counts = np.full((64, 64), 255, np.uint8)
    counts[16:48, 16:48] = 40
    path = tmp_path / "screen.png"
    Image.fromarray(counts).save(path)
    _assert_refused(path, "invert")


def test_many_pages(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    page = Image.fromarray(_counts().astype(np.uint8))
    page.save(path, save_all=True, append_images=[page])
    _assert_refused(path, "2 pages")


def _npy(tmp_path: Path, array: np.ndarray) -> Path:
    path = tmp_path / "array.npy"
    np.save(path, array)
    return path


def test_arrays(tmp_path: Path) -> None:
    (scan,) = read_scans(_npy(tmp_path, _counts().astype(np.float32)))
    np.testing.assert_array_equal(scan.counts, _counts())
    scans = read_scans(_npy(tmp_path, np.stack([_counts(seed=1), _counts(seed=2)])))
    assert [scan.view for scan in scans] == [View.ANTERIOR, View.POSTERIOR]
    assert len(read_scans(_npy(tmp_path, _counts()[None]))) == 1


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.where(_counts() > 30, np.nan, _counts()), "NaN or infinite"),
        (np.where(_counts() > 30, np.inf, _counts()), "NaN or infinite"),
        (_counts() / 100, "fractions make up"),
        (_counts().ravel(), "shape (2048,)"),
        (np.ones((3, 64, 32)), "shape (3, 64, 32)"),
        (np.ones((1, 1, 64, 32)), "shape (1, 1, 64, 32)"),
        (_counts() > 20, "mask"),
        (_counts().astype(complex), "complex"),
        (np.zeros((64, 32)), "empty"),
        (np.ones((0, 32)), ""),
        (np.ones((20, 9000)), "20 x 9000"),
        (np.full((64, 32), 1e12), "too large"),
        (-np.ones((64, 32)), "empty"),
    ],
)
def test_refused_arrays(tmp_path: Path, array: np.ndarray, message: str) -> None:
    _assert_refused(_npy(tmp_path, array), message)


def test_pickled_array_is_never_executed(tmp_path: Path) -> None:
    flag = tmp_path / "executed"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (flag,))

    path = tmp_path / "trap.npy"
    np.save(path, np.array([Trap()], dtype=object), allow_pickle=True)
    _assert_refused(path, "pickled")
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(Trap()))
    _assert_refused(tmp_path / "bare.npy", "is not a DICOM")
    assert not flag.exists()


def test_header_that_promises_too_much(tmp_path: Path) -> None:
    path = _npy(tmp_path, _counts())
    path.write_bytes(path.read_bytes().replace(b"(64, 32)", b"(6400000, 3200000)")[:300])
    _assert_refused(path, "")


def test_mended_values() -> None:
    counts, warnings = to_counts(np.pad(np.array([[-1.0, 2.4], [3.6, 50.0]]), ((0, 14), (0, 14))), "x")
    np.testing.assert_array_equal(counts[:2, :2], [[0, 2], [4, 50]])
    assert len(warnings) == 2
    assert warnings[0].startswith("1 negative pixels (down to -1)")


def test_pseudonym_depends_on_patient_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    names = {pseudonym("1"), pseudonym("2")}
    monkeypatch.setenv(KEY_VARIABLE, "a secret of the hospital")
    names |= {pseudonym("1"), pseudonym("2")}
    assert len(names) == 4
    assert all(len(name) == 13 for name in names)


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("WB_ANT", View.ANTERIOR),
        ("wholeBodyANT", View.ANTERIOR),
        ("Bone Posterior 3h", View.POSTERIOR),
        ("important_posture", View.UNKNOWN),
        ("RPO post", View.UNKNOWN),
        ("ANT_POST", View.UNKNOWN),
        ("", View.UNKNOWN),
    ],
)
def test_view_of_text(text: str, view: View) -> None:
    assert view_of_text(text) == view


def test_file_names_of_public_sets() -> None:
    assert file_view_and_guess("A12", folder="Anterior")[0] == View.ANTERIOR
    assert file_view_and_guess("P12", folder="Posterior")[0] == View.POSTERIOR
    assert file_view_and_guess("0001", folder="wholeBodyPOST")[0] == View.POSTERIOR
    assert without_view("A12", "Anterior") == without_view("P12", "Posterior") == "12"
    assert without_view("case7_ANT") == without_view("case7_POST") == "case7_"


def test_a_letter_and_a_number_are_no_view() -> None:
    """P1, P2... are patients, A1, A2... patients or runs, unless the folder says that the letter is a view."""
    for stem, folder in (("P12", ""), ("A12", ""), ("P12", "scans"), ("A12", "images")):
        assert file_view_and_guess(stem, folder)[0] == View.UNKNOWN
        assert without_view(stem, folder) == stem
    assert without_view("P12", "Anterior") == "P12"


@pytest.mark.parametrize(
    ("diagonal", "stored", "assumed"),
    [
        ((-4.8, -4.8, 1.0), lambda counts: counts.T, False),  # ITK
        ((-4.8, 4.8, 1.0), lambda counts: counts[::-1].T, False),  # dcm2niix
        ((1.0, 1.0, 1.0), lambda counts: counts.T, True),
        ((1.0, 1.0, 1.0), lambda counts: counts, True),
    ],
)
def test_planar_nifti(tmp_path: Path, diagonal: Any, stored: Any, assumed: bool) -> None:
    image = nibabel.Nifti1Image(stored(_counts()).astype(np.int16), np.diag([*diagonal, 1.0]))
    nibabel.save(image, tmp_path / "p1_ant.nii.gz")
    (scan,) = read_scans(tmp_path / "p1_ant.nii.gz")
    np.testing.assert_array_equal(scan.counts, _counts())
    assert scan.view == View.ANTERIOR
    assert scan.pixel_size_mm == (None if assumed else pytest.approx((4.8, 4.8)))
    assert any("row 0 is taken as the head" in warning for warning in scan.warnings) == assumed


@pytest.mark.parametrize("row", [-2.0, 2.0])
def test_coronal_nifti_has_rows_along_z(tmp_path: Path, row: float) -> None:
    counts = _counts()[::-1] if row > 0 else _counts()
    affine = np.array([[-4.8, 0, 0, 0], [0, 0, 1, 0], [0, 2.4 * row, 0, 0], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(counts.T[:, :, None].astype(np.int16), affine), tmp_path / "a.nii")
    np.testing.assert_array_equal(read_scans(tmp_path / "a.nii")[0].counts, _counts())


def test_nifti_that_is_no_scan(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((32, 32, 32), np.int16), np.eye(4)), tmp_path / "volume.nii")
    with pytest.raises(ScanError, match=r"volume.nii: an image of 32 x 32 x 32 voxels, not planar"):
        read_scans(tmp_path / "volume.nii")
    content = (tmp_path / "volume.nii").read_bytes()
    (tmp_path / "short.nii").write_bytes(content[:200])
    (tmp_path / "text.nii.gz").write_text("no image")
    for name in ("short.nii", "text.nii.gz"):
        with pytest.raises(ScanError, match=f"{name}: the NIfTI"):
            read_scans(tmp_path / name)


def test_a_key_in_a_context_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "of the house")
    outside = pseudonym("x")
    with pseudonym_key("of the set"):
        assert pseudonym("x") != outside
    assert pseudonym("x") == outside


def test_rle_and_jpeg_2000(tmp_path: Path) -> None:
    header = _header(_counts())
    header.compress(pydicom.uid.RLELossless)
    np.testing.assert_array_equal(read_scans(_save(header, tmp_path / "rle.dcm"))[0].counts, _counts())
    (compressed,) = read_scans(get_testdata_file("JPEG2000.dcm"))
    (plain,) = read_scans(DATA / "JPEG2000_UNC.dcm")
    np.testing.assert_array_equal(compressed.counts, plain.counts)
