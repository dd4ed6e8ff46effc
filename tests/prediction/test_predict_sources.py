"""What predict takes for scans and for patients, and what of its sources' names gets into records."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.fileset import FileSet

from data_pipeline.errors import RequestError
from data_pipeline.readers.pseudonyms import KEY_VARIABLE
from msanet_jax import cli
from msanet_jax.prediction.predict import Request, predict_with
from tests.fakes import HOT_MODEL
from tests.user_files import bad_files, body_scan, lesion_mask, nm_header, save_dicom, save_picture

PERSON = "MUSTERFRAU_ERIKA"


def _run(sources: list[Path], out: Path, formats: tuple[str, ...] = (), **options: Any) -> dict[str, Any]:
    predict_with(
        HOT_MODEL, sources, out=out, request=Request(formats=formats, progress=False, overwrite=True, **options)
    )
    content: dict[str, Any] = json.loads((out / "msanet_run.json").read_text())
    return content


def _patients(report: dict[str, Any]) -> list[set[str]]:
    """Stems by patient."""
    found: dict[str, set[str]] = {}
    for scan in report["scans"]:
        found.setdefault(scan["patient"], set()).add(scan["stem"])
    return list(found.values())


def _pictures(folder: Path) -> Path:
    for number, patient in enumerate(("p1", "p2")):
        for view in ("anterior", "posterior"):
            save_picture(body_scan(number), folder / patient / f"{view}.png")
    return folder


def test_patients_of_pictures_are_told_apart_by_folder(tmp_path: Path) -> None:
    source = _pictures(tmp_path / "in")
    of_folder = _run([source], tmp_path / "a")
    assert _patients(of_folder) == [{"p1_anterior", "p1_posterior"}, {"p2_anterior", "p2_posterior"}]
    files = [source / patient / f"{view}.png" for patient in ("p1", "p2") for view in ("anterior", "posterior")]
    for sources in (files, [source / "p1", source / "p2"]):
        report = _run(sources, tmp_path / "b")
        assert [scan["patient"] for scan in report["scans"]] == [scan["patient"] for scan in of_folder["scans"]]
    # One patient alone has the same pseudonym, whatever was named.
    for number, alone in enumerate(([source / "p1"], files[:2], files[1:2])):
        patients = {scan["patient"] for scan in _run(alone, tmp_path / f"c{number}")["scans"]}
        assert patients == {of_folder["scans"][0]["patient"]}


def test_results_of_several_folders_say_which(tmp_path: Path) -> None:
    source = _pictures(tmp_path / "in")
    for place in ("p1", "p2"):
        with zipfile.ZipFile(tmp_path / f"{place}.zip", "w") as archive:
            for view in ("anterior", "posterior"):
                archive.write(source / place / f"{view}.png", f"{view}.png")
    stems = [f"{number}_{view}" for number in (1, 2) for view in ("anterior", "posterior")]
    for number, sources in enumerate(([source / "p1", source / "p2"], [tmp_path / "p1.zip", tmp_path / "p2.zip"])):
        assert [scan["stem"] for scan in _run(sources, tmp_path / f"out{number}")["scans"]] == stems
    assert [scan["stem"] for scan in _run([source / "p1"], tmp_path / "one")["scans"]] == ["anterior", "posterior"]


def test_one_number_for_every_patient_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        save_dicom(nm_header(body_scan(number), patient="ANON"), tmp_path / "in" / f"p{number}" / "anterior.dcm")
    assert len(_patients(_run([tmp_path / "in"], tmp_path / "one"))) == 1
    assert "all 3 scans carry the same patient number" in capsys.readouterr().err
    for way in ("folder", "file"):
        assert len(_patients(_run([tmp_path / "in"], tmp_path / way, patient_from=way))) == 3
        assert capsys.readouterr().err == ""
    with pytest.raises(RequestError, match="--patient-from=name: must be one of"):
        _run([tmp_path / "in"], tmp_path / "name", patient_from="name")


def test_masks_results_and_texts_are_no_scans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in"
    save_picture(body_scan(1), source / "a_ant.png")
    save_picture(lesion_mask(), source / "a_ant_mask.png")
    save_picture(lesion_mask(), source / "masks" / "a_ant.png")
    save_picture(body_scan(1), source / "a_ant_overlay.png")
    for name in ("a_ant.json", "a_ant.xml", "notes.txt"):
        (source / name).write_text("{}")
    report = _run([source], tmp_path / "out", ("png", "npy", "overlay", "csv", "nifti", "sheet"))
    assert [scan["stem"] for scan in report["scans"]] == ["a_ant"]
    assert (report["left_out"], report["failures"]) == (6, [])
    # A whole results folder copied among the scans adds none.
    shutil.copytree(tmp_path / "out", source / "earlier")
    report = _run([source], tmp_path / "again")
    assert [scan["stem"] for scan in report["scans"]] == ["a_ant"]
    assert capsys.readouterr().err == ""
    (source / "a_ant.png").unlink()
    (refused,) = _run([source / "masks"], tmp_path / "none")["failures"]  # a folder that is named is looked at
    assert "a mask, no scan" in refused["reason"]
    assert "a mask, no scan" in capsys.readouterr().err
    _run([source], tmp_path / "nothing")
    assert "no scan in it" in capsys.readouterr().err


def test_other_series_are_one_line_and_segmentations_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_dicom(nm_header(body_scan(1)), tmp_path / "in" / "nm" / "scan.dcm")
    for modality, number in (("CT", 3), ("PT", 2), ("SEG", 2)):
        header = nm_header(body_scan(2))
        header.Modality = modality
        for copy in range(number):
            save_dicom(header, tmp_path / "in" / modality.lower() / f"{copy}.dcm")
    report = _run([tmp_path / "in"], tmp_path / "out")
    assert [scan["stem"] for scan in report["scans"]] == ["nm_scan"]
    assert report["left_out"] == 2
    assert [failure["reason"].split(";")[0] for failure in report["failures"]] == [
        "3 files of modality CT",
        "2 files of modality PT",
    ]
    assert capsys.readouterr().err.splitlines()[0].startswith(f"{tmp_path / 'in' / 'ct'}: 3 files of modality CT")


def test_results_above_the_source_hide_no_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pictures(tmp_path / "png")
    monkeypatch.chdir(tmp_path)
    stems = ["anterior", "posterior"]
    for out in ("png", "png/p1", "."):
        for _ in range(2):  # the results of the first time are no scans of the second
            assert [scan["stem"] for scan in _run([Path("png/p1")], Path(out))["scans"]] == stems
    with zipfile.ZipFile("z.zip", "w") as archive:
        archive.write("png/p1/anterior.png", "anterior.png")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    assert len(_run([Path("z.zip")], tmp_path / "tmp")["scans"]) == 1


def _planted(tmp_path: Path) -> list[Path]:
    """Sources with a person's name in a link, a member of a zip, an index of a disc, a folder and a missing file."""
    source = tmp_path / "in"
    scan = save_dicom(nm_header(body_scan(1)), source / "a.dcm")
    (source / PERSON).mkdir()
    (source / PERSON / f"{PERSON}.dcm").symlink_to("/etc/hostname")
    (source / PERSON / f"{PERSON}_damaged.dcm").write_bytes(scan.read_bytes()[:300])
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr(f"../{PERSON}/x.dcm", "x")
        archive.writestr(f"{PERSON}/y.dcm", "no scan")
    disc = FileSet()
    disc.add(nm_header(body_scan(2)))
    disc.write(tmp_path / "disc")
    disc._stage["t"].cleanup()
    for path in (tmp_path / "disc").rglob("*"):
        if path.is_file() and path.name != "DICOMDIR":
            path.unlink()
    index = pydicom.dcmread(tmp_path / "disc" / "DICOMDIR")
    for record in index.DirectoryRecordSequence:
        if "ReferencedFileID" in record:
            record.ReferencedFileID = ["MUSTERFRAU", "ERIKA"]
    index.save_as(tmp_path / "disc" / "DICOMDIR")
    return [source, tmp_path / "z.zip", tmp_path / "disc" / "DICOMDIR", tmp_path / f"{PERSON}.dcm"]


def test_no_name_of_a_file_gets_into_anonymous_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = _planted(tmp_path)
    earlier = tmp_path / "before" / f"{PERSON}.dcm"
    earlier.parent.mkdir()
    shutil.copy(tmp_path / "in" / "a.dcm", earlier)
    _run([earlier], tmp_path / "earlier")
    report = _run(sources, tmp_path / "out", ("png", "csv", "sheet"), anonymous=True, compare=tmp_path / "earlier")
    assert [failure["file"] for failure in report["failures"]] == [f"file {n}" for n in range(1, 7)]
    said = capsys.readouterr().err
    assert said.count(PERSON) >= 5, "who typed the command sees the names"
    assert said.count("can be guessed back") == 1
    (patient,) = (tmp_path / "out").glob("patient_*.json")
    (view,) = json.loads(patient.read_text())["comparison"]["views"]
    assert view["earlier_source"] == report["scans"][0]["patient"]
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        for secret in (b"MUSTERFRAU", b"ERIKA", str(tmp_path).encode()):
            assert secret not in content and secret.decode() not in path.name, path
    named = _run(sources, tmp_path / "named")
    assert all(PERSON not in failure["reason"] and "/" not in failure["reason"] for failure in named["failures"])


def test_key_of_the_pseudonyms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    scan = save_dicom(nm_header(body_scan(1)), tmp_path / "a.dcm")
    (tmp_path / "key").write_text("a secret of the hospital\n")
    (tmp_path / "short").write_text("abc")
    public = _run([scan], tmp_path / "a")["scans"][0]["patient"]
    own = _run([scan], tmp_path / "b", anonymous=True, key_file=tmp_path / "key")["scans"][0]["patient"]
    monkeypatch.setenv(KEY_VARIABLE, "a secret of the hospital")
    assert _run([scan], tmp_path / "c", anonymous=True)["scans"][0]["patient"] == own != public
    assert capsys.readouterr().err == ""
    with pytest.raises(RequestError, match="3 characters are no secret"):
        _run([scan], tmp_path / "d", key_file=tmp_path / "short")


def test_every_bad_file_gets_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msanet_jax.prediction.predict.load_model", lambda *arguments, **options: HOT_MODEL)
    expected = bad_files(tmp_path / "in")
    for name in ("good_mask.png", "wide_mask.png"):
        (tmp_path / "in" / name).unlink()
        expected.pop(name, None)
    del expected["wide.png"]  # without a mask it is still a scan
    files = sorted(str(path) for path in (tmp_path / "in").iterdir())
    command = ["predict", f"--out={tmp_path / 'out'}", "--overwrite", "--formats=json", "--quiet"]
    assert cli.main([*command, *files]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(expected)
    for name, words in expected.items():
        (line,) = [line for line in lines if line.startswith(f"{tmp_path / 'in' / name}: ")]
        assert words in line
    assert {path.stem for path in (tmp_path / "out").glob("*.json")} >= {"good", "wide", "msanet_run"}
    assert cli.main([*command, str(tmp_path / "in" / "ct.dcm"), str(tmp_path / "in" / "text.dcm")]) == 2
    # In a folder the damaged DICOM is told too; files of other formats are left out beside DICOM.
    capsys.readouterr()
    assert cli.main([*command, str(tmp_path / "in")]) == 1
    told = {Path(line.split(": ")[0]).name for line in capsys.readouterr().err.splitlines()}
    assert told == {name for name in expected if name.endswith(".dcm")}
