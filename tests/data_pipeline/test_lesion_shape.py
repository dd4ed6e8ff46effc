"""Lengths of lesions by closed form, on pixels that are not square."""

from __future__ import annotations

import numpy as np
import pytest

from data_pipeline.annotations.lesion_shape import LesionShape, lesion_shapes


def test_a_bar_and_a_diagonal_by_closed_form() -> None:
    """A bar of n pixels has the second moment (n p)^2 / 12; the diagonal's matrix is worked out by hand."""
    ids = np.zeros((40, 50), np.uint8)
    ids[10:12, 5:25] = 7
    ids[[30, 31, 32], [40, 41, 42]] = 2
    diagonal, bar = lesion_shapes(ids, (2.0, 3.0))
    assert (bar.id, bar.pixels, bar.centre_px, bar.means) == (7, 40, (10.5, 14.5), ())
    assert bar.length_mm == pytest.approx(4 * 20 * 3 / np.sqrt(12))
    # 2/3 [[4, 6], [6, 9]] + diag(4, 9) / 12 = [[3, 4], [4, 6.75]]: the larger eigenvalue is 9.2926.
    assert (diagonal.id, diagonal.centre_px) == (2, (31.0, 41.0))
    larger = (3 + 6.75 + np.hypot(3 - 6.75, 2 * 4)) / 2
    assert diagonal.length_mm == pytest.approx(4 * np.sqrt(larger)) == pytest.approx(12.1936, abs=1e-4)
    assert (diagonal.pixels, bar.length_mm) == (3, pytest.approx(69.28, abs=5e-3))


def test_maps_within_a_lesion() -> None:
    ids = np.array([[0, 1, 1], [0, 0, 0]])
    first, second = np.array([[9, 2, 5], [9, 9, 9]]), np.array([[0.0, 0.25, 0.5], [1, 1, 1]], np.float32)
    assert lesion_shapes(ids, (1.0, 1.0), first, second) == [
        LesionShape(1, 2, (0.0, 1.5), pytest.approx(8 / np.sqrt(12)), (3.5, 0.375), (5.0, 0.5))
    ]
    assert lesion_shapes(np.zeros((4, 4), int), (1.0, 1.0)) == []
    assert lesion_shapes(np.zeros((4, 4), int), (1.0, 1.0), np.zeros((4, 4))) == []
