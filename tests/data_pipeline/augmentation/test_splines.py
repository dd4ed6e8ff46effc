"""Smooth fields: SciPy's splines, lines reproduced, bounds and variance in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy.interpolate import BSpline

from data_pipeline.augmentation.splines import smooth_field, spline_basis

SEED = tf.constant([3, 4])


def _basis(pixels: int, knot_px: float, offset: float) -> np.ndarray:
    return spline_basis(tf.constant(pixels), tf.constant(knot_px), tf.constant(offset)).numpy()


@pytest.mark.parametrize(("pixels", "knot_px", "offset"), [(41, 7.0, 0.0), (33, 4.5, 0.3), (20, 90.0, 0.99)])
def test_basis_is_that_of_scipy_and_reproduces_lines(pixels: int, knot_px: float, offset: float) -> None:
    basis = _basis(pixels, knot_px, offset)
    position = np.arange(pixels) / knot_px + offset
    for number, column in enumerate(basis.T):
        knots = number - 1.0 + np.arange(-2.0, 3.0)
        expected = np.nan_to_num(BSpline.basis_element(knots, extrapolate=False)(position))
        np.testing.assert_allclose(column, expected, atol=1e-5)
    np.testing.assert_allclose(basis.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(basis @ (np.arange(basis.shape[1]) - 1.0), position, atol=2e-5)


def test_fields_are_bounded_uniform_sums() -> None:
    """Variance 1/3 of a coefficient, times the mean square of a cubic B-spline, 151/315, along both axes."""
    fields = smooth_field(tf.constant([900, 1000]), tf.constant([10.0, 8.0]), 2, SEED).numpy()
    assert fields.shape == (900, 1000, 2)
    assert np.abs(fields).max() <= 1.0
    np.testing.assert_allclose(fields.mean(axis=(0, 1)), 0.0, atol=0.02)
    np.testing.assert_allclose(fields.var(axis=(0, 1)), (151 / 315) ** 2 / 3, rtol=0.05)
    assert abs(np.corrcoef(fields[..., 0].ravel(), fields[..., 1].ravel())[0, 1]) < 0.05
    # The slope between knots is at most 2 a knot distance.
    assert np.abs(np.diff(fields, axis=0)).max() <= 2 / 10
    assert 2 / 10 < np.abs(np.diff(fields, axis=1)).max() * 2 <= 4 / 8


def test_a_field_follows_its_seed_and_its_knots_move() -> None:
    one, again, other = (
        smooth_field(tf.constant([40, 40]), tf.constant([10.0, 10.0]), 1, seed).numpy()
        for seed in (SEED, SEED, SEED + 2)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    # A cubic spline's third derivative jumps at its knots: of knots at fixed places there would be one.
    knots = []
    for number in range(12):
        row = smooth_field(tf.constant([200, 1]), tf.constant([20.0, 20.0]), 1, tf.constant([number, 0])).numpy()
        knots.append(int(np.abs(np.diff(row[:, 0, 0].astype(float), 4)).argmax()) % 20)
    assert len(set(knots)) >= 6
    fields = [
        smooth_field(tf.constant([1, 1]), tf.constant([10.0, 10.0]), 1, tf.constant([number, 0])).numpy().item()
        for number in range(600)
    ]
    assert np.var(fields) == pytest.approx((151 / 315) ** 2 / 3, rel=0.15)
