"""Contour distances by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from msanet_jax.evaluation.contours import contour, surface_scores


def _square(row: int, column: int, side: int = 4, image: int = 20) -> np.ndarray:
    mask = np.zeros((image, image), bool)
    mask[row : row + side, column : column + side] = True
    return mask


def test_contour() -> None:
    edge = contour(_square(5, 5))
    assert edge.sum() == 12  # 4 x 4 without its 2 x 2 core
    assert contour(np.ones((4, 5), bool)).sum() == 14  # the image's border is a border of the mask


def test_shifted_square_by_hand() -> None:
    """Three columns of 2 mm: the left side's four pixels lie 3 pixels from the other contour, top and bottom less."""
    scores = surface_scores(_square(5, 5), _square(5, 8), pixel_size_mm=(1.0, 2.0), tolerance_mm=2.0)
    # Distances of the 12 contour pixels in mm: column 0: 6, 6, 6, 6 (rows matter less); columns 1, 2: 4, 4, 2, 2;
    # column 3 lies on the other contour's first column: 0, 0, 0, 0. Both directions are alike.
    assert scores.hd95_mm == pytest.approx(6.0)
    assert scores.nsd == pytest.approx(6 / 12)


def test_identical_masks() -> None:
    scores = surface_scores(_square(0, 0), _square(0, 0), pixel_size_mm=(2.0, 2.0), tolerance_mm=0.0)
    assert scores.hd95_mm == 0.0
    assert scores.nsd == 1.0


def test_one_pixel_each() -> None:
    """3 and 4 pixels of 1 mm apart: 5 mm."""
    scores = surface_scores(_square(2, 2, 1), _square(5, 6, 1), pixel_size_mm=(1.0, 1.0), tolerance_mm=5.0)
    assert scores.hd95_mm == pytest.approx(5.0)
    assert scores.nsd == 1.0
    strict = surface_scores(_square(2, 2, 1), _square(5, 6, 1), pixel_size_mm=(1.0, 1.0), tolerance_mm=4.9)
    assert strict.nsd == 0.0


def test_empty_masks() -> None:
    empty, full = np.zeros((8, 8), bool), np.ones((8, 8), bool)
    for truth, prediction, nsd in ((empty, empty, math.nan), (full, empty, 0.0), (empty, full, 0.0)):
        scores = surface_scores(truth, prediction, pixel_size_mm=(2.0, 2.0), tolerance_mm=4.0)
        assert math.isnan(scores.hd95_mm)
        assert scores.nsd == pytest.approx(nsd, nan_ok=True)


def _line_and_its_end() -> tuple[np.ndarray, np.ndarray]:
    """21 pixels in a row, and the first of them."""
    line, end = np.zeros((5, 30), bool), np.zeros((5, 30), bool)
    line[2, 4:25] = True
    end[2, 4] = True
    return line, end


@pytest.mark.parametrize("flipped", [False, True])
def test_percentile_is_the_95th_of_the_worse_direction(flipped: bool) -> None:
    """The line's pixels lie 0, 2, ... 40 mm from its end, whose own pixel lies at 0: 38 mm, whoever is the truth."""
    masks = _line_and_its_end()[:: -1 if flipped else 1]
    scores = surface_scores(*masks, pixel_size_mm=(1.0, 2.0), tolerance_mm=10.0)
    assert scores.hd95_mm == pytest.approx(38.0)
    # 0 to 10 mm are six pixels of the line, 10 mm itself agrees, and the end's own pixel is the seventh of 22.
    assert scores.nsd == pytest.approx(7 / 22)


def test_contour_takes_four_neighbours() -> None:
    """The middle of a diamond with its corners cut touches the outside diagonally only."""
    plus = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
    assert contour(np.pad(plus, 1)).sum() == 4
