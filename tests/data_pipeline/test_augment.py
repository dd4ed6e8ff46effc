"""Augmentation: exact statistics of thinning, geometry against closed forms, mask with image."""

from __future__ import annotations

from collections.abc import Callable

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


ROWS, COLUMNS = 60, 40
"""Unlike each other: a shift scaled by the wrong side shows."""


def _recipe(**changes: float) -> ConfigDict:
    augment = _off()
    augment.update(changes)
    return augment


Augmented = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def _compiled(augment: ConfigDict) -> Augmented:
    return tf.function(lambda counts, mask, seed: augment_counts(counts, mask, seed, augment))


def _seed(number: int) -> tf.Tensor:
    return tf.constant([number, 11])


def _input_of(augmented: Augmented, number: int) -> np.ndarray:
    """`[2, 3]` affine map from output (column, row, 1) to input (column, row), read off two ramps."""
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    middle = slice(ROWS // 2 - 5, ROWS // 2 + 5), slice(COLUMNS // 2 - 5, COLUMNS // 2 + 5)
    outputs = np.stack([columns[middle].ravel(), rows[middle].ravel(), np.ones(100)], axis=1)
    found = []
    for ramp in (columns, rows):
        mask = tf.zeros((ROWS, COLUMNS))
        moved, _ = augmented(tf.constant(1000 * ramp, tf.int32), mask, _seed(number))
        inputs = moved.numpy()[middle].ravel() / 1000.0
        solved, residue, *_ = np.linalg.lstsq(outputs, inputs, rcond=None)
        assert residue < 1e-3
        found.append(solved)
    return np.array(found)


def _drawn(augmented: Augmented, number: int) -> tuple[float, float, float, float, float]:
    """Mirror (-1 or 1), angle in degrees, zoom, shift right and shift down of one augmentation."""
    matrix, offset = np.split(_input_of(augmented, number), [2], axis=1)
    mirror = np.sign(np.linalg.det(matrix))
    zoom = 1.0 / np.sqrt(abs(np.linalg.det(matrix)))
    angle = np.rad2deg(np.arctan2(matrix[1, 0], matrix[1, 1]))
    centre = np.array([[(COLUMNS - 1) / 2], [(ROWS - 1) / 2]])
    right, down = (-centre - np.linalg.solve(matrix, offset - centre)).ravel()
    return float(mirror), float(angle), float(zoom), float(right), float(down)


def test_every_parameter_is_drawn_by_itself_over_its_range() -> None:
    """160 augmentations taken apart: uniform over the recipe's ranges, and none tells of another."""
    moved = _compiled(_recipe(mirror_probability=0.3, rotation_deg=8.0, scale_fraction=0.2, translation_fraction=0.05))
    thinned, steeper = _compiled(_recipe(kept_counts_min=0.4)), _recipe(contrast_fraction=0.3)
    flat = tf.fill((100, 100), 1000)
    draws = []
    for number in range(160):
        kept = float(tf.reduce_mean(thinned(flat, tf.zeros((100, 100)), _seed(number))[0])) / 1000
        exponent = float(np.log2(augment_contrast(tf.constant(2.0), _seed(number), steeper)))
        draws.append((*_drawn(moved, number), kept, exponent))
    found = np.array(draws)
    assert (found[:, 0] < 0).mean() == pytest.approx(0.3, abs=0.08)
    ends = [(-8.0, 8.0), (0.8, 1.2), (-2.0, 2.0), (-2.0, 2.0), (0.4, 1.0), (0.7, 1.3)]  # pixels: 5 % of 40 columns
    for values, (low, high) in zip(found[:, 1:].T, ends, strict=True):
        share = (values - low) / (high - low)
        assert -0.01 <= share.min() < 0.04 and 0.96 < share.max() <= 1.01
        assert share.mean() == pytest.approx(0.5, abs=0.05)
        assert share.std() == pytest.approx(1 / np.sqrt(12), abs=0.03)
    correlations = np.corrcoef(found.T) - np.eye(7)
    assert np.abs(correlations).max() < 0.25  # 1 / sqrt(160) = 0.08 is one standard deviation of chance


def test_an_augmentation_thins_before_it_moves() -> None:
    """Whole counts of a binomial with the drawn share: variance 40 p (1 - p) around the mean 40 p."""
    counts = tf.fill((200, 200), 40)
    seen = []
    for number in range(4):
        kept = augment_counts(counts, tf.zeros((200, 200)), _seed(number), _recipe(kept_counts_min=0.2))[0].numpy()
        share = kept.mean() / 40
        assert 0.2 < share < 1.0
        assert kept.var() == pytest.approx(40 * share * (1 - share), rel=0.05)
        np.testing.assert_array_equal(kept, np.rint(kept))
        seen.append(share)
    assert np.ptp(seen) > 0.1
    everything = augment_counts(counts, tf.zeros((200, 200)), _seed(0), _recipe(kept_counts_min=1.0))[0]
    np.testing.assert_array_equal(everything, counts)


def test_a_pixel_that_is_half_lesion_is_lesion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a pixel to the right: a column of lesion becomes two of one half each."""
    draws = tf.constant([0.0, 0.9, 0.5, 0.5, 1.0, 0.5])
    monkeypatch.setattr(tf.random, "stateless_uniform", lambda shape, seed: draws)
    mask = np.zeros((ROWS, COLUMNS), np.float32)
    mask[:, 20] = 1.0
    counts = tf.constant(100 * mask, tf.int32)
    moved, truth = augment_counts(counts, tf.constant(mask), _seed(0), _recipe(translation_fraction=0.5 / COLUMNS))
    assert moved[30, 18:24].numpy().tolist() == [0.0, 0.0, 50.0, 50.0, 0.0, 0.0]
    assert truth[30, 18:24].numpy().tolist() == [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]


def test_mirroring_is_exact_and_as_often_as_asked() -> None:
    counts = np.random.default_rng(0).poisson(20.0, (ROWS, COLUMNS)).astype(np.int32)
    for probability, expected in ((1.0, counts[:, ::-1]), (0.0, counts)):
        augment = _recipe(mirror_probability=probability)
        image, truth = augment_counts(tf.constant(counts), tf.constant(counts > 25, tf.float32), _seed(3), augment)
        np.testing.assert_allclose(image, expected, atol=1e-3)
        np.testing.assert_array_equal(truth, expected > 25)


def test_outside_of_the_image_nothing_was_counted() -> None:
    image = warp(tf.ones((SIDE, SIDE, 1)), _transform(shift=(5.0, 0.0))).numpy()[..., 0]
    np.testing.assert_array_equal(image[:, :5], 0.0)
    np.testing.assert_array_equal(image[:, 5:], 1.0)


def test_contrast_is_a_power() -> None:
    x = tf.constant([-1.0, 0.0, 0.5, 1.0, 2.0, 4.0])
    changed = augment_contrast(x, _seed(5), _recipe(contrast_fraction=0.4)).numpy()
    exponent = np.log2(changed[4])
    assert 0.6 <= exponent <= 1.4 and abs(exponent - 1.0) > 0.01
    np.testing.assert_allclose(changed, [0.0, 0.0, 0.5**exponent, 1.0, 2.0**exponent, 4.0**exponent], rtol=1e-5)
