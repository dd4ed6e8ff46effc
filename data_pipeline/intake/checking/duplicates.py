"""Finds scans that are one and the same: in other units, on another grid, or cut out of each other.

Landmarks are the hottest places of a smoothed scan. In a copy, what surrounds a landmark is the same up to level and
contrast, and landmarks keep their distances. Scans of the same anatomy share an eighth of their landmarks, copies more
than half.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import ndimage
from scipy.fft import dctn
from scipy.spatial import cKDTree

GRID_MM = 4.5
"""On which scans of different pixels are compared."""

LANDMARKS_MAX = 60
SMOOTHED_PX, APART_PX, PATCH_PX = 1.5, 4, 12
EQUAL_FROM = 0.9
"""Correlation of two patches from which their landmarks agree."""

AGREEING_MIN, AGREEING_SHARE = 6, 0.3
"""Landmarks that must agree, and their share of those where both scans have pixels."""

_NEAR, _LOW = 0.25, 3


@dataclasses.dataclass(frozen=True)
class Landmarks:
    """Of one scan on one grid.

    Attributes:
      places: `[n, 2]` rows and columns.
      patches: `[n, PATCH_PX ** 2]` float32, mean 0 and length 1.
    """

    places: np.ndarray
    patches: np.ndarray


def landmarks(counts: np.ndarray, pixel_size_mm: tuple[float, float]) -> dict[str, Landmarks]:
    """Landmarks on the grid of the pixels, which finds cut-outs of any pixel size, and on one in mm.

    Args:
      counts: `[rows, columns]`.
      pixel_size_mm: of rows and columns.
    """
    level = np.sqrt(counts.astype(np.float32))
    zoom = [size / GRID_MM for size in pixel_size_mm]
    # What does not fit the coarser grid is smoothed away first.
    smooth = ndimage.gaussian_filter(level, [max(0.5 * (1 / factor - 1), 0.0) for factor in zoom])
    coarse = ndimage.zoom(smooth, zoom, order=1, grid_mode=True, mode="nearest")
    return {"pixels": _on_grid(level), "mm": _on_grid(coarse)}


def _on_grid(level: np.ndarray) -> Landmarks:
    half = PATCH_PX // 2
    margin = half + round(2 * SMOOTHED_PX)
    smooth = ndimage.gaussian_filter(level, SMOOTHED_PX)
    peaks = smooth == ndimage.maximum_filter(smooth, 2 * APART_PX + 1)
    peaks[:margin] = peaks[-margin:] = peaks[:, :margin] = peaks[:, -margin:] = False
    places = np.argwhere(peaks & (smooth > smooth.mean()))
    hottest = np.argsort(-smooth[tuple(places.T)], kind="stable")[:LANDMARKS_MAX]
    places = places[hottest]
    patches = np.array(
        [smooth[row - half : row + half, column - half : column + half].ravel() for row, column in places], np.float32
    ).reshape(-1, PATCH_PX**2)
    patches -= patches.mean(axis=1, keepdims=True)
    length = np.linalg.norm(patches, axis=1, keepdims=True)
    varied = length[:, 0] > 0
    return Landmarks(places[varied], patches[varied] / length[varied])


def copies(scans: Sequence[dict[str, Landmarks]], digests: Sequence[str]) -> dict[int, list[int]]:
    """Number of a scan -> smaller numbers of scans that it is a copy of, where there are any.

    Args:
      scans: landmarks of each.
      digests: of their counts; scans of one digest are copies, however few landmarks they have.
    """
    found: set[tuple[int, int]] = set()
    alike: dict[str, list[int]] = defaultdict(list)
    for number, digest in enumerate(digests):
        found |= {(other, number) for other in alike[digest]}
        alike[digest].append(number)
    for grid in ("pixels", "mm"):
        found |= set(_copies([scan[grid] for scan in scans]))
    originals: dict[int, list[int]] = defaultdict(list)
    for original, copy in sorted(found):
        originals[copy].append(original)
    return originals


def _copies(scans: Sequence[Landmarks]) -> Iterable[tuple[int, int]]:
    owners = np.array([number for number, own in enumerate(scans) for _ in own.places], int)
    if not owners.size:
        return
    places = np.concatenate([own.places for own in scans])
    patches = np.concatenate([own.patches for own in scans])
    square = patches.reshape(-1, PATCH_PX, PATCH_PX)
    coarse = dctn(square, axes=(1, 2), norm="ortho")[:, :_LOW, :_LOW].reshape(len(patches), -1)
    near = cKDTree(coarse).query_pairs(_NEAR, output_type="ndarray")
    near = near[owners[near[:, 0]] != owners[near[:, 1]]]
    equal = (patches[near[:, 0]] * patches[near[:, 1]]).sum(axis=1) > EQUAL_FROM
    agreeing: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for one, other in near[equal].tolist():
        if owners[one] > owners[other]:
            one, other = other, one
        row, column = (places[one] - places[other]).tolist()
        agreeing[int(owners[one]), int(owners[other])].append((row, column))
    for pair, shifts in agreeing.items():
        votes = Counter((row + i, column + j) for row, column in shifts for i in (-1, 0, 1) for j in (-1, 0, 1))
        (shift, number), *_ = votes.most_common(1)
        one, other = (scans[number].places for number in pair)
        common = min(_inside(one, other + shift), _inside(other, one - np.array(shift)))
        if number >= max(AGREEING_MIN, AGREEING_SHARE * common):
            yield pair


def _inside(places: np.ndarray, others: np.ndarray) -> int:
    """How many places lie within the rectangle around the others."""
    return int(((places >= others.min(axis=0)) & (places <= others.max(axis=0))).all(axis=1).sum())
