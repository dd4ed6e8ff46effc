"""Augmentation: exact statistics of thinning, geometry against closed forms, mask with image."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from ml_collections import ConfigDict

from configs.msanet import get_config
from data_pipeline.augment import augment_contrast, augment_counts, geometry, thin, warp

SIDE = 33


def _transform(**changes: float) -> tf.Tensor:
    values = {"mirror": 1.0, "angle": 0.0, "zoom": 1.0, "shift": (0.0, 0.0)} | changes
    return geometry(
        tf.constant(float(SIDE)),
        mirror=tf.constant(values["mirror"]),
        angle=tf.constant(values["angle"]),
        zoom=tf.constant(values["zoom"]),
        shift=tf.constant(values["shift"]),
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
    ],
)
def test_geometry_moves_a_blob_as_computed(changes: dict, expected: tuple[float, float]) -> None:
    moved = warp(tf.constant(_blob(10, 20)), _transform(**changes)).numpy()
    assert _centroid(moved) == pytest.approx(expected, abs=0.05)


def test_thinning_is_binomial() -> None:
    counts = np.full((300, 300), 40, np.int32)
    kept = thin(counts, 0.3, np.array([1, 2]))
    assert kept.mean() == pytest.approx(12.0, rel=0.01)
    assert kept.var() == pytest.approx(40 * 0.3 * 0.7, rel=0.03)
    assert kept.max() <= 40
    np.testing.assert_array_equal(kept, thin(counts, 0.3, np.array([1, 2])))
    assert not np.array_equal(kept, thin(counts, 0.3, np.array([1, 3])))


def test_thinned_poisson_is_poisson() -> None:
    counts = np.random.default_rng(0).poisson(50.0, (300, 300))
    kept = thin(counts, 0.5, np.array([5, 6]))
    assert kept.var() / kept.mean() == pytest.approx(1.0, abs=0.03)


def _off() -> ConfigDict:
    augment = get_config().augment
    for key in ("mirror_probability", "rotation_deg", "translation_fraction", "scale_fraction", "contrast_fraction"):
        augment[key] = 0.0
    augment.kept_counts_min = 1.0
    return augment


def test_nothing_switched_on_changes_nothing() -> None:
    counts = np.random.default_rng(0).poisson(20.0, (SIDE, SIDE)).astype(np.int32)
    mask = (counts > 25).astype(np.float32)
    image, truth = augment_counts(tf.constant(counts), tf.constant(mask), tf.constant([1, 2]), _off())
    np.testing.assert_allclose(image, counts, atol=1e-4)
    np.testing.assert_array_equal(truth, mask)
    np.testing.assert_allclose(augment_contrast(image, tf.constant([1, 2]), _off()), counts, rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_mask_moves_with_the_image(seed: int) -> None:
    augment = get_config().augment
    augment.kept_counts_min = 1.0
    mask = np.zeros((SIDE, SIDE), np.float32)
    mask[12:20, 8:15] = 1.0
    image, truth = augment_counts(
        tf.constant((100 * mask).astype(np.int32)), tf.constant(mask), tf.constant([seed, 9]), augment
    )
    np.testing.assert_array_equal(truth, (image.numpy() >= 50.0).astype(np.float32))
    assert set(np.unique(truth)) == {0.0, 1.0}


def test_same_eagerly_and_inside_tf_data() -> None:
    augment = get_config().augment
    counts = np.random.default_rng(0).poisson(20.0, (SIDE, SIDE)).astype(np.int32)
    mask = (counts > 25).astype(np.float32)
    eager = augment_counts(tf.constant(counts), tf.constant(mask), tf.constant([3, 4]), augment)
    mapped = tf.data.Dataset.from_tensors((counts, mask)).map(
        lambda c, m: augment_counts(c, m, tf.constant([3, 4]), augment)
    )
    for a, b in zip(eager, next(iter(mapped)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_contrast_keeps_air_and_body_level() -> None:
    augment = get_config().augment
    x = tf.constant([0.0, 1.0, 2.0])
    changed = augment_contrast(x, tf.constant([1, 2]), augment).numpy()
    assert changed[0] == 0.0
    assert changed[1] == 1.0
    assert changed[2] != 2.0
    assert 2.0 ** (1 - augment.contrast_fraction) <= changed[2] <= 2.0 ** (1 + augment.contrast_fraction)
