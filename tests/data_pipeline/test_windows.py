"""Rectangles on a scan: cut out, laid back, and put on another grid."""

from __future__ import annotations

import numpy as np
import pytest

from data_pipeline.windows import ThoraxBox, Window, area_weights, crop, cut, paste


@pytest.mark.parametrize(
    "window",
    [
        Window(2, 1, 4, 4),
        Window(-3, -2, 12, 12),
        Window(5, -2, 6, 3),
        Window(-1, 4, 3, 9),
        Window(50, 50, 3, 3),
        Window(-9, -9, 3, 4),
    ],
)
def test_cut_and_paste_are_inverse_in_the_overlap(window: Window) -> None:
    image = np.arange(1, 71, dtype=np.int32).reshape(10, 7)
    patch = cut(image, window)
    assert patch.shape == (window.rows, window.columns)
    assert patch.dtype == image.dtype
    for row, column in np.ndindex(patch.shape):
        place = (window.row + row, window.column + column)
        within = 0 <= place[0] < 10 and 0 <= place[1] < 7
        assert patch[row, column] == (image[place] if within else 0)
    back = paste(patch, window, (10, 7))
    rows, columns = np.indices(image.shape)
    inside = (rows >= window.row) & (rows < window.row + window.rows) & (columns >= window.column)
    inside &= columns < window.column + window.columns
    np.testing.assert_array_equal(back, np.where(inside, image, 0))
    np.testing.assert_array_equal(cut(back, window), patch)


def test_a_box_is_a_square_window() -> None:
    image = np.arange(70).reshape(10, 7)
    np.testing.assert_array_equal(crop(image, ThoraxBox(-2, 3, 5)), cut(image, Window(-2, 3, 5, 5)))


def test_resampling_keeps_counts() -> None:
    counts = np.random.default_rng(0).poisson(20, (145, 145))
    weights = area_weights(145, 256)
    np.testing.assert_allclose(weights.sum(axis=0), 1.0)
    assert (weights @ counts @ weights.T).sum() == pytest.approx(counts.sum(), rel=1e-12)
    # Halving sums pairs; doubling spreads each over two; three onto two share the middle one equally.
    np.testing.assert_allclose(area_weights(4, 2), [[1, 1, 0, 0], [0, 0, 1, 1]])
    np.testing.assert_allclose(area_weights(2, 4), [[0.5, 0], [0.5, 0], [0, 0.5], [0, 0.5]])
    np.testing.assert_allclose(area_weights(3, 2), [[1, 0.5, 0], [0, 0.5, 1]])
