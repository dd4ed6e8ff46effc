"""The simulator against the one real scan: every figure of docs/phantom/validation.md within its band."""

from __future__ import annotations

import numpy as np
import pytest

from data_pipeline.phantom.validation import page
from data_pipeline.phantom.validation.regions import REAL_ROWS, Person
from data_pipeline.readers.example import packaged_scan
from data_pipeline.readers.formats.dicom import read_dicom

PEOPLE = 6
"""Fewer than on the page, which takes 16: the median moves by less than the bands' width."""


@pytest.fixture(scope="module")
def real() -> np.ndarray:
    return read_dicom(packaged_scan())[0].counts


@pytest.fixture(scope="module")
def people() -> list[Person]:
    return [Person(index) for index in range(PEOPLE)]


def test_real_scan_is_the_one_that_was_measured(real: np.ndarray) -> None:
    assert real.sum() == 3_596_452
    shares = page._shares(real, REAL_ROWS)
    assert [round(100 * shares[part]) for part in ("head", "trunk and arms", "legs")] == [8, 64, 28]


def test_every_figure_lies_within_its_band(real: np.ndarray, people: list[Person]) -> None:
    rows = page.figures(real, people)
    assert len(rows) == 19
    assert [row.figure for row in rows if not row.within] == []


def test_a_scan_of_another_kind_is_outside(real: np.ndarray, people: list[Person]) -> None:
    """Three times the counts in the legs: their bands are missed, so the verdicts do say something."""
    changed = real.copy()
    changed[REAL_ROWS["ischium"] :] *= 3
    missed = {row.figure for row in page.figures(changed, people) if not row.within}
    assert {"share of counts, legs", "manubrium / thigh", "sternum body / thigh"} <= missed


def test_page_has_every_figure_and_the_remaining_differences(real: np.ndarray, people: list[Person]) -> None:
    text = page.page(page.figures(real, people))
    assert text.count("| yes |") == 19
    assert "not clinically validated" in text
    differences = text.partition("## Where simulated and real still differ to the eye\n\n")[2].splitlines()
    assert len(differences) == 7
    assert all(line.startswith("- ") and line.endswith(".") for line in differences)
