"""What the page gives: the figures, pixels and files that `msanet predict` gives for the same scan and threshold."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from html import unescape
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from PIL import Image

from msanet_jax.prediction.files import parse_formats
from msanet_jax.prediction.predict import Request, predict_with
from tests.user_files import LESIONS, body_scan, lesion_mask, nm_header, save_dicom, save_picture

VIEWS = ("anterior", "posterior")


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """Two views of a patient, the second with one lesion of three."""
    counts = np.stack([body_scan(0), body_scan(1, LESIONS[:1])])
    return save_dicom(nm_header(counts, views=("Anterior", "Posterior")), tmp_path / "both.dcm")


def _key(page: Any) -> str:
    return re.findall(r'href="patients/([^"/]+)"', page.client.get("rows").text)[0]


def _lesions(text: str) -> list[tuple[str, str, int]]:
    return [
        (stem, number, int(area))
        for stem, area, number in re.findall(r'data-stem="(\w+)".*?data-area="(\d+)" data-lesion="(\d+)"', text)
    ]


@pytest.mark.parametrize("threshold", [None, 0.3, 0.9])
def test_a_threshold_recounts_as_the_command_does(
    page: Any, both: Path, tmp_path: Path, threshold: float | None
) -> None:
    page.drop({"both.dcm": both.read_bytes()})
    request = Request(threshold=threshold, formats=parse_formats("default,seg"), progress=False)
    predict_with(page.desk.models.loaded, [both], out=tmp_path / "out", request=request)
    records = [json.loads((tmp_path / "out" / f"both_{view}.json").read_text()) for view in VIEWS]
    expected = [
        (f"both_{record['view']}", str(lesion["id"]), lesion["area_px"])
        for record in records
        for lesion in record["lesions"]
    ]
    query = "" if threshold is None else f"?threshold={threshold}"
    key = _key(page)
    for address in (f"patients/{key}/findings{query}", f"patients/{key}{query}"):
        assert _lesions(page.client.get(address).text) == expected
    if threshold is None:
        assert [record["lesion_count"] for record in records] == [3, 1]
    files = zipfile.ZipFile(io.BytesIO(page.client.get(f"patients/{key}/files/csv{query}").content))
    for view in VIEWS:
        own = (tmp_path / "out" / f"both_{view}_lesions.csv").read_bytes()
        assert files.read(f"both_{view}_lesions.csv") == own
    archive = zipfile.ZipFile(io.BytesIO(page.client.get(f"patients/{key}/files/zip{query}").content))
    for path in (tmp_path / "out").iterdir():
        if path.suffix in (".npy", ".csv") or path.name.endswith(("_mask.png", "_overlay.png")):
            assert archive.read(path.name) == path.read_bytes(), path.name
    assert {f"both_{view}_probability.nii.gz" for view in VIEWS} <= set(archive.namelist())


def test_pixels_are_those_of_the_files(page: Any, both: Path, tmp_path: Path) -> None:
    page.drop({"both.dcm": both.read_bytes()})
    predict_with(page.desk.models.loaded, [both], out=tmp_path / "out", request=Request(progress=False))
    content = page.client.get("scans/both_anterior/pixels").content
    counts = np.frombuffer(content[: len(content) // 2], "<i4").reshape(512, 128)
    probability = np.frombuffer(content[len(content) // 2 :], "<f4").reshape(512, 128)
    np.testing.assert_array_equal(counts, body_scan(0))
    np.testing.assert_array_equal(probability, np.load(tmp_path / "out" / "both_anterior_probability.npy"))


def test_the_list_shows_small_pictures_and_dates(page: Any, tmp_path: Path) -> None:
    """Pictures have addresses, so that the list stays short."""
    for name, date in (("a", "20261127"), ("b", "")):
        header = nm_header(body_scan(0))
        header.PatientID, header.StudyDate, header.AcquisitionDate = name, date, ""
        page.drop({f"{name}.dcm": save_dicom(header, tmp_path / f"{name}.dcm").read_bytes()})
    rows = page.client.get("rows").text
    assert re.findall(r'src="([^"]+)"', rows) == ["scans/a/picture", "scans/b/picture"]
    assert re.findall(r"<br>([^<]+)</span>", rows) == ["2026-11-27"]
    assert "<span>a, <time>2026-11-27</time></span>" in page.client.get(f"patients/{_key(page)}").text
    content = page.client.get("scans/a/picture").content
    assert max(Image.open(io.BytesIO(content)).size) == 288
    assert page.client.get("scans/c/picture").status_code == 404


def test_single_files(page: Any, tmp_path: Path) -> None:
    source = save_dicom(nm_header(body_scan(0)), tmp_path / "one.dcm")
    page.drop({"one.dcm": source.read_bytes()})
    seg = page.client.get(f"patients/{_key(page)}/files/seg")
    assert seg.headers["content-disposition"] == 'attachment; filename="one_seg.dcm"'
    (tmp_path / "seg.dcm").write_bytes(seg.content)
    stored = highdicom.seg.segread(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(stored.pixel_array.any(axis=0), lesion_mask() > 0)
    assert page.client.get(f"patients/{_key(page)}/files/png").content.startswith(b"\x89PNG")
    assert not [path for path in page.desk.visit.folder.iterdir() if path.name.startswith("download-")]


def test_what_there_is_not(page: Any, tmp_path: Path) -> None:
    assert page.client.get("results.zip").status_code == 400
    page.drop({"a.png": save_picture(body_scan(), tmp_path / "a.png").read_bytes()})
    answer = page.client.get(f"patients/{_key(page)}/files/seg")
    assert answer.status_code == 400
    assert answer.text == (
        "a: no DICOM SEG, since the source is not a DICOM file with the UIDs that DICOM results must reference\n"
    )
    for address in ("patients/none", "patients/none/findings", "patients/none/files/csv", "scans/none/pixels"):
        assert page.client.get(address).status_code == 404
    assert page.client.get(f"patients/{_key(page)}/files/exe").status_code == 404
    for threshold in ("0", "1", "nan", "x"):
        assert page.client.get(f"patients/{_key(page)}?threshold={threshold}").status_code == 422


def test_everything(page: Any, tmp_path: Path) -> None:
    for name in ("p1", "p2"):
        content = save_picture(body_scan(), tmp_path / f"{name}.png").read_bytes()
        page.drop({f"{name}/anterior.png": content})
    archive = zipfile.ZipFile(io.BytesIO(page.client.get("results.zip").content))
    assert {"index.html", "msanet_lesions.csv", "msanet_scans.csv", "msanet_preview.png"} <= set(archive.namelist())
    rows = list(csv.DictReader(io.StringIO(archive.read("msanet_scans.csv").decode())))
    assert [row["lesion_count"] for row in rows] == ["3", "3"]
    index = archive.read("index.html").decode()
    linked = {unescape(link) for link in re.findall(r'href="([^"]+)"', index)} - {"data:,"}
    assert linked <= set(archive.namelist())


def test_an_earlier_study_lies_beside(page: Any, tmp_path: Path) -> None:
    early = save_picture(body_scan(0, LESIONS[:2]), tmp_path / "early.png").read_bytes()
    late = save_picture(body_scan(1, LESIONS[1:]), tmp_path / "late.png").read_bytes()
    page.drop({"anterior.png": early}, earlier=True)
    assert "<tr>" not in page.client.get("rows").text
    page.drop({"anterior.png": late})
    text = page.client.get(f"patients/{_key(page)}").text
    assert "1 lesion matched, 1 new (2), 1 gone (1)" in text
    captions = re.findall(r"<figcaption><b>([^<]+)</b> <span>([^<]+)", text)
    assert captions == [("anterior", "anterior-2"), ("anterior, earlier", "anterior")]


def test_files_called_alike_are_not_one_patient(page: Any, tmp_path: Path) -> None:
    content = save_picture(body_scan(), tmp_path / "a.png").read_bytes()
    for _ in range(2):
        page.drop({"anterior.png": content})
    page.drop({"p1/anterior.png": content})
    page.drop({"p1/posterior.png": content})
    assert [len(scans) for scans in page.desk.visit.patients().values()] == [1, 1, 2]


def test_names_are_text_everywhere(page: Any, tmp_path: Path) -> None:
    content = save_picture(body_scan(), tmp_path / "a.png").read_bytes()
    hostile = "=cmd|<script>alert(1)</script>.png"
    state = page.drop({f"{hostile}/{hostile}": content, f"{hostile}.dcm": b"no scan"})
    assert state["scans"] == 1
    for text in (page.client.get("rows").text, page.client.get(f"patients/{_key(page)}").text):
        assert "<script>alert" not in text
        assert "script_" in text
    archive = zipfile.ZipFile(io.BytesIO(page.client.get("results.zip").content))
    assert all(not name.startswith(("/", "..")) and "\\" not in name for name in archive.namelist())
    (row,) = csv.DictReader(io.StringIO(archive.read("msanet_scans.csv").decode()))
    assert row["scan"].startswith("'=cmd")


def test_a_scan_that_is_dropped_twice_is_kept_once(page: Any, both: Path) -> None:
    content = both.read_bytes()
    assert page.drop({"both.dcm": content})["scans"] == 2
    again = page.drop({"again.dcm": content})
    assert again["scans"] == 0
    assert again["failures"] == [f"again.dcm: is here already, as both_{view}" for view in VIEWS]
    assert [len(scans) for scans in page.desk.visit.patients().values()] == [2]
    # At another time it is another scan.
    assert page.drop({"both.dcm": content}, earlier=True)["scans"] == 2


@pytest.mark.parametrize("number", ["NaN", "1e400", '"many"'])
def test_what_is_no_list_of_files_is_one_line(page: Any, number: str) -> None:
    headers = {"content-type": "application/json"}
    answer = page.client.post("drops", content=f'{{"files": [["a", {number}]]}}', headers=headers)
    assert (answer.status_code, answer.text) == (422, "not what this address takes\n")
