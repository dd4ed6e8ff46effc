"""Random changes to counts and mask together, as stateless TensorFlow operations.

Every operation takes its own seed, so an image's augmentation depends on nothing but (seed, batch, position). What
belongs to the acquisition comes first, on whole counts (`recount`): duration, uptake, blur, haze. Geometry resamples
afterwards, on the pixels of the data set; the network's coarser pixels collect the result, since resampling on those
would smooth more of the noise away. An operation whose range is 0 is left out.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tensorflow.experimental.numpy as tnp
from ml_collections import ConfigDict

from data_pipeline.augmentation.recount import recount, thin
from data_pipeline.augmentation.splines import smooth_field
from data_pipeline.augmentation.warping import geometry, warp, warp_elastically
from data_pipeline.normalize import bin_counts

ELASTIC_KNOT_MM = 80.0
"""Knots of the displacement; a range up to a quarter of it cannot fold the image."""
UPTAKE_KNOT_MM = 40.0
"""Knots of the uptake: a bone or a part of one."""
HAZE_SD_MM = 30.0
"""Scattered counts are this far from their origin, as from a thick patient."""


def augment_counts(
    counts: tf.Tensor,
    mask: tf.Tensor,
    seed: tf.Tensor,
    augment: ConfigDict,
    pixel_mm: tf.Tensor | tuple[float, float],
    binning: int = 1,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Counts anew, then mirrors, turns, stretches, bends and shifts counts and mask alike, then bins them.

    Args:
      counts: `[rows, columns]` int32.
      mask: `[rows, columns]` float32 in {0, 1}.
      seed: `[2]` int32.
      augment: the recipe's section.
      pixel_mm: `[2]` row and column spacing.
      binning: pixels along one side that make one of the network's.

    Returns:
      Counts `[rows / binning, columns / binning]` float32 >= 0, and the mask of the same shape, float32 in {0, 1}: 1
      where at least half of a pixel is lesion.
    """
    draw = tf.random.stateless_uniform([6], seed)
    kept = augment.kept_counts_min + (1.0 - augment.kept_counts_min) * draw[0]
    pixel_mm = tf.convert_to_tensor(pixel_mm, tf.float32)
    counted = _counted(counts, kept, seed, augment, pixel_mm)
    side = tf.cast(tf.shape(counts), tf.float32)
    transform = geometry(
        side,
        mirror=tf.where(draw[1] < augment.mirror_probability, -1.0, 1.0),
        angle=(2.0 * draw[2] - 1.0) * augment.rotation_deg * np.pi / 180.0,
        zoom=1.0 + (2.0 * draw[3] - 1.0) * augment.scale_fraction,
        shift=(2.0 * draw[4:6] - 1.0) * augment.translation_fraction * side[1],
        stretch=1.0 + _around_zero(seed + 2) * augment.stretch_fraction if augment.stretch_fraction else 1.0,
    )
    both = tf.stack([counted, mask], axis=-1)
    if augment.elastic_mm:
        bent = smooth_field(tf.shape(counts), ELASTIC_KNOT_MM / pixel_mm, 2, seed + 4)
        moved = warp_elastically(both, transform, bent * augment.elastic_mm / pixel_mm)
    else:
        moved = warp(both, transform)
    image, truth = bin_counts(moved[..., 0], binning, tnp), bin_counts(moved[..., 1], binning, tnp)
    return image, tf.cast(truth >= 0.5 * binning**2, tf.float32)


def _counted(
    counts: tf.Tensor, kept: tf.Tensor, seed: tf.Tensor, augment: ConfigDict, pixel_mm: tf.Tensor
) -> tf.Tensor:
    """Counts of a shorter acquisition, of another uptake, less sharp and hazier; float32."""
    if not (augment.uptake_log or augment.blur_mm or augment.haze_fraction):
        counted = tf.numpy_function(thin, [counts, kept, seed], tf.float32, stateful=False)
        return tf.ensure_shape(counted, counts.shape)
    gain = tf.fill(tf.shape(counts), kept)
    if augment.uptake_log:
        uptake = smooth_field(tf.shape(counts), UPTAKE_KNOT_MM / pixel_mm, 1, seed + 6)[..., 0]
        # Where uptake is highest everything drawn is kept: counts can be left out, not added.
        strength = augment.uptake_log * tf.random.stateless_uniform([], seed + 11)
        gain *= tf.exp(strength * (uptake - tf.reduce_max(uptake)))
    blur_mm = augment.blur_mm * tf.random.stateless_uniform([], seed + 8)
    haze = augment.haze_fraction * tf.random.stateless_uniform([], seed + 9)

    def draw(
        counts: np.ndarray, gain: np.ndarray, blur: np.ndarray, haze_px: np.ndarray, share: float, seed: np.ndarray
    ) -> np.ndarray:
        return recount(counts, gain, blur_px=blur, haze_px=haze_px, haze_share=share, seed=seed)

    inputs = [counts, gain, blur_mm / pixel_mm, HAZE_SD_MM / pixel_mm, haze, seed]
    return tf.ensure_shape(tf.numpy_function(draw, inputs, tf.float32, stateful=False), counts.shape)


def augment_contrast(image: tf.Tensor, seed: tf.Tensor, augment: ConfigDict) -> tf.Tensor:
    """X -> g x^c: c uniform in 1 +- contrast_fraction, g in 1 +- gain_fraction.

    The power makes uptake steeper or flatter; 0 and the body level 1 stay. The gain stands for another body level.
    """
    exponent = 1.0 + (2.0 * tf.random.stateless_uniform([], seed + 1) - 1.0) * augment.contrast_fraction
    changed = tf.pow(tf.maximum(image, 0.0), exponent)
    if not augment.gain_fraction:
        return changed
    return changed * (1.0 + _around_zero(seed + 10) * augment.gain_fraction)


def _around_zero(seed: tf.Tensor) -> tf.Tensor:
    """A number uniform in [-1, 1)."""
    return tf.random.stateless_uniform([], seed, -1.0, 1.0)
