"""How like one another images are, and how far spots stand out: measures on simulated views and on a real scan.

Images are compared as a smoothed square root of the counts of the anterior thorax field, on 64 x 64 pixels, divided by
its mean.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter
from scipy.stats import rankdata

from data_pipeline.phantom.simulate import SimulatedView
from data_pipeline.scan import Scan
from data_pipeline.thorax import find_thorax
from data_pipeline.windows import crop

SMOOTHING_PX, BINNED_PX = 3.0, 64
RING_PX = (2, 6)
"""Distance from a spot's edge of the ring that its planar contrast is read against."""

VISIBLE_CNR = 4.0

BANDS_MM = {"150 to 400": (150.0, 400.0), "20 to 45 (ribs)": (20.0, 45.0)}


@dataclasses.dataclass(frozen=True)
class Spots:
    """Planar contrast of the visible spots of a set of views.

    Attributes:
      malignant: mean expected counts within each metastasis over those of the ring around it.
      benign: likewise.
      views: number of views.
    """

    malignant: np.ndarray
    benign: np.ndarray
    views: int

    def auc(self) -> float:
        """Probability that a metastasis has the higher planar contrast; 0.5 tells nothing apart."""
        ranks = rankdata(np.concatenate([self.malignant, self.benign]))
        count = len(self.malignant)
        rank_sum = ranks[:count].sum() - count * (count + 1) / 2
        return float(rank_sum / (count * len(self.benign)))


def thorax_vector(scan: Scan) -> np.ndarray:
    """`[4096]`: the anterior thorax as this module compares images."""
    field = crop(scan.counts, find_thorax(scan)).astype(np.float64)
    step = field.shape[0] // BINNED_PX
    smooth = np.sqrt(gaussian_filter(field, SMOOTHING_PX))[: step * BINNED_PX, : step * BINNED_PX]
    binned = smooth.reshape(BINNED_PX, step, BINNED_PX, step).mean(axis=(1, 3))
    return (binned / binned.mean()).ravel()


def components_for(vectors: np.ndarray, share: float) -> int:
    """How many principal components of `[n, pixels]` hold `share` of the variance."""
    singular = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False)
    held = np.cumsum(singular**2) / (singular**2).sum()
    return int(np.searchsorted(held, share) + 1)


def explained(vectors: np.ndarray, other: np.ndarray, components: int) -> float:
    """Share of the squared distance of `other` from the mean of `vectors` that their first components reproduce."""
    mean = vectors.mean(axis=0)
    basis = np.linalg.svd(vectors - mean, full_matrices=False)[2][:components]
    offset = other - mean
    return float(((basis @ offset) ** 2).sum() / (offset**2).sum())


def nearest_distances(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Root-mean-square distance of each of `others` from the nearest of `vectors`; not from itself."""
    distance = np.sqrt(((others[:, None] - vectors[None]) ** 2).mean(axis=2))
    distance[distance == 0.0] = np.inf
    return distance.min(axis=1)


def asymmetry(vector: np.ndarray) -> float:
    """Mean difference of left and right over the mean, at the mirror axis that makes it least."""
    image = vector.reshape(BINNED_PX, BINNED_PX)
    mirrored = image[:, ::-1]
    return min(float(np.abs(image - np.roll(mirrored, shift, axis=1)).mean() / image.mean()) for shift in range(-6, 7))


def band_power(scan: Scan) -> dict[str, float]:
    """Power of the thorax over its squared mean, by the wavelength in mm."""
    field = crop(scan.counts, find_thorax(scan)).astype(np.float64)[40:200, 60:196]
    pixel = scan.pixel_size_mm[0] if scan.pixel_size_mm else 2.26
    window = np.outer(np.hanning(field.shape[0]), np.hanning(field.shape[1]))
    # Poisson noise is white: its power is the sum of the counts.
    power = np.abs(np.fft.fft2((field - field.mean()) * window)) ** 2 - field.sum() * (window**2).mean()
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(160, pixel), np.fft.fftfreq(136, pixel), indexing="ij"))
    return {
        name: float(power[(frequency > 1.0 / high) & (frequency <= 1.0 / low)].mean() / field.mean() ** 2)
        for name, (low, high) in BANDS_MM.items()
    }


def planar_contrasts(view: SimulatedView, ids: np.ndarray) -> list[float]:
    """Of every visible spot of a mask: mean within over mean of the ring around, other spots left out."""
    contrasts = []
    clean = (view.lesions == 0) & (view.benign == 0) & (view.organs == 0)
    for number in set(np.unique(ids).tolist()) - {0}:
        inside = ids == number
        rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
        window = tuple(slice(max(axis[0] - 8, 0), axis[-1] + 9) for axis in (rows, columns))
        mask, image = inside[window], view.expected[window]
        near, far = (binary_dilation(mask, iterations=reach) for reach in RING_PX)
        ring = far & ~near & clean[window]
        if ring.sum() < 10:
            continue
        level = max(float(image[ring].mean()), 0.1)
        excess = float(image[mask].mean()) - level
        if excess * np.sqrt(mask.sum() / level) >= VISIBLE_CNR:
            contrasts.append(1.0 + excess / level)
    return contrasts
