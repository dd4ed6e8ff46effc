"""Scores of a split from five images: two without a lesion, one of them without a mark."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from msanet_jax.evaluation.bootstrap import value
from msanet_jax.evaluation.lesions import GROUPS
from msanet_jax.evaluation.results import ImageScores
from msanet_jax.evaluation.statistics import columns, counts, number, statistics
from tests.fakes import image_scores

FIELDS = (
    *("tp", "fp", "fn", "dsc", "hd95_mm", "nsd"),
    *("lesions", "detected", "lesion_dsc_sum", "false_positives", "lesion_count_error", "lesions_without_pixels"),
)
CELLS: tuple[tuple[Any, ...], ...] = (
    (6, 2, 2, 0.75, 4.0, 0.8, 2, 1, 0.9, 1, -1, 1),
    (0, 5, 0, 0.0, None, 0.0, 0, 0, 0.0, 4, 4, 0),  # marks without a lesion
    (1, 0, 3, 0.4, 10.0, 0.5, 1, 1, 0.4, 0, 0, 2),
    (0, 0, 0, None, None, None, 0, 0, 0.0, 0, 0, 0),  # neither: every score of it is undefined
    (0, 1, 4, 0.0, 40.0, 0.1, 1, 0, 0.0, 1, 0, 0),
)


def _rows() -> list[ImageScores]:
    rows = []
    for place, cells in enumerate(CELLS):
        row: dict[str, Any] = {"image_id": f"i{place}", "patient": f"p{place // 2}", "view": "anterior"}
        row |= dict(zip(FIELDS, cells, strict=True))
        for order, group in enumerate(GROUPS):
            row |= {f"lesions_{group}": order + 2, f"detected_{group}": place % 2, f"lesion_dsc_sum_{group}": order + 1}
        rows.append(image_scores(**row))
    return rows


TABLE = columns(_rows())
SCORES = {name: value(statistic, len(CELLS)) for name, statistic in statistics(TABLE).items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dsc_pooled", 2 * 7 / (2 * 7 + 8 + 9)),
        ("precision_pooled", 7 / 15),
        ("recall_pooled", 7 / 16),
        # Of the three images with a lesion; the marks on a healthy one would draw it down.
        ("dsc_mean", (0.75 + 0.4 + 0.0) / 3),
        ("dsc_median", 0.4),
        ("nsd_mean", (0.8 + 0.5 + 0.1) / 3),
        ("nsd_median", 0.5),
        ("hd95_mm_mean", (4.0 + 10.0 + 40.0) / 3),
        ("hd95_mm_median", 10.0),
        ("lesion_recall", 2 / 4),
        ("lesion_dsc_mean", 1.3 / 4),
        # Over all five images, diseased or not.
        ("false_positives_per_image", 6 / 5),
        ("lesion_count_error_mean", 3 / 5),
        ("lesion_count_error_abs_mean", 5 / 5),
    ],
)
def test_scores_by_hand(name: str, expected: float) -> None:
    assert SCORES[name] == pytest.approx(expected)


def test_scores_of_groups_by_hand() -> None:
    for order, group in enumerate(GROUPS):
        assert SCORES[f"lesion_recall_{group}"] == pytest.approx(2 / (5 * (order + 2)))
        assert SCORES[f"lesion_dsc_mean_{group}"] == pytest.approx((order + 1) / (order + 2))


def test_samples_without_lesion() -> None:
    """A sample of the healthy images alone: DSC of all pixels is 0, what is taken over diseased images is undefined."""
    healthy = np.array([[0, 2, 0, 3, 0]])
    found = {name: float(statistic(healthy)[0]) for name, statistic in statistics(TABLE).items()}
    assert found["dsc_pooled"] == found["precision_pooled"] == 0.0
    assert found["false_positives_per_image"] == pytest.approx(2 * 4 / 5)
    for name in ("recall_pooled", "dsc_mean", "dsc_median", "nsd_mean", "nsd_median", "hd95_mm_mean", "lesion_recall"):
        assert math.isnan(found[name]), name


def test_counts_by_hand() -> None:
    found = counts(TABLE)
    assert {name: found[name] for name in found if not name.startswith("lesions_") or name.endswith("pixels")} == {
        "images": 5,
        "images_without_lesion": 2,
        "images_without_prediction": 1,
        "images_with_undefined_dsc": 1,
        "false_positive_pixels_without_lesion": 5,
        "images_with_undefined_hd95": 2,
        "images_with_undefined_nsd": 1,
        "lesions": 4,
        "lesions_without_pixels": 3,
    }
    assert [found[f"lesions_{group}"] for group in GROUPS] == [5 * (order + 2) for order in range(len(GROUPS))]


def test_cells_that_are_empty_are_undefined() -> None:
    assert math.isnan(number(None))
    assert (number(0), number(0.5), number(True)) == (0.0, 0.5, 1.0)
    assert not {"image_id", "patient", "view"} & set(TABLE)
