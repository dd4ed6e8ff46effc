"""White top-hat with hysteresis: what is brighter than its surroundings, without learning; three numbers are tuned.

The top-hat of an image is what an opening with a square takes away: everything narrower than the square. A pixel is
lesion where the top-hat is above a low threshold and its connected component is somewhere above a high one.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

from data_pipeline.grid import GridSplit, on_network
from msanet_jax.evaluation.evaluate import dsc_by_threshold

SIDES_MM = (25.0, 40.0, 60.0, 85.0)
"""Sides of the square that are tried."""
LOWS = np.arange(1, 9) / 10.0
HIGHS = np.arange(2, 41) / 20.0
"""Thresholds that are tried, in units of the body level of the normalised image."""


@dataclasses.dataclass(frozen=True)
class TopHat:
    """A tuned filter.

    Attributes:
      side_px: of the square, odd.
      low: what every marked pixel exceeds.
      high: what every marked component exceeds somewhere; not below `low`.
    """

    side_px: int
    low: float
    high: float

    def probability(self, images: np.ndarray) -> np.ndarray:
        """H / (h + high) with h of `component_peaks`: above 1/2 exactly where the filter marks.

        Args:
          images: `[n, rows, columns, 1]` normalised.

        Returns:
          `[n, rows, columns]` float32 in [0, 1).
        """
        peaks = [component_peaks(white_top_hat(image[..., 0], self.side_px), self.low) for image in images]
        return np.stack([peak / (peak + self.high) for peak in peaks]).astype(np.float32)


def white_top_hat(image: np.ndarray, side_px: int) -> np.ndarray:
    """`image` minus its opening with a square of `side_px`: never negative."""
    opened: np.ndarray = ndimage.white_tophat(image.astype(np.float64), size=(side_px, side_px))
    return opened


def component_peaks(values: np.ndarray, low: float) -> np.ndarray:
    """At each pixel above `low` the highest value of its 8-connected component; 0 elsewhere."""
    labels, count = ndimage.label(values > low, structure=np.ones((3, 3)))
    peaks = np.zeros(count + 1)
    np.maximum.at(peaks, labels.ravel(), values.ravel())
    peaks[0] = 0.0
    return peaks[labels]


def tune_top_hat(split: GridSplit, *, image_size_px: int) -> TopHat:
    """The filter with the highest pooled DSC on the network's grid of a split on the field's grid."""
    seen = on_network(split, image_size_px)
    pixel_mm = float(np.mean([*seen.pixel_sizes_mm]))
    sides = sorted({2 * round(side / pixel_mm / 2.0) + 1 for side in SIDES_MM})
    found = []
    for side in sides:
        hats = [white_top_hat(image, side) for image in seen.images]
        for low in LOWS:
            highs = HIGHS[low <= HIGHS]
            scores = dsc_by_threshold((component_peaks(hat, low) for hat in hats), seen.masks, highs)
            found.append((float(scores.max()), TopHat(side, float(low), float(highs[scores.argmax()]))))
    return max(found, key=lambda entry: entry[0])[1]
