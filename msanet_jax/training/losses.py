"""Loss functions: pure scalars, one equation each; counts are summed over devices before they are divided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import optax

from data_pipeline.errors import RequestError
from msanet_jax.networks.layers import AXIS
from msanet_jax.networks.resampling import mean_pool, upsample2

SMOOTH = 1.0
"""Pixels added to numerator and denominator of the soft Dice: defined and smooth for a batch without lesions."""


def soft_dice_loss(
    *, probabilities: jax.Array, masks: jax.Array, mapped: bool = False, weights: jax.Array | float = 1.0
) -> jax.Array:
    """1 - (2 sum w p t + s) / (sum w p + sum w t + s), sums over the whole batch and all devices (batch Dice).

    Args:
      probabilities: any shape, in [0, 1].
      masks: same shape, in [0, 1]; fractions are allowed (downsampled truth).
      mapped: whether to sum over the device axis; the mean of the devices' gradients is then that of one device.
      weights: w >= 0 of the pixels; see `lesion_weights`.

    Returns:
      Scalar in [0, 1). Source: Milletari et al. 2016 in its linear form; pooled over the batch because many
      scintigrams hold no lesion.

    Example:
      >>> probabilities, masks = jnp.array([0.5, 0.5, 0.0]), jnp.array([1.0, 0.0, 0.0])
      >>> round(float(soft_dice_loss(probabilities=probabilities, masks=masks)), 4)  # 1 - (2 x 0.5 + 1) / (1 + 1 + 1)
      0.3333
    """
    if probabilities.shape != masks.shape:
        raise ValueError(f"probabilities {probabilities.shape} and masks {masks.shape} differ in shape")
    sums = jnp.stack([(weights * probabilities * masks).sum(), (weights * (probabilities + masks)).sum()])
    if mapped:
        sums = jax.lax.psum(sums, AXIS)
    return 1.0 - (2.0 * sums[0] + SMOOTH) / (sums[1] + SMOOTH)


def cross_entropy_loss(*, logits: jax.Array, masks: jax.Array) -> jax.Array:
    """Mean over pixels of -t log p - (1 - t) log(1 - p), p = sigmoid(logits), natural logarithm.

    Args:
      logits: any shape.
      masks: t, same shape, in [0, 1]; fractions are allowed.

    Returns:
      Scalar >= 0, in nats per pixel.

    Example:
      >>> logits = jnp.log(jnp.array([3.0, 3.0]))  # p = 0.75
      >>> round(float(cross_entropy_loss(logits=logits, masks=jnp.array([1.0, 0.0]))), 4)  # -(log 0.75 + log 0.25) / 2
      0.837
    """
    return optax.losses.sigmoid_binary_cross_entropy(logits, masks).mean()


def _dice_term(logits: jax.Array, masks: jax.Array, mapped: bool) -> jax.Array:
    return soft_dice_loss(probabilities=jax.nn.sigmoid(logits), masks=masks, mapped=mapped)


def _cross_entropy_term(logits: jax.Array, masks: jax.Array, mapped: bool) -> jax.Array:
    return cross_entropy_loss(logits=logits, masks=masks)


SUPERVISED: dict[str, Callable[[jax.Array, jax.Array, bool], jax.Array]] = {
    "dice": _dice_term,
    "cross_entropy": _cross_entropy_term,
}
"""Supervised losses by name: (logits, masks, mapped) -> scalar. `loss.NAME_weight` of the recipe weighs each."""


def supervision_weights(levels: int, decay: float) -> tuple[float, ...]:
    """Weights decay^l of the heads, l = 0 at full resolution, divided by their sum.

    Source: our choice (docs/fidelity.md).

    Args:
      levels: number of heads.
      decay: weight of a head relative to the next finer one, >= 0.

    Returns:
      `levels` weights, finest first; their sum is 1.

    Example:
      >>> supervision_weights(2, 0.25)
      (0.8, 0.2)
    """
    raw = [decay**level for level in range(levels)]
    return tuple(weight / sum(raw) for weight in raw)


def lesion_weights(shares: jax.Array, *, mapped: bool = False) -> jax.Array:
    """Weights of pixels by which every lesion of the batch counts alike: 1 outside, m / A_j in lesion j.

    A_j is the number of its pixels, m the mean of A_j over all lesions of the batch and of all devices: together they
    weigh as much as they have pixels. After the blob loss (Kofler et al., arXiv 2205.08209), as weights of one Dice.

    Args:
      shares: `[batch, rows, columns, 1]`, 1 / A_j in lesion j and 0 outside (`data_pipeline.batches`).
      mapped: whether to sum over the device axis.

    Example:
      >>> shares = jnp.array([1.0, 0.0, 1 / 3, 1 / 3, 1 / 3]).reshape(1, 1, 5, 1)  # lesions of 1 and of 3 pixels
      >>> [round(float(weight), 4) for weight in lesion_weights(shares).ravel()]  # m = 2
      [2.0, 1.0, 0.6667, 0.6667, 0.6667]
    """
    totals = jnp.stack([(shares > 0).sum().astype(shares.dtype), shares.sum()])
    if mapped:
        totals = jax.lax.psum(totals, AXIS)
    mean_size = totals[0] / jnp.maximum(totals[1], 1.0)
    return jnp.where(shares > 0, mean_size * shares, 1.0)


def deep_supervision_loss(
    *,
    logits: Sequence[jax.Array],
    masks: jax.Array,
    weights: Mapping[str, float],
    decay: float,
    mapped: bool = False,
    pixels: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """sum_l w_l sum_i a_i L_il, L_il the loss i of the head l, w_l as in `supervision_weights`.

    The truth of a coarse head is the mean over its pixel: a lesion smaller than that stays as a fraction instead of
    vanishing, and no head is upsampled.

    Args:
      logits: finest first, `[batch, rows / n, columns / n, 1]` with a whole n each.
      masks: `[batch, rows, columns, 1]` in {0, 1}.
      weights: a_i >= 0 by the names in `SUPERVISED`.
      decay: of the level weights.
      mapped: see `soft_dice_loss`.
      pixels: weights of the pixels in the Dice loss, as `masks`; a coarse pixel has the mean over its lesion pixels,
        and 1 where it has none. None for 1 everywhere.

    Returns:
      The loss, and `NAME_loss` of the full-resolution head for the log.

    Example:
      >>> masks = jnp.array([[1.0, 0.0], [0.0, 0.0]]).reshape(1, 2, 2, 1)
      >>> logits = [jnp.zeros((1, 2, 2, 1)), jnp.zeros((1, 1, 1, 1))]  # p = 0.5 in both heads
      >>> total, parts = deep_supervision_loss(logits=logits, masks=masks, weights={"dice": 1.0}, decay=0.5)
      >>> float(parts["dice_loss"])  # fine head: 1 - (2 x 0.5 + 1) / (2 + 1 + 1)
      0.5
      >>> round(float(total), 4)  # coarse head, truth 0.25: 2 / 7; 2/3 x 1/2 + 1/3 x 2/7
      0.4286
    """
    total = jnp.zeros(())
    parts = {}
    for level, weight in enumerate(supervision_weights(len(logits), decay)):
        factor = masks.shape[1] // logits[level].shape[1]
        truth = mean_pool(masks, factor)
        losses = {name: SUPERVISED[name](logits[level], truth, mapped) for name in weights}
        if pixels is not None and "dice" in weights:
            within = jnp.where(truth > 0, mean_pool(pixels * masks, factor) / jnp.where(truth > 0, truth, 1.0), 1.0)
            losses["dice"] = soft_dice_loss(
                probabilities=jax.nn.sigmoid(logits[level]), masks=truth, mapped=mapped, weights=within
            )
        total = total + weight * sum(weights[name] * loss for name, loss in losses.items())
        if level == 0:
            parts = {f"{name}_loss": loss for name, loss in losses.items()}
    return total, parts


def pyramid(x: jax.Array, levels: int) -> jax.Array:
    """`[batch, rows, columns, c]` -> `[levels, batch, rows, columns, c]`.

    Level l is the mean over 2^l x 2^l pixels brought back to full size bilinearly; level 0 is `x` itself.

    Raises:
      ValueError: a side is not divisible by 2^(levels - 1).

    Example:
      >>> x = jnp.array([[0.0, 0.0], [0.0, 4.0]]).reshape(1, 2, 2, 1)
      >>> pyramid(x, 2)[..., 0].tolist()  # the image, and its mean everywhere
      [[[[0.0, 0.0], [0.0, 4.0]]], [[[1.0, 1.0], [1.0, 1.0]]]]
    """
    coarsest = 2 ** (levels - 1)
    if x.shape[1] % coarsest or x.shape[2] % coarsest:
        raise RequestError(f"{x.shape[1]} x {x.shape[2]} pixels have no {levels} pyramid levels")
    stack = []
    for level in range(levels):
        low = mean_pool(x, 2**level)
        for _ in range(level):
            low = upsample2(low)
        stack.append(low)
    return jnp.stack(stack)


def multi_scale_l1(
    features_truth: Sequence[jax.Array],
    features_prediction: Sequence[jax.Array],
    *,
    bounds: Sequence[float] | None = None,
    pixels: jax.Array | None = None,
    mapped: bool = False,
) -> jax.Array:
    """Mean over levels l and stages i of mean |f_i(image_l, truth_l) - f_i(image_l, prediction_l)|.

    Every stage counts alike, whatever its size, as the paper of SegAN writes it (Xue et al. 2018, eq. 2 there; its
    published code lets large maps dominate). With one level it is SegAN's loss; levels are our reading of
    "multi-scale L1 loss computed on image-mask pairs".

    Args:
      features_truth: per stage `[..., batch, rows, columns, c]`, the leading axis (if any) being the level.
      features_prediction: the same shapes.
      bounds: per stage, that its mean is divided by; None for 1.
      pixels: `[batch, rows, columns, 1]` weights w of the pixels of the masks; a feature counts by the mean w of its
        pixels, divided by the mean over all. None for 1.
      mapped: whether that mean is over all devices.

    Example:
      >>> truth = [jnp.array([1.0, 1.0]), jnp.array([2.0])]
      >>> prediction = [jnp.array([1.0, 0.0]), jnp.array([4.0])]
      >>> float(multi_scale_l1(truth, prediction))  # stages: 0.5 and 2
      1.25
    """
    if pixels is not None:
        mean = pixels.mean()
        pixels = pixels / (jax.lax.pmean(mean, AXIS) if mapped else mean)
    differences = []
    for stage, (truth, prediction) in enumerate(zip(features_truth, features_prediction, strict=True)):
        difference = jnp.abs(truth.astype(jnp.float32) - prediction.astype(jnp.float32))
        if pixels is not None:
            difference = difference * mean_pool(pixels, pixels.shape[1] // truth.shape[-3])
        differences.append(difference.mean() / (1.0 if bounds is None else bounds[stage]))
    return jnp.stack(differences).mean()
