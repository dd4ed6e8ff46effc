"""The page of a run: what it lists, that names only are text, that it sorts, and whose index.html may be replaced."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_pipeline.errors import RequestError
from msanet_jax.prediction.files import scan_table
from msanet_jax.prediction.follow_up import compare
from msanet_jax.prediction.index_page import IndexPatient, IndexScan, index_page, index_patient
from msanet_jax.prediction.patient import patient_record
from msanet_jax.prediction.patient_page import patient_sheet
from msanet_jax.prediction.predict import Outcome, Request, predict_with
from msanet_jax.prediction.records import LesionRecord
from msanet_jax.prediction.run_file import Skipped
from tests.fakes import HOT_MODEL, scan_record
from tests.user_files import LESIONS, body_scan, nm_header, save_dicom, save_picture

HOSTILE = "=cmd<script>alert(1)</script>"


def _run(folder: Path, *, overwrite: bool = False) -> Outcome:
    return predict_with(HOT_MODEL, [folder / "in"], out=folder / "out", request=Request(overwrite=overwrite))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two views of one patient, a picture with a hostile name, and a file that is no scan."""
    folder = tmp_path_factory.mktemp("index")
    counts = np.stack([body_scan(0), body_scan(1, LESIONS[:1])[:, ::-1]])
    save_dicom(nm_header(counts, views=("Anterior", "Posterior")), folder / "in" / "both.dcm")
    (folder / "in" / "broken.dcm").write_text("no scan")
    outcome = _run(folder)
    assert outcome.index == folder / "out" / "index.html"
    return folder


def test_the_index_leads_to_everything(run: Path) -> None:
    text = (run / "out" / "index.html").read_text()
    linked = {unescape(link) for link in re.findall(r'href="([^"]+)"', text)} - {"data:,"}
    assert all((run / "out" / link).is_file() for link in linked)
    written = {path.name for path in (run / "out").iterdir()}
    assert {name for name in written if not name.startswith("patient_") or name.endswith(".html")} == linked | {
        "index.html"
    }
    assert "<h1>1 patient, 2 scans</h1>" in text
    assert "<b>broken.dcm</b>: is not a DICOM" in text
    assert "Trained on simulated scans" in text and "marked above 0.5" in text
    assert "http" not in text.replace("http-equiv", "")
    pages = list((run / "out").glob("patient_*.html"))
    assert all('href="index.html"' in page.read_text() for page in pages)


def test_the_pictures_show_the_marks(run: Path) -> None:
    text = (run / "out" / "index.html").read_text()
    for packed in re.findall(r'src="data:image/png;base64,([^"]+)"', text):
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(packed))).convert("RGB"))
        assert max(picture.shape) == 288
        assert (picture == (0xD5, 0x5E, 0x00)).all(axis=-1).any()


def test_a_patient_is_called_as_the_files_are(run: Path) -> None:
    text = (run / "out" / "index.html").read_text()
    name = next((run / "out").glob("patient_p*.html")).stem.removeprefix("patient_")
    assert f'data-value="both"><a href="patient_{name}.html">both</a><small>{name}</small>' in text


def test_only_the_pages_own_script_runs(run: Path) -> None:
    text = (run / "out" / "index.html").read_text()
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text


def _patient(name: str, lesions: int, fraction: float | None, longest: float | None) -> IndexPatient:
    return IndexPatient(name, "p.html", lesions, fraction, longest, (IndexScan(name, "anterior", lesions, (), (), ""),))


def test_names_are_text() -> None:
    failed = [Skipped(HOSTILE, "broken")]
    patients = [_patient(HOSTILE, 1, None, None)]
    text = index_page(patients, {HOSTILE: b""}, notice="", facts="", failures=failed, run_files=[])
    assert "<script>alert" not in text and text.count("=cmd&lt;script&gt;") == 5


def test_the_table_of_scans(run: Path) -> None:
    with (run / "out" / "msanet_scans.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [(row["scan"], row["view"], row["file"]) for row in rows] == [
        ("both_anterior", "anterior", "both.dcm"),
        ("both_posterior", "posterior", "both.dcm"),
    ]
    for row in rows:
        assert row["pixel_height_mm"] == row["pixel_width_mm"] == "4.52"
        assert float(row["lesion_area_mm2"]) == pytest.approx(int(row["lesion_area_px"]) * 4.52**2, abs=0.01)
    lesions = list(csv.DictReader(io.StringIO((run / "out" / "msanet_lesions.csv").read_text())))
    longest = max(float(lesion["major_axis_mm"]) for lesion in lesions if lesion["scan"] == "both_anterior")
    assert float(rows[0]["longest_lesion_mm"]) == longest


def test_a_table_holds_no_formula() -> None:
    hostile: dict[str, Any] = {"source": "=cmd|' /C calc'!A0", "warnings": ("@SUM(1)", "second")}
    record = scan_record(pixel_size_mm=None, shape_px=(4, 5), lesions=(), lesion_count=0, **hostile)
    (row,) = csv.DictReader(io.StringIO(scan_table([("+stem", record)])))
    assert (row["scan"], row["file"], row["warnings"]) == ("'+stem", "'=cmd|' /C calc'!A0", "'@SUM(1); second")
    assert (row["rows_px"], row["columns_px"], row["lesion_area_mm2"], row["longest_lesion_mm"]) == ("4", "5", "", "")


def test_an_index_of_another_program_stays(tmp_path: Path) -> None:
    save_picture(body_scan(), tmp_path / "in" / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.html").write_text("<h1>My site</h1>")
    with pytest.raises(RequestError, match=r"has an index\.html of another program"):
        _run(tmp_path, overwrite=True)
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["<h1>My site</h1>"]
    (tmp_path / "out" / "index.html").unlink()
    _run(tmp_path)
    with pytest.raises(RequestError, match="holds results of an earlier run"):
        _run(tmp_path)
    _run(tmp_path, overwrite=True)


@pytest.mark.parametrize("width", [390, 660])
@pytest.mark.parametrize("page", ["index", "patient"])
def test_narrow_pages_do_not_scroll_sideways(browser: Any, tmp_path: Path, page: str, width: int) -> None:
    """Three views with a long name each, two-digit numbers, and an earlier time to compare with."""
    lesions = tuple(_lesion(number) for number in range(1, 19))
    before = scan_record(lesions=lesions[:17], lesion_count=17)
    now = scan_record(lesions=lesions, lesion_count=18)
    scans = [(f"a_long_name_without_any_space_{view}_{view}", now) for view in ("anterior", "posterior", "third")]
    patient = patient_record("p1", scans, compare([now], [before], ""))
    buffer = io.BytesIO()
    Image.new("L", (646, 510)).save(buffer, format="PNG")
    pictures = {stem: buffer.getvalue() for stem, _ in scans}
    if page == "index":
        row = index_patient(patient, scans, "p.html")
        text = index_page([row], pictures, notice="", facts="", failures=[], run_files=["msanet_lesions.csv"])
    else:
        text = patient_sheet(patient, scans, pictures)
        assert "17 lesions matched, 1 new (18)" in text
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    browser.get((tmp_path / "page.html").as_uri())
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        wide = (
            "return [...document.querySelectorAll('html, .scroll')].map((each) => each.scrollWidth - each.clientWidth)"
        )
        assert set(browser.execute_script(wide)) == {0}
        lefts = "return [...document.images].map((each) => Math.round(each.getBoundingClientRect().left))"
        expected = [14, 198, 14] if page == "index" else [14] * 3
        assert width > 390 or browser.execute_script(lefts) == pytest.approx(expected, abs=2)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def _lesion(number: int) -> LesionRecord:
    return LesionRecord(number, 10.0 * number, 50.0, 1234, 5678.9, 85.0, 123.4, 50.0, 99, 0.9, 1.0, 12.3, 45.6)


def _order(driven: Any) -> list[str]:
    return [head.text for head in driven.find_elements("css selector", "#patients tbody th")]


def test_it_sorts_by_keyboard(browser: Any, tmp_path: Path) -> None:
    patients = [_patient("p10", 9, 0.0105, 8.0), _patient("p9", 10, 0.02, None), _patient("p2", 10, None, 12.5)]
    pictures = {patient.name: b"" for patient in patients}
    text = index_page(patients, pictures, notice="", facts="", failures=[], run_files=[])
    (tmp_path / "index.html").write_text(text, encoding="utf-8")
    browser.get((tmp_path / "index.html").as_uri())
    names, lesions, longest, fraction, _ = browser.find_elements("css selector", "thead button")
    orders = []
    for button in (names, names, lesions, longest, fraction, fraction):
        button.send_keys(" ")
        orders.append(_order(browser))
    assert orders == [
        ["p2", "p9", "p10"],
        ["p10", "p9", "p2"],
        ["p9", "p2", "p10"],  # 10 before 9; equal ones keep their order
        ["p2", "p10", "p9"],  # without a value: last
        ["p9", "p10", "p2"],
        ["p10", "p9", "p2"],
    ]
    heads = browser.find_elements("css selector", "thead th[aria-sort]")
    assert [head.get_attribute("aria-sort") for head in heads] == ["none"] * 3 + ["ascending", "none"]
    assert browser.get_log("browser") == []
