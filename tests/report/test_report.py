"""The report page: what it says, what it holds, and, where Chromium is installed, that it works in a browser."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.msanet import get_config
from data_pipeline.errors import ExitCode, RequestError
from data_pipeline.pages import interval_text, number
from msanet_jax import cli
from msanet_jax.evaluation.field_maps import Probability, field_probability
from msanet_jax.evaluation.lesions import touching
from msanet_jax.report.data import paired_differences, read_runs
from msanet_jax.report.page import page
from msanet_jax.runs.cases import Cases, compact_cases, read_cases, write_cases
from msanet_jax.training import outcome
from tests.colours import contrast
from tests.fakes import fake_split

SPLITS = {"train": fake_split(8), "validation": fake_split(6, seed=1), "test": fake_split(10, seed=2)}
FACTS = SPLITS["test"].rows[0].lesion_rows
FACTS[0] = dataclasses.replace(FACTS[0], bone="sternum", size_mm=40.0)
# Text that would break out of an element or of the script's data if it were not escaped.
HOSTILE = "</script><b>&"


def _probability(sharpness: float, centre: float) -> Probability:
    def network(images: np.ndarray) -> np.ndarray:
        return (1 / (1 + np.exp(-sharpness * (images[..., 0] - centre)))).astype(np.float32)

    return field_probability(network, 16)


def _config() -> ConfigDict:
    config = get_config("smoke")
    config.data.image_size_px = 16
    config.evaluate.bootstrap_samples = 50
    return config


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two scored runs with history, the second without cases.npz."""
    folders = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcome, "write_pictures", lambda *_: None)
        patch.setattr(outcome, "write_score_plots", lambda *_: None)
        for name, sharpness, centre in (("sharp", 6.0, 2.3), ("blurred", 2.0, 1.9)):
            folder = tmp_path_factory.mktemp(name)
            config = _config()
            (folder / "config.json").write_text(config.to_json())
            rows = [{"kind": "train", "step": n, "epoch": n / 2, "supervised_loss": 1 / n} for n in range(1, 5)]
            rows += [{"kind": "train", "step": 5, "epoch": 2.5, "discriminator_loss": 0.0, "learning_rate": 1e-3}]
            rows += [{"kind": "validation", "step": 4, "epoch": 2.0, "dsc_pooled": 0.5, "precision_pooled": None}]
            (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            model = _probability(sharpness, centre)
            outcome.score_and_write(model, SPLITS, folder=folder, config=config, step=7, begin=0.0)
            folders.append(folder)
    (folders[1] / "cases.npz").unlink()
    return folders


def _cases(name: str, *pixels: np.ndarray, threshold: float) -> Cases:
    """The cases of one image, from arrays `[1, rows, columns]`."""
    (one,) = zip(*pixels, strict=True)
    return compact_cases([(name, *one)], threshold=threshold)


def test_levels_mark_what_the_probabilities_mark() -> None:
    """At every thousandth, for values on it, just beside it, and at random."""
    thousandths = (np.arange(1001) / 1000).astype(np.float32)
    beside = np.concatenate([np.nextafter(thousandths, np.float32(2)), np.nextafter(thousandths, np.float32(-1))])
    values = np.concatenate([thousandths, beside, np.random.default_rng(0).random(1000, np.float32)])
    values = np.clip(values, 0, 1)[None, None]
    cases = _cases("a", np.zeros_like(values), np.zeros_like(values), values, threshold=0.25)
    for k in range(1000):
        np.testing.assert_array_equal(cases.level > k, values > k / 1000)


@pytest.mark.parametrize("threshold", [0.2992505729198456, 0.0001, 0.9994])
def test_one_level_marks_what_a_threshold_between_thousandths_marks(threshold: float) -> None:
    values = np.random.default_rng(0).random((1, 100, 100), np.float32)
    values[0, 0] = np.linspace(threshold - 1e-3, threshold + 1e-3, 100).clip(0, 1)
    cases = _cases("a", np.zeros_like(values), np.zeros_like(values), values, threshold=threshold)
    np.testing.assert_array_equal(cases.level > round(1000 * threshold), values > threshold)


def test_cases_come_back(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    uptake = np.array([[[0.0, 1.0], [3.0, 7.0]]])
    cases = _cases("x", uptake, np.array([[[0, 1], [2, 255]]]), random.random((1, 2, 2)), threshold=0.5)
    assert cases.uptake.tolist() == [[[0, 85], [255, 255]]]
    assert read_cases(tmp_path) is None
    write_cases(tmp_path, cases)
    assert [path.name for path in tmp_path.iterdir()] == ["cases.npz"]
    back = read_cases(tmp_path)
    assert back is not None
    for name in ("image_ids", "uptake", "instances", "level"):
        np.testing.assert_array_equal(getattr(back, name), getattr(cases, name))
    (tmp_path / "cases.npz").write_bytes(b"PK no archive")
    with pytest.raises(RequestError, match=r"cases\.npz: not readable"):
        read_cases(tmp_path)


def test_numbers() -> None:
    assert number(0.12345) == "0.123"
    assert number(None) == number(float("nan")) == interval_text([None, None]) == "–"
    assert interval_text([0.1, 0.25], 2) == "0.10 to 0.25"


def test_page_of_one_run(runs: list[Path]) -> None:
    text = page(read_runs(runs[:1]))
    metrics = json.loads((runs[0] / "metrics.json").read_text())
    low, high = metrics["test"]["intervals"]["dsc_pooled"]
    assert text.count("not comparable with the 0.6671") == 1
    assert f"<b>{metrics['test']['dsc_pooled']:.3f}</b><span>pooled DSC" in text
    assert f"95 % interval {low:.3f} to {high:.3f}" in text
    titles = re.findall(r'<figure class="plot"><figcaption>([^<]+)', text)
    assert titles == [
        "FROC",
        "Precision-recall",
        "Calibration",
        "DSC by lesion size",
        "Recall by lesion size",
        "Generator: supervised loss",
        "Generator: validation patients",
        "Generator: learning rate",
    ]
    assert "minus" not in text.split("<script")[0].split("</style>")[1]
    for fact in ("seed", "commit", "devices", metrics["provenance"]["devices"], "train.batch_size"):
        assert f">{fact}<" in text
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text), "nothing is fetched from elsewhere"
    assert "http" not in text.replace("http-equiv", ""), "nor named"


def test_the_page_holds_no_folder(runs: list[Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(runs[0], tmp_path / "first"))
    config = json.loads((run / "config.json").read_text())
    config["data"]["dataset"] = "/home/MUSTERFRAU/scans"
    (run / "config.json").write_text(json.dumps(config))
    text = page(read_runs([run]))
    assert "MUSTERFRAU" not in text and str(tmp_path) not in text
    assert ">scans<" in text and ">first<" in text


def test_page_of_two_runs(runs: list[Path]) -> None:
    read = read_runs(runs)
    differences, unpaired = paired_differences(read)
    assert not unpaired
    dsc = next(entry for entry in differences if entry.score == "dsc_pooled")
    assert dsc.difference == pytest.approx(read[1].scores["dsc_pooled"] - read[0].scores["dsc_pooled"])
    text = page(read)
    assert f"{read[1].name} minus {read[0].name}" in text
    assert f"<td>{dsc.difference:+.3f}</td><td>{dsc.low:.3f} to {dsc.high:.3f}</td>" in text
    assert f"No cases.npz in {read[1].name}: it is not in the gallery" in text
    assert len(json.loads(re.search(r'id="gallery-data">(.*?)</script>', text)[1])["runs"]) == 1


def test_runs_that_cannot_be_paired_say_why(runs: list[Path], tmp_path: Path) -> None:
    first, second = read_runs(runs)
    fewer = dataclasses.replace(second, metrics=dataclasses.replace(second.metrics, images=second.metrics.images[1:]))
    assert "No paired differences: " in page([first, fewer])
    assert "not scored on the same images" in paired_differences([first, fewer])[1]
    for run, version in ((runs[0], "1.0.0"), (runs[1], "1.0.1")):
        copy = tmp_path / version
        shutil.copytree(run, copy)
        metrics = json.loads((copy / "metrics.json").read_text())
        metrics["provenance"]["dataset_version"] = version
        (copy / "metrics.json").write_text(json.dumps(metrics))
    versions = read_runs([tmp_path / "1.0.0", tmp_path / "1.0.1"])
    assert "different versions of the data set" in paired_differences(versions)[1]


def test_names_are_escaped(runs: list[Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    for name in ("metrics.json", "lesions.csv"):
        (run / name).write_text((run / name).read_text().replace("image-0", HOSTILE))
    cases = read_cases(run)
    ids = ["image-" + str(n) if n else HOSTILE for n in range(10)]
    write_cases(run, type(cases)(np.array(ids), cases.uptake, cases.instances, cases.level))
    text = page(read_runs([run]))
    assert HOSTILE not in text
    data = json.loads(re.search(r'id="gallery-data">(.*?)</script>', text)[1])
    assert data["runs"][0]["images"][0]["id"] == HOSTILE


def test_an_evaluation_inside_a_run_takes_its_config(runs: list[Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    inside = run / "evaluation_test"
    inside.mkdir()
    for name in ("metrics.json", "lesions.csv", "cases.npz"):
        (run / name).rename(inside / name)
    read = read_runs([inside])[0]
    assert read.name == "run"
    assert len(read.history) == 6
    assert read.config["train.batch_size"] == _config().train.batch_size


def test_the_command(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert cli.main(["report", str(runs[0]), f"--out={out}"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert cli.main(["report", str(runs[0]), f"--out={tmp_path / 'none' / 'page.html'}"]) == ExitCode.REFUSED
    assert "cannot be written" in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path), f"--out={out}"]) == ExitCode.REFUSED
    assert "no metrics.json" in capsys.readouterr().err


def test_the_page_needs_no_networks() -> None:
    code = "import sys, msanet_jax.report.page; print({'jax', 'tensorflow', 'flax'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture
def opened(browser: Any, runs: list[Path], tmp_path: Path) -> Any:
    return _open(browser, runs, tmp_path)


def _open(browser: Any, runs: list[Path], tmp_path: Path) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    (tmp_path / "page.html").write_text(page(read_runs(runs)), encoding="utf-8")
    browser.get((tmp_path / "page.html").as_uri())
    WebDriverWait(browser, 30).until(
        lambda driven: driven.execute_script("return document.getElementById('gallery').dataset.ready")
    )
    return browser


def _sums(driven: Any) -> dict[str, str]:
    names = ("images", "tp", "fp", "fn", "dsc", "found")
    return {name: driven.find_element("id", f"sum-{name}").text for name in names}


def _choose(driven: Any, name: str, value: Any) -> None:
    """Sets a control and waits for the frame in which the page answers."""
    driven.execute_async_script(
        "const [name, value, done] = arguments, control = document.getElementById(name); control.value = value;"
        "for (const event of ['input', 'change']) control.dispatchEvent(new Event(event));"
        "requestAnimationFrame(() => requestAnimationFrame(done));",
        name,
        value,
    )


def _expected(run: Path, threshold: float) -> dict[str, str]:
    cases = read_cases(run)
    truth = cases.instances > 0
    predicted = cases.level > round(1000 * threshold)
    tp, fp, fn = (int(n.sum()) for n in (truth & predicted, ~truth & predicted, truth & ~predicted))
    return {"tp": str(tp), "fp": str(fp), "fn": str(fn), "dsc": f"{2 * tp / (2 * tp + fp + fn):.3f}"}


def test_counts_at_the_runs_threshold_are_those_of_metrics_json(opened: Any, runs: list[Path]) -> None:
    assert opened.get_log("browser") == []
    metrics = json.loads((runs[0] / "metrics.json").read_text())
    images = metrics["images"]
    tp, fp, fn, found, lesions = (sum(row[key] for row in images) for key in ("tp", "fp", "fn", "detected", "lesions"))
    assert _sums(opened) == {
        "images": "10",
        "tp": str(tp),
        "fp": str(fp),
        "fn": str(fn),
        "dsc": f"{metrics['test']['dsc_pooled']:.3f}",
        "found": f"{found} of {lesions}",
    }


def test_the_threshold_slider_counts_again(opened: Any, runs: list[Path]) -> None:
    seen = set()
    for threshold in (0.05, 0.5, 0.9):
        _choose(opened, "threshold", round(1000 * threshold))
        sums = _sums(opened)
        assert {key: sums[key] for key in ("tp", "fp", "fn", "dsc")} == _expected(runs[0], threshold)
        seen.add(sums["tp"])
    assert len(seen) > 1
    opened.find_element("id", "own-threshold").send_keys(" ")
    assert opened.find_element("id", "threshold-value").text == "0.500"
    slider = opened.find_element("id", "threshold")
    slider.send_keys("\ue014")  # right arrow
    assert opened.find_element("id", "threshold").get_property("value") == "501"
    assert opened.get_log("browser") == []


def _borders(mask: np.ndarray) -> int:
    """Sides of pixels of a mask that border on something else."""
    framed = np.pad(mask, 1).astype(int)
    return int(np.abs(np.diff(framed, axis=0)).sum() + np.abs(np.diff(framed, axis=1)).sum())


def test_marks_and_missed_lesions_are_outlined_and_nothing_is_filled(
    browser: Any, runs: list[Path], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(runs[0], tmp_path / "run"))
    cases = read_cases(run)
    assert cases is not None
    # A false mark in a corner, one more at its corner, so that both are one, and one at the edge that is its own.
    for pixels in ((0, 0), (0, 1), (1, 2), (0, 15)):
        assert cases.instances[0][pixels] == 0
        cases.level[0][pixels] = 900
    write_cases(run, cases)
    opened = _open(browser, [run], tmp_path)
    seen = set()
    for threshold in (0.05, 0.3, 0.7, 0.95):
        _choose(opened, "threshold", round(1000 * threshold))
        expected = dict.fromkeys(("truth", "missed", "hit", "false"), 0)
        for ids, level in zip(cases.instances, cases.level, strict=True):
            marked = level > round(1000 * threshold)
            hit = touching(ids, marked)
            expected["hit"] += _borders(hit)
            expected["false"] += _borders(marked & ~hit)
            for lesion in np.unique(ids[ids > 0]):
                expected["truth"] += _borders(ids == lesion)
                # A lesion is found from this share of its pixels on.
                if marked[ids == lesion].mean() < _config().evaluate.lesion_overlap_min:
                    expected["missed"] += _borders(ids == lesion)
        drawn = opened.execute_script(
            "const sides = (path) => (path.getAttribute('d').match(/M/g) ?? []).length, found = {};"
            "for (const path of document.querySelectorAll('.case path')) {"
            "  const name = path.getAttribute('class'); found[name] = (found[name] ?? 0) + sides(path);"
            "} return found"
        )
        assert drawn == expected
        seen |= {name for name, sides in drawn.items() if sides}
    assert seen == set(expected)
    styles = "return [...document.querySelectorAll('.case path')].map((path) => getComputedStyle(path).fill)"
    assert set(opened.execute_script(styles)) == {"none"}


def test_filters_sorting_and_fading(opened: Any) -> None:
    _choose(opened, "bone", "sternum")
    assert (_sums(opened)["images"], _sums(opened)["found"].split()[-1]) == ("1", "1")
    _choose(opened, "size", "small")
    assert _sums(opened)["images"] == "0"
    _choose(opened, "bone", "")
    assert _sums(opened)["images"] == "7"  # 8 images have a lesion, all but the sternum's of 8 mm
    _choose(opened, "size", "")
    scores = {}
    for rule in ("worst", "best"):
        _choose(opened, "sort", rule)
        cards = opened.find_elements("css selector", ".case b")
        scores[rule] = [float(card.text.split()[1]) for card in cards if card.text.startswith("DSC")]
    assert scores["worst"] == sorted(scores["worst"])
    assert scores["best"] == scores["worst"][::-1]
    _choose(opened, "fade", 25)
    layer = opened.find_element("css selector", ".case .layer.prediction")
    assert layer.value_of_css_property("opacity") == "0.25"
    opened.find_element("id", "show-prediction").send_keys(" ")
    assert layer.value_of_css_property("display") == "none"
    card = opened.find_element("css selector", ".case .stack")
    card.send_keys("\n")
    assert card.get_attribute("aria-pressed") == "true"
    assert opened.get_log("browser") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_a_picture_in_full_width_and_curves_that_can_be_read(opened: Any, scheme: str) -> None:
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    opened.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    try:
        assert opened.execute_script("return document.documentElement.scrollWidth") <= 390
        assert opened.find_element("css selector", ".case .stack").rect["width"] > 330
        curve = opened.find_element("css selector", ".plot svg")
        assert curve.rect["width"] > 330
        ink = curve.find_element("css selector", "use").value_of_css_property("fill")
        paper = opened.find_element("tag name", "body").value_of_css_property("background-color")
        assert contrast(ink, paper) > 4.5
        # Nothing lies behind the curves but the page.
        filled = (
            "return [...arguments[0].querySelectorAll('path')].filter((path) => getComputedStyle(path).fill !== 'none')"
            ".map((path) => path.getBoundingClientRect().width)"
        )
        assert max(opened.execute_script(filled, curve)) < 50
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
