"""What scoring a split gives, as it is kept in metrics.json, images.csv and lesions.csv (docs/metrics.md).

In memory an undefined score is NaN. A file has null or an empty cell there, which comes back as None.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from data_pipeline.reading import Count, Finite, Share

if TYPE_CHECKING:  # comparing runs does not wait for TensorFlow
    from data_pipeline.grid import Images

Length = Annotated[float, Meta(ge=0, le=1e9)]
PROBABILITY_SCORES = ("average_precision", "ece", "ece_above_lowest_bin", "brier", "froc_score")
"""Names of the scores that only probability maps have."""
Interval = tuple[Finite | None, Finite | None]
"""Ends of a 95 % interval."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageScores:
    """A row of images.csv.

    Attributes:
      image_id, patient, view: of the data set.
      tp, fp, fn: pixels.
      dsc, precision, recall: of these pixels.
      hd95_mm, nsd: of `contours.SurfaceScores`; UNSET in the cheap part, which does not measure them.
      lesions, detected, lesion_dsc_sum: lesions with pixels, those found, and the sum of their DSC.
      components, false_positives: predicted components, and those that touch no lesion.
      lesion_count_error: components - lesions.
      lesions_without_pixels: lesions that have no pixel left on the grid.
      lesions_G, detected_G, lesion_dsc_sum_G: of the lesions in group G of `lesions.GROUPS`.
      replicate: fold or seed of a study, which pairs rows together with `image_id`; in no file.
    """

    image_id: str
    patient: str
    view: str
    tp: Count
    fp: Count
    fn: Count
    dsc: Share | None
    precision: Share | None
    recall: Share | None
    hd95_mm: Length | UnsetType | None = UNSET
    nsd: Share | UnsetType | None = UNSET
    lesions: Count
    detected: Count
    lesion_dsc_sum: Length
    components: Count
    false_positives: Count
    lesion_count_error: int
    lesions_without_pixels: Count
    lesions_small: Count
    detected_small: Count
    lesion_dsc_sum_small: Length
    lesions_medium: Count
    detected_medium: Count
    lesion_dsc_sum_medium: Length
    lesions_large: Count
    detected_large: Count
    lesion_dsc_sum_large: Length
    lesions_low_contrast: Count
    detected_low_contrast: Count
    lesion_dsc_sum_low_contrast: Length
    lesions_medium_contrast: Count
    detected_medium_contrast: Count
    lesion_dsc_sum_medium_contrast: Length
    lesions_high_contrast: Count
    detected_high_contrast: Count
    lesion_dsc_sum_high_contrast: Length
    lesions_isolated: Count
    detected_isolated: Count
    lesion_dsc_sum_isolated: Length
    lesions_clustered: Count
    detected_clustered: Count
    lesion_dsc_sum_clustered: Length
    lesions_visible: Count
    detected_visible: Count
    lesion_dsc_sum_visible: Length
    lesions_hidden: Count
    detected_hidden: Count
    lesion_dsc_sum_hidden: Length
    replicate: int | UnsetType = UNSET


@dataclasses.dataclass(frozen=True, kw_only=True)
class LesionScores:
    """A row of lesions.csv.

    Attributes:
      image_id, patient: of the data set.
      lesion: number in the image's instance mask.
      bone, size_mm, contrast, cnr, visible: what the data set says of it.
      clustered: whether another lesion is near.
      pixels, found: of its mask, and how many of them are predicted.
      detected: whether that share reaches the rule's minimum.
      dsc: of its mask with its own prediction.
      peak_probability: of its best candidate; None without one, and for maps that are no probabilities.
    """

    image_id: str
    patient: str
    lesion: Count
    bone: str | None
    size_mm: Length | None
    contrast: Finite | None
    cnr: Finite | None
    visible: bool | None
    clustered: bool
    pixels: Count
    found: Count
    detected: bool
    dsc: Share
    peak_probability: Share | None


@dataclasses.dataclass(frozen=True)
class Threshold:
    """The probability above which a pixel is predicted lesion.

    Attributes:
      value: in (0, 1).
      rule: where it comes from.
      validation_dsc_pooled: pooled DSC that it gives on the validation patients.
    """

    value: Annotated[float, Meta(gt=0, lt=1)]
    rule: Literal["fixed", "validation", "given"]
    validation_dsc_pooled: Share | None


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A strictly increasing map of a network's logits z, linear between knots k (`field_maps.calibrate`).

    g(z) = level + s_0 min(z - k_0, 0) + sum over j of s_j clip(z - k_(j-1), 0, k_j - k_(j-1)) + s_n max(z - k_(n-1), 0)

    Attributes:
      knots: n logits, ascending.
      level: g at the first of them.
      slopes: n + 1 slopes s, below the first knot, between knots, above the last one.
    """

    knots: Annotated[tuple[Finite, ...], Meta(min_length=1, max_length=64)]
    level: Finite
    slopes: tuple[Annotated[float, Meta(gt=0, le=1e3)], ...]

    def __post_init__(self) -> None:
        if len(self.slopes) != len(self.knots) + 1 or list(self.knots) != sorted(set(self.knots)):
            raise ValueError("a calibration has ascending knots and a slope more than knots")


@dataclasses.dataclass(frozen=True)
class Summary:
    """Scores and counts of a split under their names in docs/metrics.md; NaN where undefined.

    Attributes:
      values: name -> value.
      intervals: name -> ends of the 95 % interval over patients; none in the cheap part.

    Example:
      >>> summary = Summary({"dsc_pooled": 0.5, "images": 2}, {"dsc_pooled": (0.25, 0.75)})
      >>> summary["dsc_pooled"], summary.flat()
      (0.5, {'dsc_pooled': 0.5, 'images': 2, 'intervals': {'dsc_pooled': (0.25, 0.75)}})
    """

    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        return self.values[name]

    def flat(self) -> dict[str, object]:
        """As metrics.json holds it."""
        return {**self.values, **({"intervals": self.intervals} if self.intervals else {})}


@dataclasses.dataclass(frozen=True)
class SizeBin:
    """Lesions of `from_mm` up to, not including, `to_mm` (None: no limit): recall and mean DSC, with intervals."""

    from_mm: Length
    to_mm: Length | None
    lesions: Count
    recall: Share | None
    recall_interval: Interval
    dsc_mean: Share | None
    dsc_mean_interval: Interval


@dataclasses.dataclass(frozen=True)
class BoneBin:
    """Lesions of one kind of bone: recall and mean DSC, with intervals."""

    bone: str
    lesions: Count
    recall: Share | None
    recall_interval: Interval
    dsc_mean: Share | None
    dsc_mean_interval: Interval


class CalibrationBin(Struct, frozen=True, kw_only=True, rename={"low": "from", "high": "to"}):
    """Pixels whose probability is above `low` and at most `high`; `from` is no name that Python allows."""

    low: Share
    high: Share
    pixels: Count
    probability_mean: Share | None
    lesion_share: Share | None


@dataclasses.dataclass(frozen=True)
class PrecisionRecall:
    """Points of the curve over all pixels, from the highest threshold down."""

    threshold: tuple[Share, ...]
    precision: tuple[Share, ...]
    recall: tuple[Share, ...]

    def __post_init__(self) -> None:
        _check_lengths(self.threshold, self.precision, self.recall)


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """Sensitivity at some false positives per scan, with its interval."""

    false_positives_per_image: Length
    sensitivity: Share | None
    interval: Interval


@dataclasses.dataclass(frozen=True)
class Froc:
    """Points of the curve at which another lesion is found; the first threshold is infinite, in a file None."""

    threshold: Annotated[tuple[float | None, ...], Meta(min_length=1)]
    false_positives_per_image: tuple[Length, ...]
    sensitivity: tuple[Share | None, ...]
    operating_points: Annotated[tuple[OperatingPoint, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        _check_lengths(self.threshold, self.false_positives_per_image, self.sensitivity)


def _check_lengths(*columns: Sized) -> None:
    if len(set(map(len, columns))) > 1:
        raise ValueError(f"the points have {' and '.join(str(len(column)) for column in columns)} numbers")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LesionBins:
    """Tables of recall and DSC."""

    sizes: Annotated[tuple[SizeBin, ...], Meta(min_length=1)]
    bones: tuple[BoneBin, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curves:
    """What only probability maps have."""

    calibration: tuple[CalibrationBin, ...]
    precision_recall: PrecisionRecall
    froc: Froc


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Result on one split.

    Attributes:
      summary: scores, and in the whole protocol their intervals.
      images: rows of images.csv.
      lesions: rows of lesions.csv.
      probabilities: `[n, rows, columns]` float32; of a split on disk they are made anew when they are asked for.
      curves: None for maps that are no probabilities, and in the cheap part.
      lesion_bins: None in the cheap part.
    """

    summary: Summary
    images: Sequence[ImageScores]
    lesions: Sequence[LesionScores]
    probabilities: Images
    curves: Curves | None = None
    lesion_bins: LesionBins | None = None
