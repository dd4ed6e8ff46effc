"""msanet check: every fault that was built in is found by file, and a clean set is clean."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import data_store
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from data_pipeline.annotations.lesion_shape import lesion_shapes
from data_pipeline.errors import RequestError
from data_pipeline.intake.build import ImportOptions, import_source
from data_pipeline.intake.checking import quality
from data_pipeline.intake.checking.check import check_data_set
from data_pipeline.intake.checking.check_page import page
from data_pipeline.intake.checking.duplicates import copies, landmarks
from data_pipeline.intake.folder import DataSetFolder, load_masks, read_data_set
from data_pipeline.intake.manifest import ImageEntry
from data_pipeline.readers import read_scans
from data_pipeline.readers.stated import Stated
from data_pipeline.scan import View
from msanet_jax.cli import main
from tests.user_files import (
    LESIONS,
    body_scan,
    image_entry,
    lesion_mask,
    nm_header,
    picture_source,
    save_dicom,
    save_picture,
)

REAL = Path(data_store.__file__).parent / "data" / "JPEG-LL.dcm"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five patients with an anterior view, three of them with lesions; one has a posterior view too."""
    source = picture_source(tmp_path / "in", 5)
    save_picture(body_scan(30)[:, ::-1].copy(), source / "case0_post.png")
    save_picture(lesion_mask()[:, ::-1].copy(), source / "case0_post_mask.png")
    import_source(source, tmp_path / "set", ImportOptions(stated=Stated(pixel_mm=4.5)), progress=False)
    return tmp_path / "set"


def _entries(folder: Path) -> list[ImageEntry]:
    return list(read_data_set(folder).entries)


def _change(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values if values.dtype == np.uint8 else values.astype(np.uint16)).save(path)


def test_a_clean_set_is_clean(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "6 scans of 5 patients (5 anterior, 1 posterior)" in said and "no problem found" in said
    report = json.loads((folder / "check.json").read_text())
    figures = report["fingerprint"]
    assert report["problems"] == []
    assert figures["lesions"] == 12 and figures["scans_with_empty_mask"] == 2
    assert figures["matrices_px"] == {"512 x 128": 6} and figures["pixel_sizes_mm"] == {"4.50": 6}
    # The lesions of 6 x 4, 5 x 5 and 3 x 8 pixels: 4 sqrt((n^2 - 1) / 12 + 1 / 12) = 4 n / sqrt(12) pixels of 4.5 mm.
    lengths = [round(4 * side / np.sqrt(12) * 4.5, 2) for side in (5, 6, 8)]
    assert [figures["lesion_size_mm"][key] for key in ("low", "median", "high")] == pytest.approx(lengths, abs=0.01)
    page = (folder / "check.html").read_text()
    assert page.count("<figure>") == 6 and "<script" not in page and "http" not in page.replace("http-equiv", "")


def _pictures(page: str) -> dict[str, np.ndarray]:
    """Image id -> its picture, [rows, columns, 3]."""
    found = re.findall(r'alt="([^"]+)" src="data:image/jpeg;base64,([^"]+)"', page)
    return {name: np.asarray(Image.open(io.BytesIO(base64.b64decode(packed))), int) for name, packed in found}


def _ends(values: np.ndarray) -> list[int]:
    row, column = np.nonzero(values)
    return [int(end) for end in (row.min(), row.max() + 1, column.min(), column.max() + 1)]


def test_the_page_shows_each_patient_with_its_masks(folder: Path) -> None:
    """The whole scan, 512 x 128 as 400 x 100 pixels, a gap of 6, and the thorax field as 400 x 400."""
    text = page(check_data_set(folder, progress=False))
    pictures = _pictures(text)
    headings = re.findall(r"<h3><code>([^<]+)</code></h3>", text)
    assert sorted(headings) == sorted({entry.patient for entry in _entries(folder)}) and len(pictures) == 6
    for entry in _entries(folder):
        drawn = np.asarray(Image.open(folder / entry.masks["lesions"])) > 0
        picture = pictures[entry.image_id]
        assert picture.shape == (400, 506, 3)
        orange = picture[:, :, 0] - picture[:, :, 2] > 60
        assert drawn.any() == orange.any()
        if drawn.any():
            box, ends = entry.thorax, np.array(_ends(drawn))
            assert _ends(orange[:, :100]) == pytest.approx((ends * 400 / 512).tolist(), abs=4)
            inside = (ends - np.repeat([box.row, box.column], 2)) * 400 / box.size_px
            assert _ends(orange[:, 106:]) == pytest.approx(inside.tolist(), abs=6)


def test_the_page_fills_a_phone(folder: Path, browser: Any) -> None:
    """One picture under the other, as wide as the page, and one that is pressed is twice as wide within its frame."""
    (folder / "page.html").write_text(page(check_data_set(folder, progress=False)), encoding="utf-8")
    browser.get((folder / "page.html").as_uri())
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        widths = "return [...document.images].map((each) => [Math.round(each.x), Math.round(each.width)])"
        (place,) = {tuple(each) for each in browser.execute_script(widths)}
        assert place[0] < 30 and place[0] + place[1] > 360
        browser.find_element("css selector", ".zoom input").send_keys(" ")
        assert browser.execute_script(widths)[0][1] == pytest.approx(2 * place[1], abs=2)
        assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_every_fault_is_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = {e.image_id: e for e in _entries(folder)}
    front = [e for e in entries.values() if e.view == View.ANTERIOR]
    (back,) = (e for e in entries.values() if e.view == View.POSTERIOR)
    own = next(e for e in front if e.patient == back.patient)
    ill = [e for e in front if e is not own and Image.open(folder / e.masks["lesions"]).getextrema()[1] > 0]
    well = [e for e in front if e is not own and e not in ill]
    counts = {e.image_id: np.asarray(Image.open(folder / e.counts)) for e in entries.values()}
    _change(folder / back.counts, counts[back.image_id][:, ::-1])
    _change(folder / back.masks["lesions"], lesion_mask(value=0))
    smooth = ndimage.gaussian_filter(counts[ill[0].image_id].astype(float), 1.0)
    _change(folder / ill[0].counts, np.rint(smooth))
    _change(folder / ill[0].masks["lesions"], lesion_mask(value=0)[::2, ::2].copy())
    _change(folder / ill[1].masks["lesions"], lesion_mask(value=0)[:, ::-1].copy())
    _change(folder / well[0].counts, np.minimum(counts[well[0].image_id] * 2, 80))
    _change(folder / well[1].counts, counts[ill[1].image_id])
    (folder / own.masks["lesions"]).write_bytes(b"no picture")
    assert main(["check", str(folder), "--quiet"]) == 1
    lines = capsys.readouterr().out.strip().splitlines()
    expected = [
        (back.counts, "one of the two is stored mirrored"),
        (ill[0].counts, "was smoothed or enlarged"),
        (ill[0].masks["lesions"], "256 x 64 pixels, its scan has 512 x 128"),
        (ill[1].masks["lesions"], "fits the scan better when mirrored"),
        (well[0].counts, "is cut off at 80"),
        (own.masks["lesions"], "cannot be read"),
    ]
    for file, words in expected:
        assert any(line.startswith(f"{file}: ") and words in line for line in lines), (words, lines)
    twins = {well[1].counts, ill[1].counts}
    (line,) = [line for line in lines if "is the same scan as" in line]
    assert " of another patient, and they are in " in line or " of another patient; " in line
    assert all(file in line for file in twins)
    report = json.loads((folder / "check.json").read_text())
    assert len(report["problems"]) == len(lines)
    assert all(problem["remedy"] for problem in report["problems"])


def test_faults_of_counts_masks_and_boxes_are_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = _entries(folder)
    front = [e for e in entries if e.view == View.ANTERIOR]
    ill = [e for e in front if Image.open(folder / e.masks["lesions"]).getextrema()[1] > 0]
    well = [e for e in front if e not in ill]
    counts = {e.image_id: np.asarray(Image.open(folder / e.counts)) for e in entries}
    _change(folder / well[0].counts, np.zeros((512, 128)))
    _change(folder / well[1].counts, counts[well[1].image_id] // 20)
    _change(folder / ill[0].counts, counts[ill[0].image_id] * 3)
    smoothed = ndimage.uniform_filter(lesion_mask().astype(float), 3)
    _change(folder / ill[1].masks["lesions"], np.rint(smoothed).astype(np.uint8))
    _change(folder / ill[2].masks["lesions"], np.roll(lesion_mask(value=0), -115, axis=0))
    manifest = (folder / "manifest.csv").read_text().splitlines()
    columns = manifest[0].split(",")
    for number, row in enumerate(manifest):
        if row.startswith(ill[2].image_id):
            cells = row.split(",")
            cells[columns.index("thorax_row")] = "600"
            manifest[number] = ",".join(cells)
    (folder / "manifest.csv").write_text("\n".join(manifest) + "\n")
    assert main(["check", str(folder), "--quiet"]) == 1
    lines = capsys.readouterr().out.strip().splitlines()
    few = (counts[well[1].image_id] // 20).sum()
    for file, words in (
        (well[0].counts, "is empty; remove its row"),
        (well[1].counts, f"has {few} counts only"),
        (ill[0].counts, "was rescaled or compressed"),
        (ill[1].masks["lesions"], "has grey values"),
        (ill[1].masks["lesions"], "a number per lesion, or 255 for all if no two lesions touch"),
        (ill[2].masks["lesions"], "lies on little uptake"),
        ("manifest.csv", f"thorax box of {ill[2].image_id} lies outside the scan"),
    ):
        assert any(line.startswith(f"{file}: ") and words in line for line in lines), (words, lines)


def test_a_mask_drawn_anew_with_255_keeps_its_lesions(folder: Path) -> None:
    """What a drawing program saves: 0 and 255, without numbers."""
    entry = next(e for e in _entries(folder) if Image.open(folder / e.masks["lesions"]).getextrema()[1] > 0)
    before = load_masks(folder, entry, ("lesions",))["lesions"]
    _change(folder / entry.masks["lesions"], np.where(before > 0, 255, 0).astype(np.uint8))
    np.testing.assert_array_equal(load_masks(folder, entry, ("lesions",))["lesions"], before)
    report = check_data_set(folder, progress=False)
    assert report.fingerprint["lesions"] == 12 and not report.problems
    # One lesion among numbers may be the 255th: then numbers stay.
    numbers = np.where(before == 1, 255, before)
    _change(folder / entry.masks["lesions"], numbers.astype(np.uint8))
    np.testing.assert_array_equal(load_masks(folder, entry, ("lesions",))["lesions"], numbers)


def test_edits_that_cannot_be(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = json.loads((folder / "splits.json").read_text())
    manifest = (folder / "manifest.csv").read_text()

    def refused(words: str) -> None:
        with pytest.raises(RequestError, match=words):
            read_data_set(folder)
        assert main(["check", str(folder)]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1

    patient = splits["train"][0]
    (folder / "splits.json").write_text(json.dumps(splits | {"test": [*splits["test"], patient]}))
    refused(f"splits.json: patient {patient} is in both train and test: split by patient")
    (folder / "splits.json").write_text(json.dumps(splits | {"train": splits["train"][1:]}))
    refused(f"patient {patient} is in no split")
    (folder / "splits.json").write_text(json.dumps(splits | {"training": []}))
    refused("split 'training' must be one of train")
    (folder / "splits.json").write_text(json.dumps(splits))
    for old, new, words in (
        (",anterior,", ",front,", "line 2: view 'front' must be one of anterior"),
        ("4.5,4.5", "4.5,wide", "line 2: pixel sizes"),
        ("counts/", "../", "lies out of the data set"),
        ("counts/", "count/", "is not there"),
        ("patient,", "who,", "has no column patient"),
    ):
        (folder / "manifest.csv").write_text(manifest.replace(old, new, 1))
        refused(words)
    # What a spreadsheet does to a CSV does no harm.
    (folder / "manifest.csv").write_text("\ufeff" + manifest.replace(",", ";"), encoding="utf-8")
    assert len(read_data_set(folder).entries) == 6
    (folder / "manifest.csv").unlink()
    refused("manifest.csv: is missing")


def test_a_set_that_cannot_be_trained_on(tmp_path: Path) -> None:
    source = picture_source(tmp_path / "in", 2)
    import_source(source, tmp_path / "set", ImportOptions(), progress=False)
    report = check_data_set(tmp_path / "set", progress=False)
    assert [problem.what for problem in report.set_problems] == [
        "validation has no patient with a lesion mask",
        "test has no patient with a lesion mask",
    ]
    # Two patients do not fill three splits, however they are moved.
    assert {problem.remedy for problem in report.set_problems} == {"training needs one at least: add masks"}
    assert any("it is assumed from their width" in note for note in report.notes)


def test_copies_are_found_across_splits_whatever_comes_first(tmp_path: Path) -> None:
    """Of three copies of one scan two are in training: each that is in another split than any copy says so."""
    source = picture_source(tmp_path / "in", 12)
    for number in range(1, 12):
        save_picture(body_scan(0), source / f"case{number}_ant.png")
        save_picture(lesion_mask(), source / f"case{number}_ant_mask.png")
    import_source(source, tmp_path / "set", ImportOptions(), progress=False)
    report = check_data_set(tmp_path / "set", progress=False)
    told = [problem.what for problem in report.problems if "is the same scan as" in problem.what]
    assert len(told) == 11 and all("of another patient" in line for line in told)
    splits = [image.split for image in report.images]
    apart = sum(bool(set(splits[:number]) - {split}) for number, split in enumerate(splits))
    assert sum("and they are in" in line for line in told) == apart > 0
    lesions = 3 * splits.count("validation")
    assert (f"validation has {lesions} lesions: too few" in " ".join(report.notes)) == (lesions < 10)


def test_copies_that_were_scaled_or_cut_out_are_found() -> None:
    """Different counts of one anatomy are no copies; the same counts are, whatever is done to their units and grid."""
    scans = [body_scan(number, LESIONS if number % 2 else ()) for number in range(8)]
    marks = [landmarks(scan, (4.5, 4.5)) for scan in scans]
    assert copies(marks, [str(number) for number in range(8)]) == {}
    changed = [
        (scans[3] * 3, 4.5),
        (np.rint(scans[4] / scans[4].max() * 255).astype(int), 4.5),
        (scans[5][60:300, 10:110], 4.5),
        (scans[5][60:300, 10:110] * 2, 579 / 100),  # the size that is assumed where the file states none
        (scans[6].repeat(2, axis=0).repeat(2, axis=1), 2.25),
        (scans[7].reshape(256, 2, 64, 2).sum(axis=(1, 3)), 9.0),
        (np.rint(ndimage.gaussian_filter(scans[2].astype(float), 0.7)).astype(int), 4.5),
    ]
    marks += [landmarks(counts, (pixel, pixel)) for counts, pixel in changed]
    found = copies(marks, [str(number) for number in range(len(marks))])
    assert [found[number][0] for number in range(8, 15)] == [3, 4, 5, 5, 6, 7, 2]
    assert found[11] == [5, 10] and sum(map(len, found.values())) == 8
    assert copies([landmarks(np.zeros((32, 32), int), (4.5, 4.5))] * 2, ["a", "a"]) == {1: [0]}


def test_a_copy_is_told_with_what_was_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *_, last = [entry for entry in _entries(folder) if entry.view == View.ANTERIOR]
    _change(folder / last.counts, 3 * np.asarray(Image.open(folder / first.counts)))
    assert main(["check", str(folder), "--quiet"]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "scaled or cut out" in line]
    assert line.startswith(f"{last.counts}: is a copy, scaled or cut out, of {first.counts} of another patient")


def test_page_goes_where_it_is_told(folder: Path, tmp_path: Path) -> None:
    assert main(["check", str(folder), f"--out={tmp_path / 'page'}", "--quiet"]) == 0
    assert sorted(path.name for path in (tmp_path / "page").iterdir()) == ["check.html", "check.json"]
    assert main(["check", str(folder), f"--out={folder / 'manifest.csv'}", "--quiet"]) == 2


def test_noise_of_a_real_scan_and_of_what_is_done_to_it() -> None:
    counts = read_scans(REAL)[0].counts
    raw = quality.noise(counts)
    assert raw.variance_over_mean == pytest.approx(0.88, abs=0.03) and raw.correlation == pytest.approx(-0.08, abs=0.03)
    assert not raw.smoothed and not raw.rescaled
    assert quality.noise(np.rint(ndimage.gaussian_filter(counts.astype(float), 0.7))).smoothed
    assert quality.noise(ndimage.zoom(counts.astype(float), 2, order=1)).smoothed
    for factor in (2.0, 0.45):
        changed = quality.noise(np.rint(counts * factor))
        assert changed.rescaled and not changed.smoothed
    lossy = read_scans(REAL.with_name("JPEG2000_UNC.dcm"))[0].counts
    assert quality.noise(lossy).rescaled
    assert quality.saturated_px(counts) == 0 and quality.saturated_px(np.minimum(counts, 150)) > 50


def test_flat_poisson_noise_has_the_textbook_values() -> None:
    counts = np.random.default_rng(0).poisson(30.0, (512, 512))
    noise = quality.noise(counts)
    # All tiles are alike: the median of the lower half of a chi-square of 58 degrees is 0.88 of its mean; six fitted
    # terms leave neighbours a little anticorrelated.
    assert noise.variance_over_mean == pytest.approx(0.88, abs=0.02)
    assert -0.12 < noise.correlation < -0.03
    assert np.isnan(quality.noise(np.zeros((64, 64), int)).variance_over_mean)


def test_length_of_a_disc_is_its_diameter() -> None:
    row, column = np.mgrid[:80, :80]
    ids = np.where((row - 40) ** 2 + (column - 40) ** 2 <= 20.5**2, 3, 0)
    (lesion,) = lesion_shapes(ids, (2.0, 2.0))
    assert lesion.id == 3 and lesion.pixels == (ids > 0).sum()
    assert lesion.length_mm == pytest.approx(2 * 2 * np.sqrt(lesion.pixels / np.pi), rel=0.005)


def test_kinds_that_some_images_lack_are_not_offered(tmp_path: Path) -> None:
    entries = (image_entry("a"), image_entry("b"), image_entry("c"))
    full = ImageEntry(**{**entries[0].__dict__, "masks": {**entries[0].masks, "benign": "masks/x.png"}})
    splits = {"train": ("a",), "validation": ("b",), "test": ("c",), "left_out": ()}
    assert DataSetFolder(tmp_path, (full, *entries[1:]), splits, "own").mask_kinds() == ("lesions",)


def test_two_views_of_dicom_are_not_called_mirrored(tmp_path: Path) -> None:
    both = np.stack([body_scan(1), body_scan(2)[:, ::-1]])
    save_dicom(nm_header(both, views=("Anterior", "Posterior")), tmp_path / "in" / "a.dcm")
    import_source(tmp_path / "in", tmp_path / "set", ImportOptions(scans_without_mask="no-lesion"), progress=False)
    report = check_data_set(tmp_path / "set", progress=False)
    assert not [problem for problem in report.problems if "mirrored" in problem.what]
