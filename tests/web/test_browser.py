"""The page in a real browser: drop, progress, sliders, links between table and picture, phone, keyboard, two tabs."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msanet_jax.web.server import served
from msanet_jax.web.visit_folder import visit_folder
from tests.colours import contrast, luminance
from tests.user_files import LESIONS, body_scan, nm_header, save_dicom


@pytest.fixture
def address(models: Any) -> Iterator[str]:
    with visit_folder() as folder, served(models, folder) as found:
        yield found


@pytest.fixture
def driven(browser: Any, address: str) -> Iterator[Any]:
    """A browser on the first page; nothing may be complained about in its console."""
    browser.get(address)
    yield browser
    for command, values in (
        ("Emulation.clearDeviceMetricsOverride", {}),
        ("Emulation.setEmulatedMedia", {"features": []}),
    ):
        browser.execute_cdp_cmd(command, values)
    problems = [entry["message"] for entry in browser.get_log("browser")]
    browser.get("about:blank")
    assert problems == []


@pytest.fixture
def both(tmp_path: Path) -> Path:
    counts = np.stack([body_scan(0), body_scan(1, LESIONS[:1])])
    return save_dicom(nm_header(counts, views=("Anterior", "Posterior")), tmp_path / "both.dcm")


def _until(driven: Any, true: Callable[[Any], Any]) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driven, 30).until(true)


def _text(driven: Any, selector: str) -> str:
    return driven.execute_script(f"return document.querySelector('{selector}').textContent")


def _upload(driven: Any, *paths: Path) -> None:
    driven.find_element("id", "files").send_keys("\n".join(map(str, paths)))
    _until(driven, lambda page: page.find_elements("css selector", ".job[data-state=done]"))


def _look(driven: Any, both: Path) -> None:
    _upload(driven, both)
    _until(driven, lambda page: page.find_elements("css selector", "#patients tbody tr"))
    driven.get(driven.find_element("css selector", "#patients tbody th a").get_attribute("href"))
    _until(driven, lambda page: page.execute_script("return document.body.dataset.ready"))


def _move(driven: Any, name: str, value: float) -> None:
    driven.execute_script(
        "const [name, value] = arguments, slider = document.getElementById(name); slider.value = value;"
        "slider.dispatchEvent(new Event('input'));",
        name,
        value,
    )


def _shown_threshold(driven: Any) -> str | None:
    return driven.find_element("id", "findings").get_attribute("data-threshold")


def _marked(driven: Any) -> list[int]:
    return [int(canvas.get_attribute("data-marked")) for canvas in driven.find_elements("tag name", "canvas")]


def _areas(driven: Any) -> list[int]:
    """Pixels of the lesions in the table, by view."""
    rows = driven.execute_script(
        "const rows = [...document.querySelectorAll('tr[data-stem]')];"
        "return rows.map((row) => [row.dataset.stem, Number(row.dataset.area)])"
    )
    return [sum(area for stem, area in rows if stem.endswith(view)) for view in ("anterior", "posterior")]


def test_files_and_what_is_wrong_with_them(driven: Any, both: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.dcm").write_text("no scan")
    with (tmp_path / "film.dcm").open("wb") as large:
        large.truncate((2 << 30) + 1)
    _upload(driven, both, tmp_path / "bad.dcm", tmp_path / "film.dcm")
    assert _text(driven, ".job p") == "both.dcm and 1 more: 2 scans segmented"
    lines = [line.text for line in driven.find_elements("css selector", ".job li")]
    assert lines == [
        "film.dcm: is larger than 2 GiB; no bone scan is, leave it out",
        "bad.dcm: is not a DICOM, PNG, JPEG, TIFF, NPY or NIfTI file; export it as one of these",
    ]
    _until(driven, lambda page: page.find_elements("css selector", "#patients tbody tr"))
    assert _text(driven, "#patients tbody td b") == "4"
    _until(
        driven,
        lambda page: page.execute_script("return [...document.images].map((one) => one.naturalWidth)") == [288] * 2,
    )
    # A second tab, and the first one loaded again, show the same.
    first = driven.current_window_handle
    address = driven.current_url
    driven.switch_to.new_window("tab")
    driven.get(address)
    assert _text(driven, "#patients tbody td b") == "4"
    _until(driven, lambda page: len(page.find_elements("css selector", ".job li")) == 2)
    driven.close()
    driven.switch_to.window(first)
    driven.refresh()
    _until(driven, lambda page: len(page.find_elements("css selector", ".job li")) == 2)
    # Nothing is left after "Remove all scans".
    driven.execute_script("window.confirm = () => true; document.getElementById('clear').click()")
    _until(driven, lambda page: not page.find_elements("css selector", "#patients tbody tr"))


def test_a_dropped_file(driven: Any, both: Path) -> None:
    """The drop of a mouse, with bytes that the page itself makes."""
    driven.execute_script(
        "const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));"
        "const transfer = new DataTransfer(); transfer.items.add(new File([bytes], 'both.dcm'));"
        "const options = { bubbles: true, cancelable: true, dataTransfer: transfer };"
        "document.body.dispatchEvent(new DragEvent('drop', options));",
        base64.b64encode(both.read_bytes()).decode(),
    )
    _until(driven, lambda page: page.find_elements("css selector", ".job[data-state=done]"))
    assert _text(driven, ".job p") == "both.dcm: 2 scans segmented"
    # Of drops without an error the last one alone is shown.
    _upload(driven, both)
    _until(driven, lambda page: len(page.find_elements("css selector", ".job[data-state=done]")) == 2)
    assert [job.is_displayed() for job in driven.find_elements("css selector", ".job")] == [True, False]


def test_the_threshold_moves_outlines_table_and_links(driven: Any, both: Path) -> None:
    _look(driven, both)
    assert _marked(driven) == _areas(driven)
    assert len(driven.find_elements("css selector", "tr[data-stem]")) == 4
    seen = [_marked(driven)]
    for threshold in (0.15, 0.8):
        _move(driven, "threshold", threshold)
        _until(driven, lambda page, shown=str(threshold): _shown_threshold(page) == shown)
        assert _text(driven, "#threshold-value") == f"{threshold:.3f}"
        assert _marked(driven) == _areas(driven)
        links = [link.get_attribute("href") for link in driven.find_elements("css selector", "#downloads a")]
        assert len(links) == 6 and all(link.endswith(f"?threshold={threshold}") for link in links)
        seen.append(_marked(driven))
    assert seen[1][0] > seen[0][0] > seen[2][0]
    driven.refresh()
    _until(driven, lambda page: page.execute_script("return document.body.dataset.ready"))
    assert _text(driven, "#threshold-value") == "0.800"
    assert _marked(driven) == _areas(driven) == seen[2]
    driven.find_element("id", "reset").send_keys(" ")
    _until(driven, lambda page: _areas(page) == seen[0])
    assert "threshold" not in driven.current_url


def _picture(driven: Any) -> str:
    return driven.execute_script("return document.querySelector('canvas').toDataURL()")


def test_every_control_changes_the_picture(driven: Any, both: Path) -> None:
    _look(driven, both)
    pictures = [_picture(driven)]
    for name, value in (("opacity", 0), ("opacity", 100), ("window", 50), ("gamma", 1.5)):
        _move(driven, name, value)
        pictures.append(_picture(driven))
    assert pictures[2] == pictures[0] and len(set(pictures)) == 4
    canvas = driven.find_element("tag name", "canvas")
    for keys in ("+", "\ue012", "9", "0"):
        canvas.send_keys(keys)
        pictures.append(_picture(driven))
    assert len(set(pictures)) == 7 and pictures[-1] == pictures[4]


def test_a_ruler_in_mm_follows_the_zoom(driven: Any, both: Path) -> None:
    """The longest of a few round lengths that is shorter than a third of the picture's width."""
    _look(driven, both)
    canvas = driven.find_element("tag name", "canvas")
    # Pixels of 4.52 mm. The field of 128 pixels fills the width: 579 mm. The scan of 512 rows fills the height, 1.25 of
    # the width, which is then 1851 mm. Eight steps of 1.25 leave 97 mm of the 579.
    shown = [canvas.get_attribute("data-ruler")]
    for keys in ("9", "0", "++++++++"):
        canvas.send_keys(keys)
        shown.append(canvas.get_attribute("data-ruler"))
    assert shown == ["100", "500", "100", "20"]


def test_table_and_picture_are_linked_by_keyboard_and_pointer(driven: Any, both: Path) -> None:
    from selenium.webdriver import ActionChains

    _look(driven, both)
    before = _picture(driven)
    rows = driven.find_elements("css selector", "tr[data-stem]")
    rows[1].send_keys("\ue007")
    assert [row.get_attribute("aria-selected") for row in rows] == ["false", "true", "false", "false"]
    assert _picture(driven) != before
    # The row brought its lesion into the middle; pressing there after another choice chooses it again.
    rows[0].send_keys(" ")
    rows[1].send_keys(" ")
    rows[3].send_keys(" ")
    assert rows[3].get_attribute("aria-selected") == "true"
    ActionChains(driven).move_to_element(driven.find_element("tag name", "canvas")).click().perform()
    assert rows[1].get_attribute("aria-selected") == "true"


def test_by_keyboard_alone(driven: Any, both: Path) -> None:
    """Tab reaches every control of both pages, and the outline of the focus shows."""
    _look(driven, both)
    reached = []
    body = driven.find_element("tag name", "body")
    body.send_keys("\ue004")
    for _ in range(40):
        active = driven.switch_to.active_element
        reached.append(active.get_attribute("id") or active.get_attribute("textContent") or active.tag_name)
        active.send_keys("\ue004")
    for name in ("threshold", "opacity", "window", "gamma", "thorax", "whole", "reset", "canvas", "all as zip"):
        assert name in reached, (name, reached)
    assert any("anterior 1" in text for text in reached)


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(driven: Any, both: Path, width: int, scheme: str) -> None:
    driven.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 640},
    )
    driven.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )

    def check() -> None:
        assert driven.execute_script("return document.documentElement.scrollWidth") <= width
        ink, paper = (
            driven.execute_script(f"return getComputedStyle(document.body).{name}")
            for name in ("color", "backgroundColor")
        )
        assert contrast(ink, paper) > 7
        assert (luminance(paper) < 0.1) == (scheme == "dark")

    check()
    assert not driven.find_element("id", "all").is_displayed()  # nothing to download yet
    _look(driven, both)
    check()
    wider = "return [...document.querySelectorAll('.scroll')].map((each) => each.scrollWidth - each.clientWidth)"
    assert driven.execute_script(wider) == [0]
    tops = [canvas.rect["y"] for canvas in driven.find_elements("tag name", "canvas")]
    assert (tops[0] == tops[1]) == (width == 1400)


@pytest.mark.parametrize("width", [1400, 390])
def test_four_views_and_their_sliders_are_seen_together(driven: Any, both: Path, tmp_path: Path, width: int) -> None:
    """Nothing scrolls by itself; on a wide screen all views fit it, on a phone the sliders stay below the pictures."""
    height = 900 if width == 1400 else 844
    driven.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 640},
    )
    early = np.stack([body_scan(2), body_scan(3)])
    earlier = save_dicom(nm_header(early, views=("Anterior", "Posterior")), tmp_path / "early.dcm")
    driven.execute_script("document.getElementById('time').value = 'earlier'")
    _upload(driven, earlier)
    driven.execute_script("document.getElementById('time').value = 'now'")
    driven.find_element("id", "files").send_keys(str(both))
    _until(driven, lambda page: page.find_elements("css selector", "#patients tbody tr"))
    driven.get(driven.find_element("css selector", "#patients tbody th a").get_attribute("href"))
    _until(driven, lambda page: page.execute_script("return document.body.dataset.ready"))
    assert len(driven.find_elements("tag name", "canvas")) == 4
    assert driven.execute_script("return document.documentElement.scrollWidth") <= width
    scrolling = (
        "return [...document.querySelectorAll('body *')].filter((each) => each.scrollHeight > each.clientHeight"
        " && ['auto', 'scroll'].includes(getComputedStyle(each).overflowY)).map((each) => each.className)"
    )
    assert driven.execute_script(scrolling) == []
    box = "const box = document.getElementById(arguments[0]).getBoundingClientRect(); return [box.top, box.bottom]"
    if width == 1400:
        top, bottom = driven.execute_script(box, "views")
        assert 500 < bottom - top <= height
    else:
        top, bottom = driven.execute_script(box, "controls")
        assert height / 2 < top < bottom <= height
