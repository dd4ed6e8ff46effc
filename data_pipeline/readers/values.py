"""Pixel values -> counts: the one place that decides which numbers can be counts and what is mended."""

from __future__ import annotations

import numpy as np

from data_pipeline.scan import ScanError

MIN_SIDE_PX = 16
MAX_SIDE_PX = 8192
"""Whole-body matrices have up to 2048 rows; more than this is a mistake or a trap."""

MAX_PIXELS = 1 << 25
"""Pixels of all frames of a file together; a decoder is not asked for more."""

MENDED_SHARE_MAX = 0.05
"""Clipping and rounding may change the sum of the counts by this share; beyond it the values are no counts."""


def check_size(shape: tuple[int, ...], source: str) -> None:
    """Refuses sides that no planar scan has; called before pixels are decoded."""
    if min(shape) < 1:
        raise ScanError(f"{source}: the image has no pixels (shape {shape}); export it again")
    if min(shape) < MIN_SIDE_PX or max(shape) > MAX_SIDE_PX:
        raise ScanError(
            f"{source}: {shape[0]} x {shape[1]} pixels; a planar scan has sides of {MIN_SIDE_PX} to {MAX_SIDE_PX}"
        )


def check_pixels(frames: int, shape: tuple[int, int], source: str) -> None:
    """Refuses a header that promises more pixels than fit memory with ease; called before they are decoded."""
    check_size(shape, source)
    check_most(frames, shape, source)


def check_most(frames: int, shape: tuple[int, int], source: str) -> None:
    """The same of what may be small, as a part of a mask."""
    if max(shape) > MAX_SIDE_PX:
        check_size(shape, source)
    if frames * shape[0] * shape[1] > MAX_PIXELS:
        raise ScanError(
            f"{source}: {frames} frames of {shape[0]} x {shape[1]} pixels are too many for a planar scan; export the "
            "whole-body scan alone"
        )


def to_counts(values: np.ndarray, source: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turns pixel values into counts.

    Negative values (left by lossy compression or background subtraction) become 0; fractions are rounded.

    Args:
      values: `[rows, columns]`, integers or floats.
      source: name of the file, for messages.

    Returns:
      int32 counts >= 0 and a sentence for everything that was changed.

    Raises:
      ScanError: not a count image.
    """
    if values.ndim != 2:
        raise ScanError(f"{source}: an array of shape {values.shape} is not a planar scan; save [rows, columns]")
    check_size(values.shape, source)
    if values.dtype.kind not in "iuf":
        raise ScanError(f"{source}: values of type {values.dtype} are no counts (a mask?); save integer counts")
    if not np.isfinite(values).all():
        broken = int(np.count_nonzero(~np.isfinite(values)))
        raise ScanError(f"{source}: {broken} pixels are NaN or infinite; export the counts again")
    if float(values.max()) > np.iinfo(np.int32).max:
        raise ScanError(f"{source}: the maximum {values.max():g} is too large for counts; export unscaled counts")
    warnings = []
    positive = np.maximum(values, 0)
    total = float(positive.sum(dtype=np.float64))
    if total <= 0:
        raise ScanError(f"{source}: the image is empty (no counts); check that the right series was exported")
    if (negative := int(np.count_nonzero(values < 0))) > 0:
        _check_change(total - float(values.sum(dtype=np.float64)), total, source, "negative values")
        warnings.append(f"{negative} negative pixels (down to {values.min():g}) set to 0: the counts are not original")
    counts = np.rint(positive).astype(np.int32)
    if values.dtype.kind == "f" and not np.array_equal(counts, positive):
        _check_change(float(np.abs(counts - positive).sum(dtype=np.float64)) / 2, total, source, "fractions")
        warnings.append("fractions rounded: the image was smoothed or rescaled, uptake is relative")
    return counts, tuple(warnings)


def _check_change(change: float, total: float, source: str, what: str) -> None:
    if change > MENDED_SHARE_MAX * total:
        share = change / total
        raise ScanError(f"{source}: {what} make up {share:.0%} of the image: not counts; export the original counts")
