"""cases.npz: scan, lesion instances and probability of scored images, small enough to lie beside metrics.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data_pipeline.errors import RequestError
from data_pipeline.files import whole_files
from data_pipeline.reading import read_arrays

FILE = "cases.npz"
KEPT_MAX = 1000
"""Images that are kept at most: the first ones of images.csv."""
LEVELS = 1000
"""Probabilities are kept in thousandths, the steps in which a threshold is chosen; one of them is the threshold."""
UPTAKE_MAX = 3.0
"""Normalised uptake at which a kept scan is black; the body is at 1."""

_REMEDY = "msanet evaluate writes it again"
_THRESHOLDS = (np.arange(LEVELS + 1) / LEVELS).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Cases:
    """Images of one split in the order of images.csv, the first `KEPT_MAX` of them.

    Attributes:
      image_ids: `[n]` of str.
      uptake: `[n, rows, columns]` uint8, 255 x normalised uptake / UPTAKE_MAX, at most 255.
      instances: `[n, rows, columns]` uint8, lesion number as in lesions.csv, 0 background.
      level: `[n, rows, columns]` uint16, number of thousandths 0, 0.001, ..., 1 that the probability exceeds.
    """

    image_ids: np.ndarray
    uptake: np.ndarray
    instances: np.ndarray
    level: np.ndarray


def compact_cases(images: Iterable[tuple[str, np.ndarray, np.ndarray, np.ndarray]], *, threshold: float) -> Cases:
    """Rounds to what is kept, image by image.

    Args:
      images: of each, its name, and `[rows, columns]` normalised uptake, lesion numbers of at most 255, and float32
        probabilities in [0, 1].
      threshold: takes the place of the thousandth nearest to it: a calibrated one need not be such a number.

    Returns:
      The arrays; `level > k` marks exactly the pixels that `probabilities > k / 1000` marks in float32, and with k =
      round(1000 threshold) below 1000 those of the threshold.
    """
    steps = _THRESHOLDS.copy()
    steps[round(LEVELS * threshold)] = threshold
    names, uptakes, instances, levels = [], [], [], []
    for name, uptake, ids, probability in images:
        level = np.searchsorted(steps, np.asarray(probability, np.float32), side="left")
        names.append(name)
        uptakes.append(np.clip(np.round(255.0 * uptake / UPTAKE_MAX), 0.0, 255.0).astype(np.uint8))
        instances.append(ids.astype(np.uint8))
        levels.append(np.minimum(level, LEVELS).astype(np.uint16))
    return Cases(np.array(names, dtype=np.str_), np.stack(uptakes), np.stack(instances), np.stack(levels))


def write_cases(folder: Path, cases: Cases) -> None:
    """Writes cases.npz, compressed."""
    with whole_files(folder, [FILE]) as beside:
        np.savez_compressed(beside / FILE, **dataclasses.asdict(cases))


def read_cases(folder: Path) -> Cases | None:
    """The cases of a scored folder; None where it keeps none.

    Raises:
      RequestError: the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    names = [field.name for field in dataclasses.fields(Cases)]
    stored = read_arrays(path, names.__contains__, remedy=_REMEDY)
    missing = [name for name in names if name not in stored]
    if missing:
        raise RequestError(f"{path}: lacks {missing[0]}; {_REMEDY}")
    cases = Cases(**{name: stored[name] for name in names})
    arrays = (cases.uptake, cases.instances, cases.level)
    fit = len({array.shape for array in arrays}) == 1 and cases.uptake.ndim == 3
    fit = fit and cases.image_ids.dtype.kind == "U" and cases.image_ids.shape == cases.uptake.shape[:1]
    fit = fit and [array.dtype for array in arrays] == [np.uint8, np.uint8, np.uint16]
    if not fit or cases.level.max(initial=0) > LEVELS:
        raise RequestError(f"{path}: its arrays do not fit together; {_REMEDY}")
    return cases
