"""Records of an earlier run that were edited or damaged: `--compare` refuses them in one line, or reads the whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_pipeline.errors import RequestError
from data_pipeline.files import write_json
from msanet_jax.prediction.follow_up import compare, read_results
from msanet_jax.prediction.patient import patient_record
from msanet_jax.prediction.records import LesionRecord
from msanet_jax.prediction.run_file import Device, Result, RunFile, Settings
from tests.damage import damaged_json, refused
from tests.fakes import scan_record


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder of one scan, with the files that lie beside it."""
    write_json(tmp_path / "may.json", scan_record())
    write_json(tmp_path / "patient_p1.json", patient_record("p1", [("may", scan_record())]))
    settings, device = Settings(0.345, ("png",), False, False), Device("cpu", "cpu", 1)
    scans = (Result("may", "p1", "anterior", ("may.json",)),)
    facts = ({"step": 7}, {"jax": "0.10"}, "3.11", "Linux", device, 1.5)
    write_json(tmp_path / "msanet_run.json", RunFile(1, "", settings, *facts, scans, (), (), 0))
    return tmp_path


def test_records_come_back_as_they_were_written(results: Path) -> None:
    assert read_results(results) == {"p1": [scan_record()]}
    assert list(json.loads((results / "may.json").read_text()))[-3:] == ["provenance", "files", "not_written"]


def test_damaged_records(results: Path) -> None:
    path = results / "may.json"
    free = ("('provenance', ", "('warnings', 0) deleted", "('files'", "('not_written'")
    damage = (entry for entry in damaged_json(path.read_bytes()) if not entry[0].startswith(free))
    assert refused(path, damage, lambda: read_results(results)) > 250


def test_damaged_list_of_the_run(results: Path) -> None:
    path = results / "msanet_run.json"
    assert refused(path, damaged_json(path.read_bytes()), lambda: read_results(results)) > 100


def test_the_message_says_what_to_do(results: Path) -> None:
    older = json.loads((results / "may.json").read_text())
    del older["body_level_counts"]
    write_json(results / "may.json", older)
    with pytest.raises(RequestError, match=r"may\.json: lacks `body_level_counts`; predict its scan again, or take"):
        read_results(results)


def test_changes_of_records_by_hand() -> None:
    """Area from 20 to 30 pixels of the same size, mean uptake from 2.5 to 2.0."""
    grown = LesionRecord(4, 31.0, 41.0, 30, 153.3, 14.0, 18.0, 50.0, 80, 0.6, 0.8, 2.0, 4.1)
    now = scan_record(source="june.dcm", counts_sha256="cd" * 32, lesions=(grown,), lesion_area_fraction=0.0075)
    (view,) = compare([now], [scan_record()]).views
    assert (view.view, view.earlier_source, view.new, view.gone) == ("anterior", "may.dcm", (), ())
    (change,) = view.matched
    assert (change.now, change.earlier) == (4, 1)
    assert (change.area_change, change.uptake_mean_change, change.uptake_max_change) == (0.5, -0.2, 0.0)
    assert view.lesion_area_fraction_change == 0.5
