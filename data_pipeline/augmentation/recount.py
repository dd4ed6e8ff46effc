"""Counts as another acquisition of the same patient would have given them; whole numbers in, whole numbers out.

Every operation treats each count by itself: it is kept or not, and it moves or not. That turns independent Poisson
counts into independent Poisson counts of the changed mean (thinning and displacement of a Poisson process), so that the
noise stays white and as strong as physics has it. Blurring the image would smooth its noise, a gain would scale it.
"""

from __future__ import annotations

import numpy as np

MOVES = 4096
"""Displacements drawn for an image; every moved count takes one of them, so they are the point spread function."""
HIGHEST_MEAN = 32
"""Counts a pixel, on the mean over an image, that are followed one by one; of more a share is kept."""


def thin(counts: np.ndarray, kept: float, seed: np.ndarray) -> np.ndarray:
    """Binomial thinning: each count is kept with probability `kept`; exact, in NumPy because it is quick there.

    Args:
      counts: integer array.
      kept: in (0, 1].
      seed: integers.
    """
    if kept >= 1.0:
        return counts.astype(np.float32)
    random = _generator(seed)
    return random.binomial(counts.astype(np.int64), kept).astype(np.float32)


def recount(
    counts: np.ndarray,
    kept: np.ndarray,
    *,
    blur_px: np.ndarray,
    haze_px: np.ndarray,
    haze_share: float,
    seed: np.ndarray,
) -> np.ndarray:
    """Keeps each count with its pixel's probability and moves it by a normal displacement; exact.

    A count is moved along both axes by whole pixels: with probability `haze_share` with the standard deviation of the
    haze, as if it had been scattered, else with that of the blur. At the edges it is reflected, so none is lost.

    Args:
      counts: `[rows, columns]` integers.
      kept: `[rows, columns]` probabilities in [0, 1], in steps of 1 / 65536.
      blur_px: `[2]` standard deviations down and right, in pixels, before rounding.
      haze_px: the same of the haze.
      haze_share: in [0, 1].
      seed: integers.

    Returns:
      `[rows, columns]` float32 whole numbers.
    """
    random = _generator(seed)
    rows, columns = counts.shape
    kept = np.asarray(kept, np.float64)
    total = counts.sum(dtype=np.int64)
    if total > HIGHEST_MEAN * counts.size:
        share = HIGHEST_MEAN * counts.size / total
        counts = random.binomial(counts.astype(np.int64), share)
    # The image lies in a frame that is as wide as the longest displacement.
    moves = random.standard_normal((MOVES, 2))
    moves *= np.where(random.random((MOVES, 1)) < haze_share, haze_px, blur_px)
    longest = min(rows, columns) - 1
    moves = np.clip(np.rint(moves), -longest, longest).astype(np.int32)
    frame = int(np.abs(moves).max())
    width = columns + 2 * frame
    places = (np.arange(rows)[:, None] + frame) * width + np.arange(columns) + frame
    times = counts.ravel()
    events = np.repeat(places.ravel().astype(np.int32), times)
    if kept.min() < 1.0:
        limits = np.rint(65536.0 * kept).astype(np.uint32).ravel()
        events = events[random.integers(0, 65536, events.size, np.uint16) < np.repeat(limits, times)]
    if frame:
        offsets = moves[:, 0] * np.int32(width) + moves[:, 1]
        events += offsets[random.integers(0, MOVES, events.size, np.uint16)]
    framed = np.bincount(events, minlength=(rows + 2 * frame) * width).reshape(rows + 2 * frame, width)
    return _reflected(_reflected(framed, frame).T, frame).T.astype(np.float32)


def _generator(seed: np.ndarray) -> np.random.Generator:
    return np.random.default_rng(np.asarray(seed, np.uint32))


def _reflected(framed: np.ndarray, frame: int) -> np.ndarray:
    """Rows beyond the first and the last `frame` are added to those as far inside; `[rows, ...]`."""
    if not frame:
        return framed
    inside = framed[frame:-frame].copy()
    inside[:frame] += framed[:frame][::-1]
    inside[-frame:] += framed[-frame:][::-1]
    return inside
