"""Losses: hand-computed values, properties, and the reduction to SegAN's loss."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msanet_jax.training.losses import (
    cross_entropy_loss,
    deep_supervision_loss,
    lesion_weights,
    multi_scale_l1,
    pyramid,
    soft_dice_loss,
    supervision_weights,
)


def test_dice_by_hand() -> None:
    p, t = jnp.array([0.5, 1.0, 0.0, 0.25]), jnp.array([1.0, 1.0, 0.0, 0.0])
    assert float(soft_dice_loss(probabilities=p, masks=t)) == pytest.approx(1 - (2 * 1.5 + 1) / (1.75 + 2 + 1))


def test_dice_limits() -> None:
    ones, zeros = jnp.ones(1000), jnp.zeros(1000)
    assert float(soft_dice_loss(probabilities=ones, masks=ones)) == 0.0
    assert float(soft_dice_loss(probabilities=zeros, masks=zeros)) == 0.0
    assert float(soft_dice_loss(probabilities=ones, masks=zeros)) == pytest.approx(1 - 1 / 1001)
    with pytest.raises(ValueError, match="differ in shape"):
        soft_dice_loss(probabilities=ones, masks=jnp.zeros((10, 100)))


def test_cross_entropy_by_hand() -> None:
    logits = jnp.array([0.0, 2.0])
    masks = jnp.array([1.0, 0.25])
    p = 1 / (1 + np.exp(-2.0))
    expected = (np.log(2) - 0.25 * np.log(p) - 0.75 * np.log(1 - p)) / 2
    assert float(cross_entropy_loss(logits=logits, masks=masks)) == pytest.approx(expected, rel=1e-6)


def test_supervision_weights_decrease_and_sum_to_one() -> None:
    assert supervision_weights(3, 0.5) == pytest.approx((4 / 7, 2 / 7, 1 / 7))
    assert supervision_weights(1, 0.5) == (1.0,)


def test_deep_supervision_is_the_weighted_sum() -> None:
    key = jax.random.key(0)
    masks = (jax.random.uniform(key, (2, 8, 8, 1)) > 0.8).astype(jnp.float32)
    logits = [jax.random.normal(key, (2, 8, 8, 1)), jax.random.normal(key, (2, 4, 4, 1))]
    total, parts = deep_supervision_loss(
        logits=logits, masks=masks, weights={"dice": 2.0, "cross_entropy": 3.0}, decay=0.5
    )
    coarse = masks.reshape(2, 4, 2, 4, 2, 1).mean(axis=(2, 4))
    expected = 0.0
    for weight, level, truth in ((2 / 3, logits[0], masks), (1 / 3, logits[1], coarse)):
        dice = soft_dice_loss(probabilities=jax.nn.sigmoid(level), masks=truth)
        expected += weight * (2.0 * dice + 3.0 * cross_entropy_loss(logits=level, masks=truth))
    assert float(total) == pytest.approx(float(expected), rel=1e-6)
    assert float(parts["dice_loss"]) == pytest.approx(
        float(soft_dice_loss(probabilities=jax.nn.sigmoid(logits[0]), masks=masks))
    )


def test_pyramid_levels() -> None:
    x = jax.random.normal(jax.random.key(0), (2, 16, 16, 1))
    levels = pyramid(x, 3)
    assert levels.shape == (3, 2, 16, 16, 1)
    assert pyramid(x, 4).shape == (4, 2, 16, 16, 1)
    np.testing.assert_array_equal(levels[0], x)
    low = x.reshape(2, 4, 4, 4, 4, 1).mean(axis=(2, 4))
    np.testing.assert_allclose(
        levels[2], jax.image.resize(jax.image.resize(low, (2, 8, 8, 1), "bilinear"), x.shape, "bilinear"), atol=1e-6
    )
    # A low-pass keeps a constant, and loses variance level by level.
    np.testing.assert_allclose(pyramid(jnp.ones((1, 8, 8, 1)), 3), 1.0)
    assert float(levels[0].var()) > float(levels[1].var()) > float(levels[2].var())
    with pytest.raises(ValueError, match="pyramid levels"):
        pyramid(jnp.zeros((1, 6, 6, 1)), 3)


def test_multi_scale_l1_counts_stages_alike() -> None:
    truth = [jnp.zeros((1, 8, 8, 2)), jnp.zeros((1, 2, 2, 4))]
    prediction = [jnp.full((1, 8, 8, 2), 0.5), jnp.full((1, 2, 2, 4), -2.0)]
    assert float(multi_scale_l1(truth, prediction)) == pytest.approx((0.5 + 2.0) / 2)
    assert float(multi_scale_l1(truth, truth)) == 0.0


def test_one_level_is_segans_loss() -> None:
    """Mean over stages of the mean absolute feature difference, written out without pyramid or vmap."""
    weights = jax.random.normal(jax.random.key(0), (1, 1, 2, 3))

    def features(image: jax.Array, mask: jax.Array) -> tuple[jax.Array, ...]:
        first = jnp.concatenate([image, mask], axis=-1) @ weights[0, 0]
        return first, jnp.tanh(first).sum(axis=(1, 2))

    image, truth, prediction = jax.random.uniform(jax.random.key(1), (3, 2, 4, 4, 1))
    levels = 1
    over_levels = jax.vmap(features)
    ours = multi_scale_l1(
        over_levels(pyramid(image, levels), pyramid(truth, levels)),
        over_levels(pyramid(image, levels), pyramid(prediction, levels)),
    )
    pairs = zip(features(image, truth), features(image, prediction), strict=True)
    segan = np.mean([np.abs(np.asarray(a) - np.asarray(b)).mean() for a, b in pairs])
    assert float(ours) == pytest.approx(float(segan), rel=1e-6)


def test_equal_lesions_by_hand() -> None:
    """Lesions of 1 and of 3 pixels: weights 2 and 2/3, so that each has 2 of the 4; the background keeps 1."""
    masks = jnp.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]])
    shares = jnp.where(masks > 0, jnp.array([[1.0], [1.0], [1 / 3], [1 / 3]]), 0.0)
    pixels = lesion_weights(shares[None, ..., None])
    assert float(pixels[0, 0, 0, 0]) == 2.0 and float(pixels[0, 0, 1, 0]) == 1.0
    assert float(pixels[0, 2, 2, 0]) == pytest.approx(2 / 3)
    assert float(lesion_weights(jnp.zeros((1, 2, 2, 1))).min()) == 1.0  # no lesion at all
    truth = masks[None, ..., None]
    # The small lesion is missed, the large one found, one pixel of background marked: each counts by its weight.
    found = jnp.where(jnp.arange(4)[:, None] >= 2, masks, 0.0).at[0, 3].set(1.0)[None, ..., None]
    loss = float(soft_dice_loss(probabilities=found, masks=truth, weights=pixels))
    assert loss == pytest.approx(1 - (2 * 2 + 1) / ((2 + 1) + 4 + 1))
    assert float(soft_dice_loss(probabilities=found, masks=truth)) == pytest.approx(1 - (2 * 3 + 1) / (4 + 4 + 1))
    # The coarse head sees truths 1/4, 0, 0, 3/4 with the weights 2, 1, 1, 2/3.
    logits = [jnp.zeros((1, 4, 4, 1)), jnp.zeros((1, 2, 2, 1))]
    total, parts = deep_supervision_loss(logits=logits, masks=truth, weights={"dice": 1.0}, decay=1.0, pixels=pixels)
    fine = 1 - (4 + 1) / (0.5 * (12 + 4) + 4 + 1)
    coarse = 1 - (2 * 0.5 * (2 / 4 + 2 / 3 * 3 / 4) + 1) / (0.5 * (2 + 1 + 1 + 2 / 3) + 1 + 1)
    assert float(parts["dice_loss"]) == pytest.approx(fine)
    assert float(total) == pytest.approx((fine + coarse) / 2)


def test_multi_scale_l1_by_bounds_and_pixels() -> None:
    """Two stages of 2 x 2 and of 1 x 1 features, the first with a single difference of 4 under the weight 3."""
    truth = [jnp.zeros((1, 1, 2, 2, 1)), jnp.zeros((1, 1, 1, 1, 2))]
    predicted = [truth[0].at[0, 0, 1, 0].set(4.0), truth[1] + 6.0]
    assert float(multi_scale_l1(truth, predicted)) == pytest.approx((1 + 6) / 2)
    assert float(multi_scale_l1(truth, predicted, bounds=(0.5, 12.0))) == pytest.approx((2 + 0.5) / 2)
    pixels = jnp.ones((1, 4, 4, 1)).at[0, 2:, :2].set(3.0)  # mean 1.5; 3 / 1.5 at the difference
    assert float(multi_scale_l1(truth, predicted, pixels=pixels)) == pytest.approx((2 + 6) / 2)
