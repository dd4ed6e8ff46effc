"""What the pixels of a scan and its mask tell of their past: smoothed, rescaled, saturated, mirrored.

A scan as the camera counted it is Poisson: in a smooth region the variance equals the mean and neighbours are
independent. With the estimators below, simulated scans and the real lossless scan of pydicom-data give a variance over
mean of 0.87 to 0.90 and a correlation of -0.08 to -0.06; a Gaussian of 0.7 pixels turns that into 0.11 and 0.31 to
0.35, doubled values give 1.75, halved ones 0.44. The thresholds lie between.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

TILE_PX = 8
TILE_MEAN_MIN = 4.0
"""Tiles darker than this tell nothing: their counts are mostly zero."""

TILES_MIN = 30
SMOOTHED_CORRELATION = 0.12
RESCALED_RATIO = (0.6, 1.5)
"""Variance over mean of unsmoothed counts lies between; outside, the values were multiplied or compressed."""

PLATEAU_PX = 4
"""Connected pixels at the very maximum: Poisson counts do not do that, a cut-off does."""

VIEW_MIRRORED = 0.03
"""Of `view_is_mirrored`: simulated pairs give -0.22 to -0.08, with one view mirrored 0.08 to 0.22."""

MIRROR_GAIN = 1.15
"""A mask whose mirror image covers this much more uptake is probably mirrored."""


@dataclasses.dataclass(frozen=True)
class Noise:
    """Statistics of the noise.

    Attributes:
      variance_over_mean: median over smooth tiles; 1 for counts. NaN if there are too few tiles.
      correlation: of the noise of horizontal and vertical neighbours, median over tiles; 0 for counts.
    """

    variance_over_mean: float
    correlation: float

    @property
    def smoothed(self) -> bool:
        """Whether neighbours depend on each other."""
        return bool(self.correlation > SMOOTHED_CORRELATION)

    @property
    def rescaled(self) -> bool:
        """Whether the variance is not the mean, though neighbours are independent."""
        low, high = RESCALED_RATIO
        known = not np.isnan(self.variance_over_mean) and not self.smoothed
        return bool(known and not low <= self.variance_over_mean <= high)


def noise(counts: np.ndarray) -> Noise:
    """Noise of a scan `[rows, columns]`, from the smoother half of its tiles.

    In each tile a plane is fitted and taken off. The residual's variance is divided by the mean, its products with the
    neighbours by its variance.
    """
    tiles = _tiles(counts.astype(np.float64))
    mean = tiles.mean(axis=(1, 2))
    tiles, mean = tiles[mean >= TILE_MEAN_MIN], mean[mean >= TILE_MEAN_MIN]
    if len(tiles) < TILES_MIN:
        return Noise(float("nan"), float("nan"))
    residual, freedom = _residual(tiles)
    squares = (residual**2).sum(axis=(1, 2))
    ratio = squares / freedom / mean
    # Bones and their edges add variance of their own: the smoother half of the tiles is soft tissue.
    smooth = ratio <= np.median(ratio)
    across = (residual[:, :, 1:] * residual[:, :, :-1]).sum(axis=(1, 2)) / (TILE_PX * (TILE_PX - 1))
    down = (residual[:, 1:] * residual[:, :-1]).sum(axis=(1, 2)) / (TILE_PX * (TILE_PX - 1))
    variance = np.maximum(squares / TILE_PX**2, 1e-9)
    correlation = (across + down) / (2 * variance)
    return Noise(float(np.median(ratio[smooth])), float(np.median(correlation[smooth])))


def saturated_px(counts: np.ndarray) -> int:
    """Pixels of the largest plateau at the maximum, 0 below `PLATEAU_PX`."""
    top = int(counts.max(initial=0))
    if top < 2:
        return 0
    plateaus, number = ndimage.label(counts == top, np.ones((3, 3), int))
    largest = int(np.bincount(plateaus.ravel())[1:].max(initial=0)) if number else 0
    return largest if largest >= PLATEAU_PX else 0


def mask_is_mirrored(counts: np.ndarray, mask: np.ndarray) -> bool:
    """Whether the mask, with left and right of the image exchanged, covers clearly more uptake than as it is."""
    if not mask.any():
        return False
    level = np.sqrt(counts)
    return bool(level[mask[:, ::-1]].mean() > MIRROR_GAIN * level[mask].mean())


def view_is_mirrored(anterior: np.ndarray, posterior: np.ndarray) -> float:
    """How much better the posterior outline fits the anterior one unmirrored than mirrored; positive is suspicious.

    Seen from behind, the body's outline is that from the front, mirrored. The number is the difference of two
    intersection-over-union values.

    Args:
      anterior: body `[rows, columns]` bool.
      posterior: the same.
    """
    if anterior.shape != posterior.shape:
        return 0.0
    return _overlap(anterior, posterior) - _overlap(anterior, posterior[:, ::-1])


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Best intersection over union for shifts of a few columns."""
    best = 0.0
    for shift in range(-12, 13, 2):
        moved = np.roll(other, shift, axis=1)
        best = max(best, float((one & moved).sum() / max((one | moved).sum(), 1)))
    return best


def _tiles(image: np.ndarray) -> np.ndarray:
    rows, columns = (side // TILE_PX for side in image.shape)
    cropped = image[: rows * TILE_PX, : columns * TILE_PX]
    return cropped.reshape(rows, TILE_PX, columns, TILE_PX).swapaxes(1, 2).reshape(-1, TILE_PX, TILE_PX)


def _residual(tiles: np.ndarray) -> tuple[np.ndarray, int]:
    """Tiles minus their fitted quadratic surface, and the residual's degrees of freedom."""
    y, x = np.mgrid[:TILE_PX, :TILE_PX] / (TILE_PX - 1) - 0.5
    basis = np.stack([np.ones_like(x), x, y, x * y, x**2, y**2]).reshape(6, -1)
    orthogonal, _ = np.linalg.qr(basis.T)
    flat = tiles.reshape(len(tiles), -1)
    residual = flat - (flat @ orthogonal) @ orthogonal.T
    return residual.reshape(tiles.shape), TILE_PX**2 - len(basis)
