"""Scores of a split as functions of its per-image rows: sums first, division last.

Every score maps weights `[samples, images]` to values `[samples]` (`bootstrap.py`), so that the score, its bootstrap
interval and the paired difference of two runs come from one formula. The rows are those of images.csv.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from msanet_jax.evaluation.bootstrap import Statistic, mean, median, ratio
from msanet_jax.evaluation.lesions import GROUPS

Columns = Mapping[str, np.ndarray]
"""Column of images.csv -> `[images]` float64, NaN where the cell is empty."""


def columns(rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Numeric columns of the rows; undefined cells (None, empty text) become NaN."""
    names = [name for name in (rows[0] if rows else {}) if name not in ("image_id", "patient", "view")]
    return {name: np.array([number(row.get(name)) for row in rows], float) for name in names}


def number(cell: Any) -> float:
    """A cell of a JSON or CSV row as a number, NaN for an empty one."""
    return float("nan") if cell is None or cell == "" else float(cell)


def statistics(table: Columns) -> dict[str, Statistic]:
    """All scores that the columns allow, by the names they have in metrics.json."""
    found: dict[str, Statistic] = {}

    def add(name: str, function: Any, *arrays: np.ndarray) -> None:
        found[name] = functools.partial(_apply, function, arrays)

    tp, fp, fn = table["tp"], table["fp"], table["fn"]
    images = np.ones_like(tp)
    diseased = tp + fn > 0
    add("dsc_pooled", ratio, 2 * tp, 2 * tp + fp + fn)
    add("precision_pooled", ratio, tp, tp + fp)
    add("recall_pooled", ratio, tp, tp + fn)
    add("dsc_mean", mean, np.where(diseased, table["dsc"], np.nan))
    add("dsc_median", median, np.where(diseased, table["dsc"], np.nan))
    if "hd95_mm" in table:
        add("hd95_mm_mean", mean, table["hd95_mm"])
        add("hd95_mm_median", median, table["hd95_mm"])
        add("nsd_mean", mean, np.where(diseased, table["nsd"], np.nan))
        add("nsd_median", median, np.where(diseased, table["nsd"], np.nan))
    add("lesion_recall", ratio, table["detected"], table["lesions"])
    add("lesion_dsc_mean", ratio, table["lesion_dsc_sum"], table["lesions"])
    add("false_positives_per_image", ratio, table["false_positives"], images)
    add("lesion_count_error_mean", ratio, table["lesion_count_error"], images)
    add("lesion_count_error_abs_mean", ratio, np.abs(table["lesion_count_error"]), images)
    for group in GROUPS:
        add(f"lesion_recall_{group}", ratio, table[f"detected_{group}"], table[f"lesions_{group}"])
        add(f"lesion_dsc_mean_{group}", ratio, table[f"lesion_dsc_sum_{group}"], table[f"lesions_{group}"])
    return found


def _apply(function: Any, arrays: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    return function(weights, *arrays)


def counts(table: Columns) -> dict[str, int]:
    """Numbers that go with the scores: images, lesions, and how often which score is undefined."""
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
