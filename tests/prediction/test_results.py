"""What other programs read: DICOM SEG, NIfTI, tables, patients, follow-up, manifest; and sources of many files."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import data_store
import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from scipy import ndimage

from configs.msanet import get_config
from data_pipeline.errors import RequestError
from data_pipeline.normalize import bin_counts, normalize
from data_pipeline.readers import read_scans
from data_pipeline.scan import Scan, View
from msanet_jax.evaluation.field_maps import resample
from msanet_jax.prediction.files import parse_formats
from msanet_jax.prediction.follow_up import LIMITS, RULE, compare, earlier_of, read_results
from msanet_jax.prediction.matching import match_positions, match_views
from msanet_jax.prediction.patient import patient_record
from msanet_jax.prediction.predict import Request, predict_with
from msanet_jax.prediction.records import FollowUp, ScanRecord
from msanet_jax.prediction.segmentation import find_place, model_input, segmentation
from msanet_jax.prediction.write_nifti import affine
from msanet_jax.trained.model import Model, from_network, with_flips
from tests.fakes import scan_record
from tests.user_files import without_random_numbers

REAL_SCAN = Path(data_store.__file__).parent / "data" / "JPEG-LL.dcm"
SECRETS = (b"CompressedSamples", b"8NM1", b"BERRA", b"1997", b"2004", b"Memorial", b"20040826185059.5457")


def hot(limit: float) -> Model:
    """Lesion is what has more counts than `limit`; the output has the input's grid."""

    def probability(fields: np.ndarray) -> np.ndarray:
        return np.where(fields > limit, 0.9, 0.1).astype(np.float32)

    provenance = {"checkpoint": "fake", "step": 7, "dataset": "phantom_bone/tiny", "config_sha256": "0"}
    return Model(probability, "thorax", 256, 0.5, 4, provenance)


def _counts(*discs: tuple[int, int, int]) -> np.ndarray:
    """A body 160 pixels wide with hot discs (row, column, radius)."""
    row, column = np.indices((256, 256))
    counts = np.where(np.abs(column - 127.5) < 80, 20, 0)
    if not discs:
        counts[255, 128] = 60  # two values alone would be a mask, and the body its background
    for centre_row, centre_column, radius in discs:
        counts[(row - centre_row) ** 2 + (column - centre_column) ** 2 <= radius**2] = 600
    return counts.astype(np.int32)


def _two_views(path: Path, anterior: np.ndarray, posterior: np.ndarray) -> Path:
    """The real scan's header around two simulated frames."""
    header = pydicom.dcmread(REAL_SCAN)
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header.Rows, header.Columns = anterior.shape
    header.NumberOfFrames, header.DetectorVector, header.NumberOfDetectors = 2, [1, 2], 2
    header.EnergyWindowVector = [1, 1]
    header.PixelSpacing = [2.0, 2.0]
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, 0
    header.PixelData = np.stack([anterior, posterior]).astype("<u2").tobytes()
    header["PixelData"].VR = "OW"
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path)
    return path


def _run(sources: list[Path], out: Path, model: Model | None = None, **options: Any) -> dict[str, Any]:
    formats = parse_formats(options.pop("formats", "json"))
    predict_with(
        model or hot(300), sources, out=out, request=Request(formats=formats, progress=False, overwrite=True, **options)
    )
    return json.loads((out / "msanet_run.json").read_text())


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def test_seg_of_two_views(tmp_path: Path) -> None:
    front, back = _counts((100, 100, 6), (150, 140, 4)), _counts((100, 155, 6))
    file = _two_views(tmp_path / "both.dcm", front, back)
    _run([file], tmp_path / "out", formats="seg")
    source = pydicom.dcmread(file)
    for view, counts, frame in (("anterior", front, 1), ("posterior", back, 2)):
        stored = highdicom.seg.segread(tmp_path / "out" / f"both_{view}_seg.dcm")
        expected, number = ndimage.label(counts > 300)
        assert [segment.SegmentLabel for segment in stored.SegmentSequence] == [
            f"Lesion {k}" for k in range(1, number + 1)
        ]
        planes = stored.pixel_array.reshape(number, *counts.shape)
        for k, plane in enumerate(planes, 1):
            np.testing.assert_array_equal(plane > 0, expected == k)
        for group in stored.PerFrameFunctionalGroupsSequence:
            (reference,) = group.DerivationImageSequence[0].SourceImageSequence
            assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
            assert reference.ReferencedSOPClassUID == source.SOPClassUID
            assert reference.ReferencedFrameNumber == frame
            assert group.PlanePositionSequence[0].ImagePositionPatient == [0, 0, frame - 1]
        (series,) = stored.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == source.SeriesInstanceUID
        (instance,) = series.ReferencedInstanceSequence
        assert (instance.ReferencedSOPInstanceUID, instance.ReferencedSOPClassUID) == (
            source.SOPInstanceUID,
            source.SOPClassUID,
        )
        (shared,) = stored.SharedFunctionalGroupsSequence
        assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
        assert stored.FrameOfReferenceUID == source.get("FrameOfReferenceUID", stored.FrameOfReferenceUID)
        assert (stored.PatientID, stored.StudyInstanceUID) == (source.PatientID, source.StudyInstanceUID)
        assert list(stored.PatientOrientation) == [{"anterior": "L", "posterior": "R"}[view], "F"]
    again = tmp_path / "again"
    _run([file], again, formats="seg")
    uids = [pydicom.dcmread(folder / "both_anterior_seg.dcm").SOPInstanceUID for folder in (tmp_path / "out", again)]
    assert uids[0] == uids[1]  # the same marks are the same object


def test_secondary_capture(tmp_path: Path) -> None:
    """The overlay with the warning on it, in the scan's study; without marks, too."""
    file = _two_views(tmp_path / "both.dcm", _counts((100, 100, 6)), _counts())
    _run([file], tmp_path / "out", formats="sc,overlay")
    source = pydicom.dcmread(file)
    made = [pydicom.dcmread(tmp_path / "out" / f"both_{view}_sc.dcm") for view in ("anterior", "posterior")]
    for capture, view in zip(made, ("anterior", "posterior"), strict=True):
        assert capture.SOPClassUID == pydicom.uid.SecondaryCaptureImageStorage
        assert (capture.PatientID, capture.StudyInstanceUID) == (source.PatientID, source.StudyInstanceUID)
        assert (capture.Modality, capture.ConversionType, capture.BurnedInAnnotation) == ("OT", "WSD", "YES")
        overlay = np.asarray(Image.open(tmp_path / "out" / f"both_{view}_overlay.png").convert("RGB"))
        differs = (capture.pixel_array != overlay).any(axis=-1)
        rows, columns = np.nonzero(differs)
        # The stamp alone: at the top right.
        assert 1000 < differs.sum() < 0.01 * differs.size
        assert rows.max() < 0.1 * differs.shape[0] and columns.min() > 0.5 * differs.shape[1]
    assert made[0].SeriesInstanceUID != made[1].SeriesInstanceUID != source.SeriesInstanceUID
    _run([file], tmp_path / "anonymous", formats="sc", anonymous=True)
    for path in (tmp_path / "anonymous").glob("*_sc.dcm"):
        assert pydicom.dcmread(path).BurnedInAnnotation == "NO"


def test_seg_where_there_can_be_none(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", _counts((100, 100, 6)))
    file = _two_views(tmp_path / "empty.dcm", _counts(), _counts((90, 90, 5)))
    _run([tmp_path / "a.npy", file], tmp_path / "out", formats="seg")
    assert {path.name for path in (tmp_path / "out").glob("*.dcm")} == {"empty_posterior_seg.dcm"}
    assert "not a DICOM" in _json(tmp_path / "out" / "a.json")["not_written"]["seg"]
    assert "nothing is marked" in _json(tmp_path / "out" / "empty_anterior.json")["not_written"]["seg"]


def test_nothing_identifies_the_patient(tmp_path: Path) -> None:
    named = tmp_path / "8NM1_BERRA.dcm"
    shutil.copy(REAL_SCAN, named)
    bad = tmp_path / "BERRA.dcm"
    bad.write_text("no scan")
    _run([named, bad], tmp_path / "out", hot(25), formats="all", anonymous=True)
    files = list((tmp_path / "out").iterdir())
    assert len([path for path in files if path.name.endswith("_seg.dcm")]) == 1
    for path in files:
        content = without_random_numbers(path.read_bytes())
        assert not any(secret in content or secret.decode() in path.name for secret in SECRETS), path
    # Without it, the segmentation alone goes back to its patient.
    _run([REAL_SCAN], tmp_path / "open", hot(25), formats="all")
    told = {path.name for path in (tmp_path / "open").iterdir() if b"8NM1" in path.read_bytes()}
    assert told == {"JPEG-LL_seg.dcm", "JPEG-LL_sc.dcm"}


@pytest.mark.parametrize(("view", "left"), [(View.ANTERIOR, -1.0), (View.POSTERIOR, 1.0)])
def test_nifti_lies_where_the_patient_does(view: View, left: float, tmp_path: Path) -> None:
    scan = Scan(_counts((60, 200, 5)), (2.0, 3.0), view, "p", "s")
    place = find_place(scan, "thorax")
    result = segmentation(scan, place, hot(300).probability(scan.counts), threshold=0.5, model=hot(300))
    x, y, z, _ = affine(result) @ [200, 60, 0, 1]
    # Columns run to the patient's left in an anterior view; NIfTI's x runs to the right.
    assert (x, y, z) == (left * 3.0 * (200 - 127.5), 0.0, 2.0 * (127.5 - 60))


def test_nifti_files(tmp_path: Path) -> None:
    counts = _counts((100, 100, 6), (150, 140, 4))
    file = _two_views(tmp_path / "both.dcm", counts, counts)
    _run([file], tmp_path / "out", formats="nifti")
    images = {
        name: nibabel.load(tmp_path / "out" / f"both_anterior_{name}.nii.gz")
        for name in ("scan", "mask", "probability")
    }
    np.testing.assert_array_equal(np.asarray(images["scan"].dataobj)[:, :, 0].T, counts)
    np.testing.assert_array_equal(np.asarray(images["mask"].dataobj)[:, :, 0].T, ndimage.label(counts > 300)[0])
    assert nibabel.aff2axcodes(images["mask"].affine) == ("L", "I", "A")
    assert images["mask"].header.get_zooms()[:2] == (2.0, 2.0)


def test_table(tmp_path: Path) -> None:
    file = _two_views(tmp_path / "both.dcm", _counts((100, 100, 6)), _counts((100, 155, 6), (60, 120, 3)))
    _run([file], tmp_path / "out", formats="csv")
    with (tmp_path / "out" / "msanet_lesions.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [(row["scan"], row["view"], row["lesion"]) for row in rows] == [
        ("both_anterior", "anterior", "1"),
        ("both_posterior", "posterior", "1"),
        ("both_posterior", "posterior", "2"),
    ]
    assert [float(row["area_mm2"]) for row in rows] == [113 * 4.0, 29 * 4.0, 113 * 4.0]  # lattice points in a disc
    assert {row["uptake_mean"] for row in rows} == {"30.0"}  # 600 counts on a body of 20
    own = (tmp_path / "out" / "both_posterior_lesions.csv").read_text().splitlines()
    assert len(own) == 3


def test_views_of_a_patient_are_matched(tmp_path: Path) -> None:
    # Mirrored about the body's midline (127.5): 100 <-> 155; the third is seen from behind only.
    file = _two_views(
        tmp_path / "both.dcm", _counts((100, 100, 6), (150, 140, 4)), _counts((101, 155, 6), (60, 120, 3))
    )
    _run([file], tmp_path / "out", formats="sheet")
    (path,) = (tmp_path / "out").glob("patient_*.json")
    patient = _json(path)
    (pair,) = patient["view_pairs"]
    assert (pair["anterior"], pair["posterior"]) == ("both_anterior", "both_posterior")
    assert pair["matched"] == [{"anterior": 1, "posterior": 2, "distance_mm": 2.0}]
    assert (patient["mark_count"], patient["lesion_count"]) == (4, 3)
    # 160 columns of body over 256 rows, in both views.
    areas = 113 + 49 + 113 + 29
    assert patient["lesion_area_fraction"] == pytest.approx(areas / (2 * 160 * 256), rel=0.03)
    page = path.with_suffix(".html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "Research use only, not for diagnosis. Trained on simulated scans." in page
    assert "http" not in page.replace("http-equiv", "")  # one file that needs nothing else


def test_bone_scan_index_is_nowhere_claimed(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", _counts((100, 100, 6)))
    _run([tmp_path / "a.npy"], tmp_path / "out", formats="sheet")
    (path,) = (tmp_path / "out").glob("patient_*.json")
    assert "It is no bone scan index" in _json(path)["burden_note"]


def test_matching_is_one_to_one_and_most_pairs_first() -> None:
    first = np.array([[0.0, 0.0], [0.0, 8.0]])
    second = np.array([[0.0, 5.0], [0.0, -9.0]])
    # The nearest pair alone (8 to 5) would leave 0 with -9; both orders pair all, this one with the smaller sum.
    assert match_positions(first, second, 10.0) == [(0, 1, 9.0), (1, 0, 3.0)]
    assert match_positions(first, second, 8.5) == [(1, 0, 3.0)]
    # Two pairs of 9 are better than one of 1.
    assert len(match_positions(np.array([[0.0, 0.0], [0.0, 8.0]]), np.array([[0.0, -9.0], [0.0, 1.0]]), 9.5)) == 2
    assert match_positions(np.empty((0, 2)), second, 10.0) == []


def test_several_scans_of_a_view_are_paired_by_name() -> None:
    def record(source: str, view: str) -> ScanRecord:
        nothing = {"lesions": (), "lesion_count": 0, "lesion_area_px": 0, "body_area_px": 0}
        return scan_record(source=source, view=view, **nothing)

    scans = [
        (f"{day}_{view}", record(f"{day}_{view}", full))
        for day in ("may", "june")
        for view, full in (("ANT", "anterior"), ("POST", "posterior"))
    ]
    pairs = patient_record("p", scans).view_pairs
    assert [(pair.anterior, pair.posterior) for pair in pairs] == [
        ("may_ANT", "may_POST"),
        ("june_ANT", "june_POST"),
    ]
    assert patient_record("p", scans).lesion_area_fraction is None
    assert match_views(scans[0][1], scans[1][1]) == []


def test_follow_up(tmp_path: Path) -> None:
    np.save(tmp_path / "early.npy", _counts((100, 100, 4), (150, 150, 4)))
    # The same patient ten pixels lower with the first lesion grown, the second gone and another one new.
    np.save(tmp_path / "late.npy", 2 * _counts((100, 100, 6), (200, 120, 4)))
    _run([tmp_path / "early.npy"], tmp_path / "one")
    report = _run([tmp_path / "late.npy"], tmp_path / "two", hot(600), compare=tmp_path / "one")
    assert report["settings"]["compared"] is True
    (path,) = (tmp_path / "two").glob("patient_*.json")
    comparison = _json(path)["comparison"]
    assert comparison["notes"] == ["the pseudonyms differ; taken for the same patient, since each folder holds one"]
    (view,) = comparison["views"]
    (match,) = view["matched"]
    assert (match["now"], match["earlier"]) == (1, 1)
    assert (view["new"], view["gone"]) == ([2], [2])
    assert match["area_change"] == pytest.approx(113 / 49 - 1, abs=1e-4)
    assert match["uptake_mean_change"] == 0.0  # twice the counts everywhere is no change
    _run([tmp_path / "early.npy"], tmp_path / "three", compare=tmp_path / "one")
    (path,) = (tmp_path / "three").glob("patient_*.json")
    same = _json(path)["comparison"]
    assert same["notes"] == ["unknown: both times are the same scan"]
    assert [match["area_change"] for match in same["views"][0]["matched"]] == [0.0, 0.0]


def test_follow_up_of_nobody(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="is not a folder of results"):
        read_results(tmp_path / "none")
    with pytest.raises(RequestError, match="holds no results"):
        read_results(tmp_path)
    with pytest.raises(RequestError, match="is the folder of the new results"):
        _run([tmp_path / "a.npy"], tmp_path, compare=tmp_path)
    assert earlier_of("p1", {"p2": [], "p3": []}, only=True)[1].startswith("not in the earlier folder")
    assert compare([], [], "gone") == FollowUp(RULE, LIMITS, ("gone",), ())


def test_folder_of_dicom_leaves_the_rest_out(tmp_path: Path) -> None:
    disc = tmp_path / "disc"
    counts = _counts((100, 100, 6))
    for name in ("one", "two"):
        _two_views(disc / name / "scan.dcm", counts, counts)
    (disc / "viewer.exe").write_bytes(b"MZ")
    (disc / "one" / "report.txt").write_text("seen")
    report = _run([disc], disc / "results")
    stems = [scan["stem"] for scan in report["scans"]]
    assert stems == [f"{name}_scan_{view}" for name in ("one", "two") for view in ("anterior", "posterior")]
    assert (report["left_out"], report["failures"]) == (2, [])
    # What was written into the folder is no scan the second time.
    assert [scan["stem"] for scan in _run([disc], disc / "results")["scans"]] == stems
    with zipfile.ZipFile(tmp_path / "disc.zip", "w") as archive:
        for path in sorted((disc).rglob("scan.dcm")):
            archive.write(path, path.relative_to(disc))
    assert [scan["stem"] for scan in _run([tmp_path / "disc.zip"], tmp_path / "out")["scans"]] == stems


def test_manifest_and_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = tmp_path / "Mueller_Hans"
    secret.mkdir()
    (secret / "bad.npy").write_bytes(b"\x93NUMPY nonsense")
    np.save(secret / "good.npy", _counts((100, 100, 6)))
    report = _run([secret, tmp_path / "absent.dcm"], tmp_path / "out", formats="png")
    assert capsys.readouterr().err.count("\n") == 2
    assert [failure["file"] for failure in report["failures"]] == ["bad.npy", "absent.dcm"]
    assert "Mueller" not in json.dumps(report)
    assert report["scans"][0]["files"] == ["1_good_mask.png", "1_good.json"]
    assert set(report["files"]) == {"msanet_preview.png"} | {
        path.name for path in (tmp_path / "out").glob("patient_*.json")
    }
    assert report["device"]["platform"] == "cpu"
    assert report["versions"]["jax"]
    assert report["notice"] == "Research software, not for diagnosis. Trained on simulated scans."


def test_formats() -> None:
    assert parse_formats("seg,png") == ("png", "seg")
    assert parse_formats("json") == ()
    assert parse_formats("default,nifti") == ("png", "npy", "overlay", "csv", "nifti", "sheet")
    with pytest.raises(RequestError, match="'jpg' must be one of png"):
        parse_formats("jpg")


def test_flips_average_the_mirror_image() -> None:
    def left_of(fields: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.arange(4.0), fields.shape).astype(np.float32)

    model = with_flips(Model(left_of, "thorax", 4, 0.5, 1, {}))
    np.testing.assert_array_equal(model.probability(np.zeros((1, 4, 4))), np.full((1, 4, 4), 1.5))
    assert model.provenance == {"flips": True}
    # x weighted by its column c gives (x c + x (3 - c)) / 2 = 1.5 x.
    weighted = with_flips(Model(lambda fields: fields * np.arange(4.0), "thorax", 4, 0.5, 1, {}))
    fields = np.arange(16.0, dtype=np.float32).reshape(1, 4, 4)
    np.testing.assert_array_equal(weighted.probability(fields), 1.5 * fields)


def test_the_network_inside_a_model_sees_binned_and_normalised_counts() -> None:
    counts = np.random.default_rng(0).poisson(20.0, (2, 256, 256)).astype(np.float32)
    config = get_config("smoke")
    seen = []

    def network(images: np.ndarray) -> np.ndarray:
        seen.append(images)
        return images[..., 0]

    model = from_network(network, config, {"step": 3}, threshold=0.25)
    images = normalize(bin_counts(counts, 256 // config.data.image_size_px, xp=np), xp=np)
    np.testing.assert_array_equal(model.probability(counts), resample(images, (256, 256)))
    np.testing.assert_array_equal(seen[0][..., 0], images)
    assert (model.threshold, model.batch_size) == (0.25, config.evaluate.batch_size)
    digest = hashlib.sha256(config.to_json(sort_keys=True).encode()).hexdigest()
    assert model.provenance == {"step": 3, "config_sha256": digest}


def test_whole_body_model_sees_the_legs() -> None:
    (scan,) = read_scans(REAL_SCAN)
    model = Model(lambda fields: np.where(fields > 25, 0.9, 0.1), "whole_body", 256, 0.5, 1, {})
    place = find_place(scan, "whole_body")
    field = model_input(scan, place, "whole_body")
    assert field.shape == (1024, 256)
    np.testing.assert_array_equal(field, scan.counts)
    result = segmentation(scan, place, model.probability(field), threshold=0.5, model=model)
    np.testing.assert_array_equal(result.mask, scan.counts > 25)
