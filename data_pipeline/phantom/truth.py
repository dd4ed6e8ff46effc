"""Masks of lesions and benign spots in one view, and what two virtual readers would draw."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.ndimage import gaussian_filter

from data_pipeline.phantom.lesions import Spot, SpotFacts
from data_pipeline.phantom.priors.lesions import TruthRules

MASKS = ("lesions", "lesions_all", "lesions_isocontour", "reader_1", "reader_2", "benign")
"""All masks of a view, by the names of `Masks`."""

FOOTPRINT_PX = 0.7
"""Standard deviation that turns points 2.5 mm apart into a filled projection."""

MARGIN_PX = 14


@dataclasses.dataclass(frozen=True)
class Projection:
    """A spot as the detector would see it: a patch of the image.

    Attributes:
      rows, columns: slices of the image that the patch covers.
      geometric: attenuated line integrals, not blurred by the camera.
      counts: expected counts, blurred at the spot's depth.
      sign: 1, or -1 of a cold spot, whose missing counts are given as positive ones.
    """

    rows: slice
    columns: slice
    geometric: np.ndarray
    counts: np.ndarray
    sign: int = 1


@dataclasses.dataclass(frozen=True)
class SeenLesion(SpotFacts):
    """A metastasis in one view.

    Attributes:
      area_px: pixels of its mask, also of those that another lesion has in the scored mask.
      counts: that it adds; negative of a cold one.
      cnr: contrast-to-noise ratio.
      visible: whether a reader can see it.
    """

    area_px: int
    counts: float
    cnr: float
    visible: bool


@dataclasses.dataclass(frozen=True)
class Masks:
    """Instance ids `[rows, columns]` uint8, 0 where there is nothing.

    Attributes:
      lesions: visible lesions, attenuated projection above a fraction of its maximum: the scored truth.
      lesions_all: likewise, with the hidden lesions, whose contrast-to-noise no reader can see.
      lesions_isocontour: isocontour of the blurred noise-free lesion, visible ones alone.
      reader_1, reader_2: two virtual readers.
      benign: benign spots.
      lesion_rows: every lesion, hidden ones too.
    """

    lesions: np.ndarray
    lesions_all: np.ndarray
    lesions_isocontour: np.ndarray
    reader_1: np.ndarray
    reader_2: np.ndarray
    benign: np.ndarray
    lesion_rows: list[SeenLesion]


def project_spot(
    row: np.ndarray, column: np.ndarray, attenuated: np.ndarray, *, sigma_px: float, shape: tuple[int, int]
) -> Projection | None:
    """Deposits a spot's points bilinearly; None where they leave the image or carry nothing."""
    sign = 1 if attenuated.sum() >= 0 else -1
    attenuated = sign * attenuated
    if attenuated.sum() <= 0 or np.maximum(attenuated, 0.0).sum() <= 0:
        return None
    top, left = int(row.min()) - MARGIN_PX, int(column.min()) - MARGIN_PX
    bottom, right = int(row.max()) + MARGIN_PX + 2, int(column.max()) + MARGIN_PX + 2
    patch = np.zeros((bottom - top, right - left), np.float64)
    deposit(patch, row - top, column - left, attenuated)
    r0, r1 = max(top, 0), min(bottom, shape[0])
    c0, c1 = max(left, 0), min(right, shape[1])
    if r1 - r0 < 3 or c1 - c0 < 3:
        return None
    window = (slice(r0 - top, r1 - top), slice(c0 - left, c1 - left))
    return Projection(
        rows=slice(r0, r1),
        columns=slice(c0, c1),
        geometric=np.maximum(gaussian_filter(patch, FOOTPRINT_PX), 0.0)[window],
        counts=gaussian_filter(patch, sigma_px)[window],
        sign=sign,
    )


def deposit(image: np.ndarray, row: np.ndarray, column: np.ndarray, weight: np.ndarray) -> None:
    """Adds `weight` at fractional pixels, shared bilinearly; what falls outside is lost."""
    r, c = np.floor(row).astype(int), np.floor(column).astype(int)
    fr, fc = row - r, column - c
    for dr, wr in ((0, 1 - fr), (1, fr)):
        for dc, wc in ((0, 1 - fc), (1, fc)):
            inside = (r + dr >= 0) & (r + dr < image.shape[0]) & (c + dc >= 0) & (c + dc < image.shape[1])
            np.add.at(image, (r[inside] + dr, c[inside] + dc), (weight * wr * wc)[inside])


def draw_masks(
    lesions: list[tuple[Spot, Projection]],
    benign: list[tuple[Spot, Projection]],
    expected: np.ndarray,
    rules: TruthRules,
    random: np.random.Generator,
) -> Masks:
    """All masks of a view.

    Args:
      lesions: metastases with their projections, in counts.
      benign: likewise.
      expected: noise-free counts of the whole view.
      rules: fractions and thresholds.
      random: for the readers.
    """
    by_rule: dict[str, list[tuple[int, Projection, np.ndarray]]] = {key: [] for key in ("p", "a", "i", "1", "2")}
    rows = []
    for spot, seen in lesions:
        mask = scored_mask(seen, rules)
        cnr = _contrast_to_noise(seen, mask, expected)
        visible = cnr >= rules.visible_cnr
        by_rule["a"].append((spot.id, seen, mask))
        if visible:  # nobody can draw the others
            by_rule["p"].append((spot.id, seen, mask))
            by_rule["i"].append((spot.id, seen, _above(seen.counts, rules.isocontour_fraction)))
        for key, fraction in zip("12", rules.reader_fractions, strict=True):
            level = np.clip(fraction * (1.0 + rules.reader_jitter * random.standard_normal()), 0.15, 0.85)
            # A faint lesion is drawn by chance, a clear one almost always.
            drawn = random.uniform() < 1.0 / (1.0 + (rules.reader_half_cnr / max(cnr, 1e-3)) ** 3)
            if drawn:
                by_rule[key].append((spot.id, seen, _above(seen.counts, level)))
        rows.append(
            SeenLesion(
                **vars(spot.facts()),
                area_px=int(mask.sum()),
                counts=round(seen.sign * float(seen.counts.sum()), 1),
                cnr=round(cnr, 2),
                visible=bool(visible),
            )
        )
    shape = expected.shape
    return Masks(
        lesions=_instances(by_rule["p"], shape),
        lesions_all=_instances(by_rule["a"], shape),
        lesions_isocontour=_instances(by_rule["i"], shape),
        reader_1=_instances(by_rule["1"], shape),
        reader_2=_instances(by_rule["2"], shape),
        benign=_instances([(s.id, p, scored_mask(p, rules)) for s, p in benign], shape),
        lesion_rows=rows,
    )


def scored_mask(seen: Projection, rules: TruthRules) -> np.ndarray:
    """The projection above its fraction; of a lesion that is smaller than its isocontour, the isocontour."""
    projected, contour = (
        _above(seen.geometric, rules.projection_fraction),
        _above(seen.counts, rules.isocontour_fraction),
    )
    return projected if projected.sum() >= contour.sum() else contour


def _above(image: np.ndarray, fraction: float) -> np.ndarray:
    return image > fraction * image.max()


def _contrast_to_noise(seen: Projection, mask: np.ndarray, expected: np.ndarray) -> float:
    """Lesion counts within the mask over the square root of the other counts there."""
    signal = seen.counts[mask].sum()
    background = np.maximum(expected[seen.rows, seen.columns][mask].sum() - seen.sign * signal, 1.0)
    return float(signal / np.sqrt(background))


def _instances(entries: list[tuple[int, Projection, np.ndarray]], shape: tuple[int, ...]) -> np.ndarray:
    """Where masks overlap, the lesion that contributes most keeps the pixel."""
    ids = np.zeros(shape, np.uint8)
    strongest = np.zeros(shape, np.float64)
    for number, seen, mask in entries:
        window = (seen.rows, seen.columns)
        wins = mask & (seen.geometric + 1e-9 > strongest[window])
        ids[window][wins] = number
        strongest[window][wins] = seen.geometric[wins] + 1e-9
    return ids
