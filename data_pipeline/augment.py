"""Random changes to counts and mask together, as stateless TensorFlow operations.

Every operation takes its own seed, so an image's augmentation depends on nothing but (seed, batch, position). Thinning
comes first, on whole counts: keeping each count with probability p turns Poisson(m) into Poisson(p m), exactly the scan
that a shorter acquisition would have given. Geometry resamples afterwards.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict


def thin(counts: np.ndarray, kept: float, seed: np.ndarray) -> np.ndarray:
    """Binomial thinning: each count is kept with probability `kept`; exact, in NumPy because it is quick there.

    Args:
      counts: integer array.
      kept: in (0, 1].
      seed: integers.
    """
    if kept >= 1.0:
        return counts.astype(np.float32)
    random = np.random.default_rng(np.asarray(seed, np.uint32))
    return random.binomial(counts.astype(np.int64), kept).astype(np.float32)


def geometry(side: tf.Tensor, *, mirror: tf.Tensor, angle: tf.Tensor, zoom: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """Eight numbers of the projective transform from output to input pixels, about the image's centre.

    Args:
      side: rows and columns of the image: one number of a square, or `[2]`.
      mirror: -1.0 mirrors left and right, 1.0 does not.
      angle: radians; positive turns the image counter-clockwise as displayed.
      zoom: above 1 magnifies.
      shift: `[2]` pixels right and down.
    """
    centre_y, centre_x = tf.unstack((side - 1.0) / 2.0 * tf.ones([2]))
    cosine, sine = tf.cos(angle) / zoom, tf.sin(angle) / zoom
    # input = M (output - centre - shift) + centre
    a, b = mirror * cosine, mirror * -sine
    d, e = sine, cosine
    offset_x, offset_y = centre_x + shift[0], centre_y + shift[1]
    c = centre_x - a * offset_x - b * offset_y
    f = centre_y - d * offset_x - e * offset_y
    return tf.stack([a, b, c, d, e, f, 0.0, 0.0])


def warp(image: tf.Tensor, transform: tf.Tensor) -> tf.Tensor:
    """Bilinear resampling of `[rows, columns, channels]` float32; zero outside."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=transform[None],
        output_shape=tf.shape(image)[:2],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )[0]


def augment_counts(
    counts: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor, augment: ConfigDict
) -> tuple[tf.Tensor, tf.Tensor]:
    """Thins, mirrors, turns, zooms and shifts counts and mask alike.

    Args:
      counts: `[rows, columns]` int32.
      mask: `[rows, columns]` float32 in {0, 1}.
      seed: `[2]` int32.
      augment: the recipe's section.

    Returns:
      Counts `[rows, columns]` float32 >= 0 and mask `[rows, columns]` float32 in {0, 1}.
    """
    draw = tf.random.stateless_uniform([6], seed)
    kept = augment.kept_counts_min + (1.0 - augment.kept_counts_min) * draw[0]
    thinned = tf.numpy_function(thin, [counts, kept, seed], tf.float32, stateful=False)
    thinned = tf.ensure_shape(thinned, counts.shape)
    side = tf.cast(tf.shape(counts), tf.float32)
    transform = geometry(
        side,
        mirror=tf.where(draw[1] < augment.mirror_probability, -1.0, 1.0),
        angle=(2.0 * draw[2] - 1.0) * augment.rotation_deg * np.pi / 180.0,
        zoom=1.0 + (2.0 * draw[3] - 1.0) * augment.scale_fraction,
        shift=(2.0 * draw[4:6] - 1.0) * augment.translation_fraction * side[1],
    )
    moved = warp(tf.stack([thinned, mask], axis=-1), transform)
    return moved[..., 0], tf.cast(moved[..., 1] >= 0.5, tf.float32)


def augment_contrast(image: tf.Tensor, seed: tf.Tensor, augment: ConfigDict) -> tf.Tensor:
    """X -> x^g with g uniform in 1 +- contrast_fraction: steeper or flatter uptake, 0 and the body level 1 stay."""
    exponent = 1.0 + (2.0 * tf.random.stateless_uniform([], seed + 1) - 1.0) * augment.contrast_fraction
    return tf.pow(tf.maximum(image, 0.0), exponent)
