"""The simulator's command: what it writes, that it can be read, that the same request gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from data_pipeline.phantom import __main__ as phantom_command
from data_pipeline.phantom.__main__ import main
from data_pipeline.phantom.simulate import simulate_patient
from data_pipeline.readers.formats.dicom import read_dicom
from data_pipeline.scan import View

FILES = {"patient.json"} | {
    f"{view}{end}"
    for view in ("anterior", "posterior")
    for end in (
        *(".dcm", ".png", "_expected.npy", "_lesions.png", "_lesions_all.png", "_benign.png"),
        *("_lesions_isocontour.png", "_reader_1.png", "_reader_2.png", "_organs.png"),
    )
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom")
    assert main(["--patients", "1", "--seed", "4", "--out", str(out)]) == 0
    return out / "patient_0000"


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_every_file_is_there_and_nothing_else(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["patient_0000"]


def test_files_hold_what_was_simulated(folder: Path) -> None:
    patient = simulate_patient(seed=4, index=0)
    for view, made in patient.views.items():
        scan = read_dicom(folder / f"{view}.dcm")[0]
        np.testing.assert_array_equal(scan.counts, made.scan.counts)
        assert scan.view == view
        assert scan.warnings == ()
        assert scan.pixel_size_mm == pytest.approx(made.scan.pixel_size_mm, abs=1e-6)
        np.testing.assert_array_equal(np.asarray(Image.open(folder / f"{view}.png")), made.scan.counts)
        np.testing.assert_array_equal(np.asarray(Image.open(folder / f"{view}_lesions.png")), made.lesions)
        np.testing.assert_array_equal(np.asarray(Image.open(folder / f"{view}_benign.png")), made.benign)
        np.testing.assert_array_equal(np.load(folder / f"{view}_expected.npy"), made.expected)
    document = json.loads((folder / "patient.json").read_text())
    assert len(document["lesions"]) == len(document["views"]["anterior"]["lesions"])
    assert document["patient"]["height_mm"] == patient.parameters["patient"]["height_mm"]
    assert "not comparable" in document["note"]


def test_dicom_says_that_it_is_simulated(folder: Path) -> None:
    for number, view in enumerate(View, start=1):
        if view is View.UNKNOWN:
            continue
        header = pydicom.dcmread(folder / f"{view}.dcm")
        assert "SIMULATED" in header.ImageType
        assert header.PatientID.startswith("SIMULATED")
        assert "SIMULATED" in header.SeriesDescription
        assert header.CountsAccumulated == header.pixel_array.sum()
        assert header.InstanceNumber == number


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
@pytest.mark.parametrize("view", ["anterior", "posterior"])
def test_a_validator_accepts_the_dicom(folder: Path, view: str) -> None:
    checked = subprocess.run(["dciodvfy", str(folder / f"{view}.dcm")], capture_output=True, text=True)
    complaints = [line for line in (checked.stdout + checked.stderr).splitlines() if line.startswith("Error")]
    assert complaints == []


def test_another_process_writes_the_same_bytes_and_another_noise_seed_changes_noise_only(
    folder: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "data_pipeline.phantom", "--patients", "1", "--seed", "4", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[3])
    assert _hashes(tmp_path / "patient_0000") == _hashes(folder)
    other = tmp_path / "other"
    assert main(["--patients", "1", "--seed", "4", "--noise-seed", "5", "--out", str(other)]) == 0
    changed = {name for name, value in _hashes(other / "patient_0000").items() if value != _hashes(folder)[name]}
    assert changed == {"anterior.dcm", "anterior.png", "posterior.dcm", "posterior.png", "patient.json"}


def test_what_is_there_is_kept_or_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = _hashes(folder)
    out = str(folder.parent)
    assert main(["--patients", "1", "--seed", "4", "--out", out]) == 0
    assert "1 were there already" in capsys.readouterr().out
    assert main(["--patients", "1", "--seed", "5", "--out", out]) == 2
    assert "holds" in capsys.readouterr().err
    assert _hashes(folder) == before


def test_a_host_makes_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr(phantom_command, "_write_one", lambda out, request: made.append(request.index))
    request = ["--patients", "8", "--seed", "4", "--out", str(tmp_path), "--hosts", "3", "--host"]
    assert [main([*request, host]) for host in "012"] == [0, 0, 0]
    assert made == [0, 3, 6, 1, 4, 7, 2, 5]
    assert main([*request, "3"]) == 2


def test_wrong_requests_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--patients", "0"], ["--counts", "5"], ["--camera", "pinhole"]):
        with pytest.raises(SystemExit) as stopped:
            main(["--patients", "1", "--seed", "4", "--out", str(tmp_path), *wrong])
        assert stopped.value.code == 2
    (tmp_path / "file").write_text("")
    assert main(["--patients", "1", "--seed", "4", "--out", str(tmp_path / "file" / "below")]) == 2
    foreign = tmp_path / "patient_0000"
    foreign.mkdir()
    assert main(["--patients", "1", "--seed", "4", "--out", str(tmp_path)]) == 2
    assert "is not a simulated patient" in capsys.readouterr().err
