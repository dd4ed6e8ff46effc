"""Geometry against closed forms and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import map_coordinates

from data_pipeline.augmentation.warping import geometry, warp, warp_elastically

SIDE = 33


def _transform(side: float | tuple[int, int] = SIDE, **changes: float | tuple[float, float]) -> tf.Tensor:
    values = {"mirror": 1.0, "angle": 0.0, "zoom": 1.0, "shift": (0.0, 0.0), "stretch": 1.0} | changes
    return geometry(
        tf.constant(side, tf.float32), **{key: tf.constant(value, tf.float32) for key, value in values.items()}
    )


def _blob(row: int, column: int) -> np.ndarray:
    image = np.zeros((SIDE, SIDE, 1), np.float32)
    image[row - 1 : row + 2, column - 1 : column + 2] = 1.0
    return image


def _centroid(image: np.ndarray) -> tuple[float, float]:
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    weight = image[..., 0]
    return float((rows * weight).sum() / weight.sum()), float((columns * weight).sum() / weight.sum())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (10.0, 20.0)),
        ({"mirror": -1.0}, (10.0, 12.0)),
        ({"shift": (3.0, -2.0)}, (8.0, 23.0)),
        ({"zoom": 1.5}, (7.0, 22.0)),
        # Counter-clockwise by 90 degrees: what is right of the centre goes above it.
        ({"angle": np.pi / 2}, (12.0, 10.0)),
        # Rows by 4 / 3 and columns by 3 / 4: 6 above and 4 right of the centre become 8 and 3.
        ({"stretch": 4 / 3}, (8.0, 19.0)),
        # The body is stretched along itself, then turned.
        ({"stretch": 4 / 3, "angle": np.pi / 2}, (13.0, 8.0)),
    ],
)
def test_geometry_moves_a_blob_as_computed(changes: dict, expected: tuple[float, float]) -> None:
    moved = warp(tf.constant(_blob(10, 20)), _transform(**changes)).numpy()
    assert _centroid(moved) == pytest.approx(expected, abs=0.05)


def test_outside_of_the_image_nothing_was_counted() -> None:
    image = warp(tf.ones((SIDE, SIDE, 1)), _transform(shift=(5.0, 0.0))).numpy()[..., 0]
    np.testing.assert_array_equal(image[:, :5], 0.0)
    np.testing.assert_array_equal(image[:, 5:], 1.0)


def test_a_constant_displacement_is_a_shift() -> None:
    """Read 2 pixels further down and 3 further left: all moves up and right."""
    image = np.random.default_rng(0).uniform(size=(20, 30, 2)).astype(np.float32)
    displacement = tf.constant([2.0, -3.0]) * tf.ones((20, 30, 1))
    moved = warp_elastically(tf.constant(image), _transform((20, 30)), displacement).numpy()
    np.testing.assert_allclose(moved[:-2, 3:], image[2:, :-3], atol=1e-5)
    np.testing.assert_array_equal(moved[-2:], 0.0)
    np.testing.assert_array_equal(moved[:, :3], 0.0)


def test_no_displacement_is_the_projective_warp() -> None:
    image = tf.constant(np.random.default_rng(0).uniform(size=(40, 25, 2)).astype(np.float32))
    transform = _transform((40, 25), mirror=-1.0, angle=0.4, zoom=0.8, shift=(2.3, -4.1), stretch=1.1)
    moved = warp_elastically(image, transform, tf.zeros((40, 25, 2)))
    np.testing.assert_allclose(moved, warp(image, transform), atol=1e-4)


def test_displacements_are_those_of_scipy() -> None:
    random = np.random.default_rng(1)
    image = random.uniform(size=(24, 31, 1)).astype(np.float32)
    displacement = random.uniform(-40.0, 40.0, (24, 31, 2)).astype(np.float32)
    moved = warp_elastically(tf.constant(image), _transform((24, 31)), tf.constant(displacement)).numpy()
    places = np.mgrid[:24, :31] + np.moveaxis(displacement, -1, 0)
    expected = map_coordinates(image[..., 0], places, order=1, mode="grid-constant", cval=0.0)
    np.testing.assert_allclose(moved[..., 0], expected, atol=1e-4)
