"""Recall and DSC by size and by bone, by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from msanet_jax.evaluation.bins import bone_kind, lesion_bins
from msanet_jax.evaluation.results import LesionScores, SizeBin
from tests.fakes import image_scores

IMAGES = [image_scores(image_id=f"i{number}") for number in range(3)]
ONCE = [np.ones((1, 3))]


def _lesion(image: int, size: float | None, *, detected: bool = True, dsc: float = 0.5, bone: str = "") -> LesionScores:
    rest = dict.fromkeys(("contrast", "cnr", "visible", "peak_probability"))
    cells = {"patient": "", "lesion": 1, "clustered": False, "pixels": 1, "found": 1, **rest}
    return LesionScores(image_id=f"i{image}", size_mm=size, detected=detected, dsc=dsc, bone=bone, **cells)


def _filled(rows: Sequence[SizeBin]) -> dict[float, int]:
    return {row.from_mm: row.lesions for row in rows if row.lesions}


@pytest.mark.parametrize(
    ("size", "lower"), [(0.0, 0.0), (9.9, 0.0), (10.0, 10.0), (15.0, 15.0), (30.0, 30.0), (44.9, 30.0), (45.0, 45.0)]
)
def test_a_bin_holds_its_lower_edge(size: float, lower: float) -> None:
    assert _filled(lesion_bins(IMAGES, [_lesion(0, size)], ONCE).sizes) == {lower: 1}


def test_bins_of_sizes_by_hand() -> None:
    """Three lesions of 20 to 30 mm, two of them found; one of unknown size is in no bin."""
    lesions = [
        _lesion(0, 20.0, dsc=0.5),
        _lesion(0, 25.0, detected=False, dsc=0.1),
        _lesion(2, 29.0, dsc=0.9),
        _lesion(1, 90.0, detected=False, dsc=0.0),
        _lesion(1, None),
    ]
    # Two samples: image 0 twice, image 2 once; image 1 alone.
    rows = lesion_bins(IMAGES, lesions, [np.array([[2, 0, 1]]), np.array([[0, 3, 0]])]).sizes
    assert [(row.from_mm, row.to_mm) for row in rows] == [
        (0.0, 10.0),
        (10.0, 15.0),
        (15.0, 20.0),
        (20.0, 30.0),
        (30.0, 45.0),
        (45.0, None),
    ]
    chosen = rows[3]
    assert chosen.lesions == 3
    assert chosen.recall == pytest.approx(2 / 3)
    assert chosen.dsc_mean == pytest.approx(1.5 / 3)
    # The second sample holds none of them and is left out: sums of (2 + 0 + 1) and (1.0 + 0.2 + 0.9) over 5 lesions.
    assert chosen.recall_interval == pytest.approx((3 / 5, 3 / 5))
    assert chosen.dsc_mean_interval == pytest.approx((2.1 / 5, 2.1 / 5))
    assert rows[5].recall == rows[5].dsc_mean == 0.0
    assert rows[0].lesions == 0
    assert math.isnan(rows[0].recall) and math.isnan(rows[0].recall_interval[0])


def test_bones_by_hand() -> None:
    """Sides and numbers do not count; the most frequent first, then by name; no bone, no row."""
    lesions = [
        _lesion(0, 9.0, bone="sternum"),
        _lesion(0, 9.0, bone="rib_5_left", dsc=0.2),
        _lesion(1, 9.0, bone="rib_11_right", dsc=0.4, detected=False),
        _lesion(2, 9.0, bone="clavicle_left"),
        _lesion(2, 9.0, bone=""),
    ]
    rows = lesion_bins(IMAGES, lesions, [np.array([[0, 3, 0]])]).bones
    assert [(row.bone, row.lesions) for row in rows] == [("rib", 2), ("clavicle", 1), ("sternum", 1)]
    assert (rows[0].recall, rows[0].dsc_mean) == pytest.approx((1 / 2, 0.3))
    assert rows[0].recall_interval == (0.0, 0.0)
    assert rows[0].dsc_mean_interval == pytest.approx((0.4, 0.4))
    assert bone_kind("thoracic_7") == "thoracic"
    assert bone_kind("iliac_crest_right") == "iliac_crest"
