"""Which lesion is which: across the two views of a patient, and across two points in time.

Both work on the records alone (STEM.json), in millimetres from landmarks of the patient: columns from the body's
midline, rows from the image's or the thorax field's first row. Two lesions match if they are at most a tolerance apart;
matching is one to one, as many pairs as possible, then the smallest sum of distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from data_pipeline.scan import View
from data_pipeline.thorax import FIELD_MM
from msanet_jax.prediction.records import ScanRecord

VIEWS_TOLERANCE_MM = 15.0
"""Between the views of one acquisition; docs/outputs.md says what that finds and confuses on simulated patients."""

FOLLOW_UP_TOLERANCE_MM = 25.0
"""Between two acquisitions: the patient lies differently and the thorax field is found anew."""


def match_positions(first: np.ndarray, second: np.ndarray, tolerance_mm: float) -> list[tuple[int, int, float]]:
    """Pairs (i, j, distance) of points `[n, 2]` and `[m, 2]` in mm that are at most `tolerance_mm` apart, by i."""
    if not len(first) or not len(second):
        return []
    distance = np.linalg.norm(first[:, None, :] - second[None, :, :], axis=-1)
    # A pair beyond the tolerance costs more than any number of pairs within it.
    cost = np.where(distance <= tolerance_mm, distance, tolerance_mm * (1 + len(first) + len(second)))
    rows, columns = linear_sum_assignment(cost)
    return [
        (int(i), int(j), float(distance[i, j]))
        for i, j in zip(rows, columns, strict=True)
        if distance[i, j] <= tolerance_mm
    ]


def match_views(anterior: ScanRecord, posterior: ScanRecord) -> list[tuple[int, int, float]]:
    """Lesion ids (anterior, posterior, distance in mm) of what both views of one acquisition show.

    Opposite detectors see the same rows and mirrored columns. Where the images differ in size, rows count from the
    thorax field.
    """
    same = anterior.shape_px == posterior.shape_px and anterior.pixel_size_mm == posterior.pixel_size_mm
    pairs = match_positions(
        positions_mm(anterior, from_field=not same), positions_mm(posterior, from_field=not same), VIEWS_TOLERANCE_MM
    )
    return [_ids(anterior, posterior, pair) for pair in pairs]


def match_times(now: ScanRecord, earlier: ScanRecord) -> list[tuple[int, int, float]]:
    """Lesion ids (now, earlier, distance in mm) of what the same view shows at both times."""
    pairs = match_positions(
        positions_mm(now, from_field=True), positions_mm(earlier, from_field=True), FOLLOW_UP_TOLERANCE_MM
    )
    return [_ids(now, earlier, pair) for pair in pairs]


def positions_mm(record: ScanRecord, *, from_field: bool) -> np.ndarray:
    """`[n, 2]`: every lesion's centre, downwards and to the patient's left of the body's midline.

    Args:
      record: of a view.
      from_field: rows from the thorax field's first row instead of the image's.
    """
    box, pixel = record.thorax_box_px, record.pixel_size_mm
    spacing = pixel or (FIELD_MM / box.size_px,) * 2
    midline = record.body_midline_column_px
    if midline is None:
        midline = box.column + (box.size_px - 1) / 2.0
    towards_left = -1.0 if record.view == View.POSTERIOR else 1.0
    first_row = box.row if from_field else 0.0
    return np.array(
        [
            (
                (lesion.centre_row_px - first_row) * spacing[0],
                towards_left * (lesion.centre_column_px - midline) * spacing[1],
            )
            for lesion in record.lesions
        ],
        float,
    ).reshape(-1, 2)


def _ids(first: ScanRecord, second: ScanRecord, pair: Sequence[Any]) -> tuple[int, int, float]:
    i, j, distance = pair
    return first.lesions[i].id, second.lesions[j].id, round(float(distance), 1)
