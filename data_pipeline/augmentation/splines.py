"""Smooth random fields: cubic B-splines whose coefficients are drawn independently, uniform in [-1, 1].

The basis functions are not negative and add up to 1. So a field stays within its coefficients, equal coefficients give
a constant, and the slope between knots h apart is at most 2 / h. The knots are shifted at random, so that no place of
the image is special.
"""

from __future__ import annotations

import tensorflow as tf


def spline_basis(pixels: tf.Tensor, knot_px: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """`[pixels, knots]` values of the cubic B-splines at the pixels; rows add up to 1.

    Args:
      pixels: number of them.
      knot_px: distance of two knots in pixels.
      offset: of the first pixel from a knot, in [0, 1) knot distances.
    """
    position = tf.range(tf.cast(pixels, tf.float32)) / knot_px + offset
    knots = tf.range(tf.floor(position[-1]) + 4.0) - 1.0
    away = tf.abs(position[:, None] - knots)
    near = 2.0 / 3.0 - away**2 + away**3 / 2.0
    far = tf.maximum(2.0 - away, 0.0) ** 3 / 6.0
    return tf.where(away < 1.0, near, far)


def smooth_field(shape: tf.Tensor, knot_px: tf.Tensor, fields: int, seed: tf.Tensor) -> tf.Tensor:
    """`[rows, columns, fields]` independent smooth random fields in [-1, 1].

    Args:
      shape: `[2]` rows and columns.
      knot_px: `[2]` distances of two knots in pixels, down and right.
      fields: how many.
      seed: `[2]` int32.
    """
    offset = tf.random.stateless_uniform([2], seed)
    down = spline_basis(shape[0], knot_px[0], offset[0])
    right = spline_basis(shape[1], knot_px[1], offset[1])
    knots = tf.stack([tf.shape(down)[1], tf.shape(right)[1], fields])
    coefficients = tf.random.stateless_uniform(knots, seed + 1, -1.0, 1.0)
    return tf.einsum("rk,klf,cl->rcf", down, coefficients, right)
