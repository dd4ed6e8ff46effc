"""Moves images: a projective map about the centre, and a displacement of every pixel."""

from __future__ import annotations

import tensorflow as tf


def geometry(
    side: tf.Tensor,
    *,
    mirror: tf.Tensor,
    angle: tf.Tensor,
    zoom: tf.Tensor,
    shift: tf.Tensor,
    stretch: tf.Tensor | float = 1.0,
) -> tf.Tensor:
    """Eight numbers of the projective transform from output to input pixels, about the image's centre.

    Args:
      side: rows and columns of the image: one number of a square, or `[2]`.
      mirror: -1.0 mirrors left and right, 1.0 does not.
      angle: radians; positive turns the image counter-clockwise as displayed.
      zoom: above 1 magnifies.
      shift: `[2]` pixels right and down.
      stretch: the input's rows are magnified by zoom times this, its columns by zoom divided by this.
    """
    centre_y, centre_x = tf.unstack((side - 1.0) / 2.0 * tf.ones([2]))
    cosine, sine = tf.cos(angle) / zoom, tf.sin(angle) / zoom
    # input = M (output - centre - shift) + centre
    a, b = mirror * cosine * stretch, mirror * -sine * stretch
    d, e = sine / stretch, cosine / stretch
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


def warp_elastically(image: tf.Tensor, transform: tf.Tensor, displacement: tf.Tensor) -> tf.Tensor:
    """As `warp`, with every pixel read elsewhere: at the transform's place in the input plus its displacement.

    Args:
      image: `[rows, columns, channels]` float32.
      transform: of `geometry`.
      displacement: `[rows, columns, 2]` input pixels down and right.
    """
    rows, columns = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    a, b, c, d, e, f = tf.unstack(transform[:6])
    right, down = tf.range(columns), tf.range(rows)[:, None]
    y, above, below = _corners(d * right + e * down + f + displacement[..., 0], rows)
    x, left, beside = _corners(a * right + b * down + c + displacement[..., 1], columns)
    # One row and column of nothing around the image stand for all that lies outside.
    framed = tf.pad(image, [[1, 1], [1, 1], [0, 0]])
    width = tf.shape(framed)[1]
    flat = tf.reshape(framed, [-1, image.shape[-1]])
    x, y = x[..., None], y[..., None]
    upper = (1.0 - x) * tf.gather(flat, above * width + left) + x * tf.gather(flat, above * width + beside)
    lower = (1.0 - x) * tf.gather(flat, below * width + left) + x * tf.gather(flat, below * width + beside)
    return (1.0 - y) * upper + y * lower


def _corners(place: tf.Tensor, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Share of the later pixel, and the indices in the frame of the two pixels around `place`."""
    framed = tf.clip_by_value(place + 1.0, 0.0, pixels + 1.0)
    first = tf.minimum(tf.floor(framed), pixels)
    index = tf.cast(first, tf.int32)
    return framed - first, index, index + 1
