"""Augmentation: every parameter over its range and by itself, mask with image, off means off."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from ml_collections import ConfigDict

from configs.msanet import get_config
from data_pipeline.augmentation.augment import augment_contrast, augment_counts

SIDE = 33
PIXEL_MM = (2.0, 2.5)


def _off() -> ConfigDict:
    augment = get_config().augment
    for key in augment:
        augment[key] = 0.0
    augment.kept_counts_min = 1.0
    return augment


def test_nothing_switched_on_changes_nothing() -> None:
    counts = np.random.default_rng(0).poisson(20.0, (SIDE, SIDE)).astype(np.int32)
    mask = (counts > 25).astype(np.float32)
    image, truth = augment_counts(tf.constant(counts), tf.constant(mask), tf.constant([1, 2]), _off(), PIXEL_MM)
    np.testing.assert_allclose(image, counts, atol=1e-4)
    np.testing.assert_array_equal(truth, mask)
    np.testing.assert_allclose(augment_contrast(image, tf.constant([1, 2]), _off()), counts, rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_mask_moves_with_the_image(seed: int) -> None:
    augment = get_config().augment
    augment.update({"kept_counts_min": 1.0, "uptake_log": 0.0, "blur_mm": 0.0, "haze_fraction": 0.0})
    mask = np.zeros((SIDE, SIDE), np.float32)
    mask[12:20, 8:15] = 1.0
    image, truth = augment_counts(
        tf.constant((100 * mask).astype(np.int32)), tf.constant(mask), tf.constant([seed, 9]), augment, PIXEL_MM
    )
    np.testing.assert_array_equal(truth, (image.numpy() >= 50.0).astype(np.float32))
    assert set(np.unique(truth)) == {0.0, 1.0}


def test_same_eagerly_and_inside_tf_data() -> None:
    augment = get_config().augment
    counts = np.random.default_rng(0).poisson(20.0, (SIDE, SIDE)).astype(np.int32)
    mask = (counts > 25).astype(np.float32)
    eager = augment_counts(tf.constant(counts), tf.constant(mask), tf.constant([3, 4]), augment, PIXEL_MM)
    mapped = tf.data.Dataset.from_tensors((counts, mask)).map(
        lambda c, m: augment_counts(c, m, tf.constant([3, 4]), augment, PIXEL_MM)
    )
    compiled = next(iter(mapped))
    np.testing.assert_allclose(eager[0], compiled[0], atol=1e-2)  # fused operations round otherwise
    np.testing.assert_array_equal(eager[1], compiled[1])


def test_contrast_keeps_air_and_body_level() -> None:
    augment = get_config().augment
    augment.gain_fraction = 0.0
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
    return tf.function(lambda counts, mask, seed: augment_counts(counts, mask, seed, augment, PIXEL_MM))


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
        kept = augment_counts(counts, tf.zeros((200, 200)), _seed(number), _recipe(kept_counts_min=0.2), PIXEL_MM)[
            0
        ].numpy()
        share = kept.mean() / 40
        assert 0.2 < share < 1.0
        assert kept.var() == pytest.approx(40 * share * (1 - share), rel=0.05)
        np.testing.assert_array_equal(kept, np.rint(kept))
        seen.append(share)
    assert np.ptp(seen) > 0.1
    everything = augment_counts(counts, tf.zeros((200, 200)), _seed(0), _recipe(kept_counts_min=1.0), PIXEL_MM)[0]
    np.testing.assert_array_equal(everything, counts)


def test_a_pixel_that_is_half_lesion_is_lesion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a pixel to the right: a column of lesion becomes two of one half each."""
    draws = tf.constant([0.0, 0.9, 0.5, 0.5, 1.0, 0.5])
    monkeypatch.setattr(tf.random, "stateless_uniform", lambda shape, seed: draws)
    mask = np.zeros((ROWS, COLUMNS), np.float32)
    mask[:, 20] = 1.0
    counts = tf.constant(100 * mask, tf.int32)
    moved, truth = augment_counts(
        counts, tf.constant(mask), _seed(0), _recipe(translation_fraction=0.5 / COLUMNS), PIXEL_MM
    )
    assert moved[30, 18:24].numpy().tolist() == [0.0, 0.0, 50.0, 50.0, 0.0, 0.0]
    assert truth[30, 18:24].numpy().tolist() == [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]


def test_mirroring_is_exact_and_as_often_as_asked() -> None:
    counts = np.random.default_rng(0).poisson(20.0, (ROWS, COLUMNS)).astype(np.int32)
    for probability, expected in ((1.0, counts[:, ::-1]), (0.0, counts)):
        augment = _recipe(mirror_probability=probability)
        image, truth = augment_counts(
            tf.constant(counts), tf.constant(counts > 25, tf.float32), _seed(3), augment, PIXEL_MM
        )
        np.testing.assert_allclose(image, expected, atol=1e-3)
        np.testing.assert_array_equal(truth, expected > 25)


def test_contrast_is_a_power() -> None:
    x = tf.constant([-1.0, 0.0, 0.5, 1.0, 2.0, 4.0])
    changed = augment_contrast(x, _seed(5), _recipe(contrast_fraction=0.4)).numpy()
    exponent = np.log2(changed[4])
    assert 0.6 <= exponent <= 1.4 and abs(exponent - 1.0) > 0.01
    np.testing.assert_allclose(changed, [0.0, 0.0, 0.5**exponent, 1.0, 2.0**exponent, 4.0**exponent], rtol=1e-5)


def _parts(number: int, counts: np.ndarray, **changes: float) -> np.ndarray:
    """Counts after one augmentation with those changes only."""
    image, _ = augment_counts(
        tf.constant(counts, tf.int32), tf.zeros(counts.shape), _seed(number), _recipe(**changes), PIXEL_MM
    )
    return image.numpy()


def _blocks(image: np.ndarray) -> np.ndarray:
    """Means of 10 x 10 pixels."""
    return image.reshape(image.shape[0] // 10, 10, image.shape[1] // 10, 10).mean(axis=(1, 3))


def test_acquisition_is_drawn_over_its_range_and_each_part_by_itself() -> None:
    """50 augmentations: log range of the uptake, blur and haze of a point, stretch and gain."""
    flat, point = np.full((ROWS, COLUMNS), 30), np.zeros((61, 61), int)
    point[30, 30] = 20_000
    rows = np.arange(61) - 30.0
    stretched = _compiled(_recipe(stretch_fraction=0.2))
    draws = []
    for number in range(50):
        uptake = np.log(_blocks(_parts(number, flat, uptake_log=0.8)))
        blurred = _parts(number, point, blur_mm=6.0).sum(axis=1) / 20_000
        hazy = _parts(number, point, haze_fraction=0.6)[30, 30] / 20_000
        matrix = _input_of(stretched, number)[:, :2]
        gain = float(augment_contrast(tf.constant(1.0), _seed(number), _recipe(gain_fraction=0.3)))
        variance = (rows**2 * blurred).sum()
        draws.append((np.ptp(uptake), np.sqrt(max(variance - 1 / 12, 0.0)) * PIXEL_MM[0], 1 - hazy, matrix[0, 0], gain))
    found = np.array(draws)
    assert found[:, 0].min() < 0.15 < 0.4 < found[:, 0].max() < 1.6  # +-0.8 at most
    ends = [(0.0, 6.0), (0.0, 0.6), (0.8, 1.2), (0.7, 1.3)]
    for values, (low, high) in zip(found[:, 1:].T, ends, strict=True):
        share = (values - low) / (high - low)
        assert -0.01 <= share.min() < 0.1 and 0.9 < share.max() <= 1.05
        assert share.mean() == pytest.approx(0.5, abs=0.13)
    assert np.abs(np.corrcoef(found.T) - np.eye(5)).max() < 0.45  # 1 / sqrt(50) = 0.14 is one standard deviation


def test_stretching_rows_narrows_columns() -> None:
    matrix = _input_of(_compiled(_recipe(stretch_fraction=0.2)), 3)[:, :2]
    assert abs(matrix[0, 0] - 1.0) > 0.02
    np.testing.assert_allclose(matrix, [[matrix[0, 0], 0.0], [0.0, 1.0 / matrix[0, 0]]], atol=1e-3)


def test_uptake_changes_by_thinning() -> None:
    """Where it is highest everything is kept; elsewhere whole counts are left out, smoothly over the body."""
    image = _parts(2, np.full((120, 120), 30), uptake_log=2.0)
    np.testing.assert_allclose(image, np.rint(image), atol=1e-3)
    blocks = _blocks(image) / 30
    assert 0.9 < blocks.max() <= 1.0
    assert blocks.min() < 0.8
    assert (blocks > 0.99).mean() < 0.05  # the highest alone
    assert np.abs(np.diff(blocks, axis=0)).max() < 0.5


def test_a_disc_bends_with_its_mask() -> None:
    """Of a disc of 40 mm no edge moves by more than 12 mm, the centre moves, and the mask is where the counts are."""
    rows, columns = np.mgrid[:120, :120]
    away = np.hypot((rows - 60) * 2.0, (columns - 60) * 2.5)
    disc = (away < 40.0).astype(np.float32)
    moved_by = []
    for number in range(6):
        image, truth = augment_counts(
            tf.constant(100 * disc, tf.int32), tf.constant(disc), _seed(number), _recipe(elastic_mm=12.0), PIXEL_MM
        )
        np.testing.assert_array_equal(truth, image.numpy() >= 50.0)
        inside = truth.numpy() > 0
        reach = 12.0 * np.sqrt(2) + 2.5
        assert inside[away < 40.0 - reach].all() and not inside[away > 40.0 + reach].any()
        assert 0.6 < inside.sum() / disc.sum() < 1.6
        moved_by.append(((rows - 60)[inside].mean() * 2.0, (columns - 60)[inside].mean() * 2.5))
    down, right = np.array(moved_by).T
    assert np.ptp(down) > 2.0 and np.ptp(right) > 2.0
    assert not np.allclose(down, right, atol=1.0)


def test_no_point_moves_further_than_asked() -> None:
    """Ramps tell where every pixel came from; 12 mm are 6 rows or 4.8 columns."""
    side = np.mgrid[:120, :120]
    furthest = np.zeros(2)
    for number in range(6):
        for axis, ramp in enumerate(side):
            counts = tf.constant(1000 * (ramp + 1), tf.int32)
            image, _ = augment_counts(counts, tf.zeros(ramp.shape), _seed(number), _recipe(elastic_mm=12.0), PIXEL_MM)
            moved = (image.numpy() / 1000.0 - 1.0 - ramp)[20:-20, 20:-20] * PIXEL_MM[axis]
            furthest[axis] = max(furthest[axis], np.abs(moved).max())
    assert (furthest > 5.0).all() and (furthest <= 12.0).all()


def test_binning_follows_the_warp() -> None:
    """Counts add up; half of a coarse pixel is lesion, as on the network's grid."""
    counts = np.random.default_rng(0).poisson(20.0, (24, 12)).astype(np.int32)
    mask = np.zeros((24, 12), np.float32)
    mask[0, :2] = mask[4, 4] = mask[8:10, 8:10] = 1.0
    image, truth = augment_counts(tf.constant(counts), tf.constant(mask), _seed(0), _off(), PIXEL_MM, 2)
    np.testing.assert_allclose(image, counts.reshape(12, 2, 6, 2).sum(axis=(1, 3)), rtol=1e-6)
    assert np.argwhere(truth.numpy()).tolist() == [[0, 0], [4, 4]]


def test_gain_multiplies() -> None:
    x = tf.constant([0.0, 0.5, 1.0, 2.0])
    changed = augment_contrast(x, _seed(5), _recipe(gain_fraction=0.3)).numpy()
    assert 0.7 <= changed[2] <= 1.3 and abs(changed[2] - 1.0) > 0.01
    np.testing.assert_allclose(changed, changed[2] * x.numpy(), rtol=1e-6)
