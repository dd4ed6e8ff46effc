"""Scores of a split as functions of its per-image rows: sums first, division last.

Every score maps weights `[samples, images]` to values `[samples]` (`bootstrap.py`), so that the score, its bootstrap
interval and the paired difference of two runs come from one formula. The rows are those of images.csv.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from msgspec import UNSET

from msanet_jax.evaluation.bootstrap import Statistic, mean, median, ratio
from msanet_jax.evaluation.lesions import GROUPS
from msanet_jax.evaluation.pixels import dsc, precision, recall
from msanet_jax.evaluation.results import ImageScores

POOLED = (dsc, precision, recall)
"""Formulas of (tp, fp, fn); `NAME_pooled` is their value for the sums over all pixels."""

Columns = Mapping[str, np.ndarray]
"""Column of images.csv -> `[images]` float64, NaN where the cell is empty."""

_TEXTS = ("image_id", "patient", "view", "replicate")
"""Columns that name a row."""


def columns(rows: Sequence[ImageScores]) -> Columns:
    """Numeric columns of images; what the cheap part does not measure has no column.

    Args:
      rows: of images.csv or metrics.json.

    Example:
      >>> zeros = {field.name: 0 for field in dataclasses.fields(ImageScores)}
      >>> table = columns([ImageScores(**zeros | {"tp": 3, "dsc": 0.5}), ImageScores(**zeros | {"dsc": None})])
      >>> table["tp"].tolist(), table["dsc"].tolist(), "image_id" in table
      ([3.0, 0.0], [0.5, nan], False)
    """
    names = [field.name for field in dataclasses.fields(ImageScores) if field.name not in _TEXTS]
    table, measured = np.empty((len(names), len(rows))), set(names)
    for place, row in enumerate(rows):
        cells = [getattr(row, name) for name in names]
        measured -= {name for name, cell in zip(names, cells, strict=True) if cell is UNSET}
        table[:, place] = [float("nan") if cell is UNSET else number(cell) for cell in cells]
    return {name: column for name, column in zip(names, table, strict=True) if name in measured}


def number(cell: float | None) -> float:
    """A value of a row, NaN for None.

    Example:
      >>> number(3), number(None)
      (3.0, nan)
    """
    return float("nan") if cell is None else float(cell)


def statistics(table: Columns) -> dict[str, Statistic]:
    """All scores that the columns allow, by the names they have in metrics.json.

    Pooled scores divide sums over pixels. Means and medians of DSC and NSD are over the images that have a lesion.
    Units and ranges: docs/metrics.md.

    Args:
      table: of `columns`.

    Example:
      >>> sums = ("lesions", "detected", "lesion_dsc_sum")
      >>> names = ("tp", "fp", "fn", "dsc", *sums, "false_positives", "lesion_count_error")
      >>> cells = [(3, 1, 1, 0.75, 2, 1, 0.75, 0, -1), (0, 2, 0, 0.0, 0, 0, 0.0, 1, 1)]  # the second is healthy
      >>> groups = {f"{name}_{group}": np.zeros(2) for name in sums for group in GROUPS}
      >>> scores = statistics(dict(zip(names, np.array(cells).T, strict=True)) | groups)
      >>> every = np.ones((1, 2))
      >>> [float(scores[name](every)[0]) for name in ("dsc_pooled", "dsc_mean", "lesion_recall")]  # 6/10, 0.75, 1/2
      [0.6, 0.75, 0.5]
    """
    tp, fp, fn = table["tp"], table["fp"], table["fn"]
    images = np.ones_like(tp)

    found: dict[str, Statistic] = {
        f"{formula.__name__}_pooled": functools.partial(_pooled, formula, tp, fp, fn) for formula in POOLED
    }
    for name, values in averaged(table).items():
        found[f"{name}_mean"] = functools.partial(mean, values=values)
        found[f"{name}_median"] = functools.partial(median, values=values)
    quotients = {
        "lesion_recall": (table["detected"], table["lesions"]),
        "lesion_dsc_mean": (table["lesion_dsc_sum"], table["lesions"]),
        "false_positives_per_image": (table["false_positives"], images),
        "lesion_count_error_mean": (table["lesion_count_error"], images),
        "lesion_count_error_abs_mean": (np.abs(table["lesion_count_error"]), images),
    }
    for group in GROUPS:
        lesions = table[f"lesions_{group}"]
        quotients[f"lesion_recall_{group}"] = (table[f"detected_{group}"], lesions)
        quotients[f"lesion_dsc_mean_{group}"] = (table[f"lesion_dsc_sum_{group}"], lesions)
    for name, (numerator, denominator) in quotients.items():
        found[name] = functools.partial(ratio, numerator=numerator, denominator=denominator)
    return found


def averaged(table: Columns) -> dict[str, np.ndarray]:
    """Values of which `NAME_mean` and `NAME_median` are taken, NaN in the images that do not count.

    DSC and NSD count in images with a lesion, HD95 where truth and prediction both have one.

    Args:
      table: of `columns`.

    Example:
      >>> cells = {"tp": [2, 0], "fn": [1, 0], "dsc": [0.5, 0.0]}  # the second image has no lesion
      >>> averaged({name: np.array(values, float) for name, values in cells.items()})
      {'dsc': array([0.5, nan])}
    """

    def of_diseased(column: str) -> np.ndarray:
        return np.where(table["tp"] + table["fn"] > 0, table[column], np.nan)

    found = {"dsc": of_diseased("dsc")}
    if "hd95_mm" in table:
        found |= {"hd95_mm": table["hd95_mm"], "nsd": of_diseased("nsd")}
    return found


def _pooled(
    formula: Callable[..., np.ndarray], tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    return formula(weights @ tp, weights @ fp, weights @ fn)


def counts(table: Columns) -> dict[str, int]:
    """Numbers that go with the scores: images, lesions, and how often which score is undefined.

    Example:
      >>> names = ("tp", "fp", "fn", "dsc", "lesions", "lesions_without_pixels")
      >>> cells = np.array([(3, 1, 1, 0.75, 2, 0), (0, 2, 0, 0.0, 0, 1), (0, 0, 0, np.nan, 0, 0)]).T
      >>> groups = {f"lesions_{group}": np.zeros(3) for group in GROUPS}
      >>> found = counts(dict(zip(names, cells, strict=True)) | groups)
      >>> found["images"], found["images_without_lesion"], found["images_with_undefined_dsc"]
      (3, 2, 1)
      >>> found["false_positive_pixels_without_lesion"], found["lesions"]
      (2, 2)
    """
    lesion_pixels, marked = table["tp"] + table["fn"], table["tp"] + table["fp"]
    summary = {
        "images": len(lesion_pixels),
        "images_without_lesion": int((lesion_pixels == 0).sum()),
        "images_without_prediction": int((marked == 0).sum()),
        "images_with_undefined_dsc": int(np.isnan(table["dsc"]).sum()),
        "false_positive_pixels_without_lesion": int(table["fp"][lesion_pixels == 0].sum()),
    }
    if "hd95_mm" in table:
        summary["images_with_undefined_hd95"] = int(np.isnan(table["hd95_mm"]).sum())
        summary["images_with_undefined_nsd"] = int(np.isnan(table["nsd"]).sum())
    summary |= {
        "lesions": int(table["lesions"].sum()),
        "lesions_without_pixels": int(table["lesions_without_pixels"].sum()),
    }
    return summary | {f"lesions_{group}": int(table[f"lesions_{group}"].sum()) for group in GROUPS}
