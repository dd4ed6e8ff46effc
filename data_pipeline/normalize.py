"""Counts to network input; the same code in tf.data, in prediction and in an exported model.

x = sqrt(counts) / level. The square root makes Poisson noise the same everywhere (standard deviation about 1/2 whatever
the mean; Anscombe 1948) and compresses hot lesions and the bladder. `level` is the patient's own body level, a mean of
sqrt(counts) that neither air nor hot spots can move: start with the mean over all pixels, then a few times take the
mean over the pixels between half and twice the level. Only means and comparisons are used, so it costs nothing on any
device. `xp` is numpy, jax.numpy or tensorflow.experimental.numpy.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from data_pipeline.errors import RequestError

REFINEMENTS = 4
LOW, HIGH = 0.5, 2.0
_BLACK_PERCENTILE = 99.3
SMALLEST_LEVEL = 1e-3
"""Keeps an empty image at zero instead of 0 / 0."""


def body_level(root: Any, xp: ModuleType = np) -> Any:
    """Robust mean of sqrt(counts) over the body, `[..., rows, columns]` -> `[..., 1, 1]`."""
    level = xp.mean(root, axis=(-2, -1), keepdims=True)
    for _ in range(REFINEMENTS):
        body = xp.where((root > LOW * level) & (root < HIGH * level), xp.ones_like(root), xp.zeros_like(root))
        total = xp.sum(root * body, axis=(-2, -1), keepdims=True)
        level = total / xp.maximum(xp.sum(body, axis=(-2, -1), keepdims=True), 1.0)
    return level


def normalize(counts: Any, xp: ModuleType = np) -> Any:
    """Network input for `counts`, `[..., rows, columns]` >= 0; same shape, float32, body near 1, air near 0."""
    root = xp.sqrt(xp.asarray(counts, xp.float32))
    return root / xp.maximum(body_level(root, xp), SMALLEST_LEVEL)


def bin_counts(counts: Any, factor: int, xp: ModuleType = np) -> Any:
    """Sums `factor` x `factor` pixels of `[..., rows, columns]`; counts stay counts.

    Raises:
      RequestError: a side is not divisible by `factor`.
    """
    if factor == 1:
        return counts
    *leading, rows, columns = counts.shape
    if rows % factor or columns % factor:
        raise RequestError(f"{rows} x {columns} pixels cannot be binned by {factor}")
    blocks = xp.reshape(counts, (*leading, rows // factor, factor, columns // factor, factor))
    return xp.sum(blocks, axis=(-3, -1))


def binning_factor(size_px: int, image_size_px: int) -> int:
    """How many of `size_px` pixels make one of `image_size_px`.

    Raises:
      RequestError: they do not divide.
    """
    if image_size_px < 1 or size_px % image_size_px:
        raise RequestError(f"data.image_size_px={image_size_px} does not divide the {size_px} pixels of an image")
    return size_px // image_size_px


def black_level(counts: np.ndarray) -> float:
    """Counts that every picture shows black: of the patient's pixels 99.3 % are paler.

    The brightest are left out, so that one bladder does not pale the bones.
    """
    inside = counts[counts > counts.mean()]
    return max(float(np.percentile(inside, _BLACK_PERCENTILE)), 1.0) if inside.size else 1.0
