"""How far the contours of truth and prediction lie apart, in mm.

The contour of a mask is those of its pixels that have a pixel outside the mask, or outside the image, among their four
neighbours; a distance is that of a contour pixel's centre to the nearest contour pixel of the other mask.

Sources: 95th percentile of the Hausdorff distance as in MONAI and the BRATS challenge; normalised surface distance
(surface Dice): Nikolov et al., J Med Internet Res 23:e26151, 2021.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

PERCENTILE = 95.0


@dataclasses.dataclass(frozen=True)
class SurfaceScores:
    """Contour scores of one image.

    Attributes:
      hd95_mm: the larger of the 95th percentiles of both directions' distances; NaN where a mask is empty.
      nsd: share of the contour pixels of both masks that lie within the tolerance of the other contour, in [0, 1];
        0 where one mask is empty, NaN where both are.
    """

    hd95_mm: float
    nsd: float


def surface_scores(
    truth: np.ndarray, prediction: np.ndarray, *, pixel_size_mm: tuple[float, float], tolerance_mm: float
) -> SurfaceScores:
    """Scores the contours of two masks `[rows, columns]` bool.

    Args:
      truth: lesion pixels.
      prediction: predicted pixels.
      pixel_size_mm: (row spacing, column spacing).
      tolerance_mm: contours nearer than or at this distance agree.

    Example:
      >>> truth = np.zeros((3, 6), bool)
      >>> prediction = truth.copy()
      >>> truth[1, 1], prediction[1, 1], prediction[1, 4] = True, True, True  # the second one is 3 pixels away
      >>> scores = surface_scores(truth, prediction, pixel_size_mm=(2.0, 2.0), tolerance_mm=2.0)
      >>> round(scores.hd95_mm, 2)  # 95th percentile of 0 and 6 mm
      5.7
      >>> round(scores.nsd, 4)  # two of three contour pixels agree
      0.6667
    """
    if not truth.any() and not prediction.any():
        return SurfaceScores(hd95_mm=float("nan"), nsd=float("nan"))
    if not truth.any() or not prediction.any():
        return SurfaceScores(hd95_mm=float("nan"), nsd=0.0)
    contours = contour(truth), contour(prediction)
    of_truth = _distances(contours[0], contours[1], pixel_size_mm)
    of_prediction = _distances(contours[1], contours[0], pixel_size_mm)
    both = np.concatenate([of_truth, of_prediction])
    return SurfaceScores(
        hd95_mm=float(max(np.percentile(of_truth, PERCENTILE), np.percentile(of_prediction, PERCENTILE))),
        nsd=float(np.mean(both <= tolerance_mm)),
    )


def contour(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask with a four-neighbour outside it; what lies beyond the image is outside.

    Args:
      mask: `[rows, columns]` bool.

    Returns:
      `[rows, columns]` bool.

    Example:
      >>> mask = np.zeros((5, 5), bool)
      >>> mask[1:4, 1:4] = True
      >>> int(contour(mask).sum()), bool(contour(mask)[2, 2])  # all but the centre
      (8, False)
    """
    return mask & ~ndimage.binary_erosion(mask)


def _distances(of: np.ndarray, to: np.ndarray, pixel_size_mm: tuple[float, float]) -> np.ndarray:
    return ndimage.distance_transform_edt(~to, sampling=pixel_size_mm)[of]
