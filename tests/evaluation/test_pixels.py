"""Pixel and lesion metrics: by hand, and against scikit-learn and scikit-image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from skimage.measure import label
from sklearn.metrics import f1_score, precision_score, recall_score

from data_pipeline.annotations.lesion_facts import LesionFacts
from msanet_jax.evaluation.lesions import LesionResult, lesion_groups, match_lesions, share_out
from msanet_jax.evaluation.pixels import PixelCounts, count_pixels, dsc, precision, quotient, recall


def test_counts_by_hand() -> None:
    truth = np.array([1, 1, 1, 0, 0, 0], bool)
    prediction = np.array([1, 0, 1, 1, 0, 0], bool)
    counts = count_pixels(truth, prediction)
    assert counts == PixelCounts(tp=2, fp=1, fn=1)
    assert counts.dsc == pytest.approx(2 / 3)
    assert counts.precision == counts.recall == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(5))
def test_counts_agree_with_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, prediction = random.random((2, 40, 40)) < random.uniform(0.02, 0.9, size=(2, 1, 1))
    counts = count_pixels(truth, prediction)
    flat = truth.ravel(), prediction.ravel()
    assert counts.dsc == pytest.approx(f1_score(*flat))
    assert counts.precision == pytest.approx(precision_score(*flat))
    assert counts.recall == pytest.approx(recall_score(*flat))


def test_empty_and_full() -> None:
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    nothing = count_pixels(empty, empty)
    assert math.isnan(nothing.dsc)
    assert math.isnan(nothing.precision)
    assert math.isnan(nothing.recall)
    assert count_pixels(full, full).dsc == 1.0
    missed, false = count_pixels(full, empty), count_pixels(empty, full)
    assert missed.dsc == false.dsc == 0.0
    assert missed.recall == 0.0
    assert math.isnan(missed.precision)
    assert math.isnan(false.recall)
    with pytest.raises(ValueError, match="differ in shape"):
        count_pixels(empty, np.zeros((4, 5), bool))


def test_pooling_sums_before_it_divides() -> None:
    tp, fp, fn = np.array([1, 0, 0]), np.array([0, 3, 0]), np.array([0, 9, 0])
    assert dsc(tp.sum(), fp.sum(), fn.sum()) == pytest.approx(2 / 14)
    assert precision(tp.sum(), fp.sum(), fn.sum()) == pytest.approx(1 / 4)
    assert recall(tp.sum(), fp.sum(), fn.sum()) == pytest.approx(1 / 10)
    for formula in (dsc, precision, recall):
        np.testing.assert_array_equal(formula(tp, fp, fn), [1.0, 0.0, np.nan])
    assert math.isnan(quotient(0, 0))
    assert math.isnan(quotient(1, 0))


def _scene() -> tuple[np.ndarray, np.ndarray]:
    """Lesion 1 half found, 2 missed, 3 touching 2 in a corner and found; one false component, one at the border."""
    ids = np.zeros((20, 20), np.uint8)
    ids[2:4, 2:6] = 1
    ids[10:12, 10:12] = 2
    ids[12:14, 12:14] = 3
    prediction = np.zeros((20, 20), bool)
    prediction[2:4, 2:4] = True
    prediction[12:14, 12:14] = True
    prediction[17, 3] = True
    prediction[0, 19] = True
    return ids, prediction


def test_lesions_by_hand() -> None:
    ids, prediction = _scene()
    result = match_lesions(
        ids,
        prediction,
        overlap_min=0.5,
        pixel_size_mm=(1.0, 1.0),
        facts=[
            LesionFacts(1, size_mm=10.0, visible=True, contrast=5.0),
            LesionFacts(3, size_mm=40.0, visible=False, contrast=10.5),
            LesionFacts(8, size_mm=5.0),
            LesionFacts(9, size_mm=5.0),
        ],
    )
    assert [(x.id, x.pixels, x.found, x.detected) for x in result.lesions] == [
        (1, 8, 4, True),
        (2, 4, 0, False),
        (3, 4, 4, True),
    ]
    assert [x.clustered for x in result.lesions] == [True, True, True]  # lesion 1 is 8.6 pixels from lesion 2
    assert result.false_positives == 2
    groups = {name: [x.id for x in members] for name, members in lesion_groups(result.lesions).items()}
    assert groups == {
        "small": [1],
        "medium": [],
        "large": [3],
        "low_contrast": [],
        "medium_contrast": [1],
        "high_contrast": [3],
        "isolated": [],
        "clustered": [1, 2, 3],
        "visible": [1],
        "hidden": [3],
    }
    assert result.components == 4
    assert result.without_pixels == 2


def test_overlap_rule_and_distance() -> None:
    ids, prediction = _scene()
    strict = match_lesions(ids, prediction, overlap_min=0.6, pixel_size_mm=(2.0, 2.0))
    assert [x.detected for x in strict.lesions] == [False, False, True]
    far = match_lesions(ids, prediction, overlap_min=0.5, pixel_size_mm=(2.0, 2.0))
    assert [x.clustered for x in far.lesions] == [False, True, True]


@pytest.mark.parametrize("seed", range(3))
def test_false_positives_agree_with_scikit_image(seed: int) -> None:
    random = np.random.default_rng(seed)
    ids = (random.random((30, 30)) < 0.05).astype(np.uint8)
    prediction = random.random((30, 30)) < 0.15
    components = label(prediction, connectivity=2)
    expected = sum(not ids[components == number].any() for number in range(1, components.max() + 1))
    assert match_lesions(ids, prediction, overlap_min=0.1, pixel_size_mm=(2.0, 2.0)).false_positives == expected


def test_lesion_dsc_by_hand() -> None:
    """Lesion 1 is found half, 2 with two pixels too many, 3 is missed; the false component belongs to nobody."""
    ids = np.zeros((12, 12), np.uint8)
    ids[1, 1:5] = 1
    ids[5, 5:9] = 2
    ids[9, 9:11] = 3
    prediction = np.zeros((12, 12), bool)
    prediction[1, 1:3] = True
    prediction[5, 4:10] = True
    prediction[11, 0:3] = True
    result = match_lesions(ids, prediction, overlap_min=0.1, pixel_size_mm=(1.0, 1.0))
    assert [x.dsc for x in result.lesions] == pytest.approx([2 * 2 / (4 + 2), 2 * 4 / (4 + 6), 0.0])
    assert result.false_positives == 1


def test_a_component_over_two_lesions_is_shared_out() -> None:
    """One stripe over lesions 1 (columns 0, 1) and 2 (columns 8, 9): each gets the half that is nearer."""
    ids = np.zeros((3, 10), np.uint8)
    ids[1, :2], ids[1, 8:] = 1, 2
    stripe = np.zeros((3, 10), int)
    stripe[1] = 1
    owners = share_out(ids, stripe, pixel_size_mm=(2.0, 2.0))
    assert owners[1].tolist() == [1, 1, 1, 1, 1, 2, 2, 2, 2, 2]
    assert not owners[[0, 2]].any()
    result = match_lesions(ids, stripe > 0, overlap_min=0.1, pixel_size_mm=(2.0, 2.0))
    assert [x.dsc for x in result.lesions] == pytest.approx([4 / 7, 4 / 7])
    assert result.components == 1


def test_a_component_is_not_shared_with_a_lesion_it_misses() -> None:
    """Lesion 2 is nearer to the component's end than lesion 1, which the component touches."""
    ids = np.zeros((5, 10), np.uint8)
    ids[1, :2], ids[3, 6:] = 1, 2
    stripe = np.zeros((5, 10), int)
    stripe[1, :7] = 1
    assert share_out(ids, stripe, pixel_size_mm=(1.0, 1.0))[1, :7].tolist() == [1] * 7


def test_lesions_that_touch_and_lie_on_the_border() -> None:
    ids = np.zeros((6, 6), np.uint8)
    ids[:3, 0], ids[3:, 0] = 1, 2
    whole = match_lesions(ids, ids > 0, overlap_min=1.0, pixel_size_mm=(2.0, 2.0))
    assert [x.dsc for x in whole.lesions] == [1.0, 1.0]
    assert whole.components == 1  # two lesions, one component: counted as an error of -1
    full = match_lesions(ids, np.ones((6, 6), bool), overlap_min=1.0, pixel_size_mm=(2.0, 2.0))
    assert [x.dsc for x in full.lesions] == pytest.approx([2 * 3 / (3 + 18)] * 2)
    assert full.false_positives == 0
    none = match_lesions(ids, np.zeros((6, 6), bool), overlap_min=0.1, pixel_size_mm=(2.0, 2.0))
    assert [(x.detected, x.dsc) for x in none.lesions] == [(False, 0.0)] * 2


def test_pixels_need_not_be_square() -> None:
    """Ten rows apart: 10 mm with rows of 1 mm, 20 mm with rows of 2 mm."""
    ids = np.zeros((12, 3), np.uint8)
    ids[0, 1], ids[10, 1] = 1, 2
    nothing = np.zeros((12, 3), bool)
    near = match_lesions(ids, nothing, overlap_min=0.1, pixel_size_mm=(1.0, 2.0))
    far = match_lesions(ids, nothing, overlap_min=0.1, pixel_size_mm=(2.0, 1.0))
    assert [x.clustered for x in near.lesions] == [True, True]
    assert [x.clustered for x in far.lesions] == [False, False]


def test_a_lesion_that_is_not_touched_takes_no_pixel() -> None:
    """A stripe over lesions 1 and 2 passes lesion 3 at two pixels: its middle is nearest to 3, which has no part."""
    ids = np.zeros((4, 12), np.uint8)
    ids[0, :2], ids[0, 10:], ids[2, 5:7] = 1, 2, 3
    stripe = np.zeros((4, 12), int)
    stripe[0] = 1
    assert share_out(ids, stripe, pixel_size_mm=(1.0, 1.0))[0].tolist() == [1] * 6 + [2] * 6
    result = match_lesions(ids, stripe > 0, overlap_min=0.1, pixel_size_mm=(1.0, 1.0))
    assert [x.dsc for x in result.lesions] == pytest.approx([4 / 8, 4 / 8, 0.0])


def test_pixels_are_shared_out_by_mm() -> None:
    """The bend of an L is four rows of 1 mm from lesion 1 and three columns of 2 mm from lesion 2."""
    ids = np.zeros((5, 4), np.uint8)
    ids[0, 0], ids[4, 3] = 1, 2
    bent = np.zeros((5, 4), int)
    bent[:, 0] = bent[4] = 1
    owners = share_out(ids, bent, pixel_size_mm=(1.0, 2.0))
    assert owners[:, 0].tolist() == [1, 1, 1, 1, 1]
    assert owners[4].tolist() == [1, 2, 2, 2]
    assert share_out(ids, bent, pixel_size_mm=(1.0, 1.0))[4].tolist() == [2, 2, 2, 2]
    # The same through the matching, whose DSC takes these pixels: 5 of lesion 1, 3 of lesion 2.
    result = match_lesions(ids, bent > 0, overlap_min=0.1, pixel_size_mm=(1.0, 2.0))
    assert [x.dsc for x in result.lesions] == pytest.approx([2 / 6, 2 / 4])


@pytest.mark.parametrize(("columns", "clustered"), [(3, True), (4, False)])
def test_lesions_at_15_mm_are_clustered(columns: int, clustered: bool) -> None:
    ids = np.zeros((3, 12), np.uint8)
    ids[1, 5], ids[1, 5 + columns] = 1, 2
    result = match_lesions(ids, ids > 0, overlap_min=0.1, pixel_size_mm=(9.0, 5.0))
    assert [x.clustered for x in result.lesions] == [clustered] * 2


def test_neighbours_are_as_near_as_their_nearest_pixels() -> None:
    """A lesion 40 mm long begins 4 mm beside a small one; alone in its image, in whatever corner, a lesion has none."""
    ids = np.zeros((3, 30), np.uint8)
    ids[1, 2], ids[1, 4:24] = 1, 2
    result = match_lesions(ids, ids > 0, overlap_min=0.1, pixel_size_mm=(2.0, 2.0))
    assert [x.clustered for x in result.lesions] == [True, True]
    alone = np.zeros((3, 3), np.uint8)
    alone[0, 0] = 4
    assert not match_lesions(alone, alone > 0, overlap_min=0.1, pixel_size_mm=(2.0, 2.0)).lesions[0].clustered


def test_groups_at_their_limits() -> None:
    """15 and 30 mm are medium, a contrast of 5 and 10 too; an unknown size, contrast or visibility is in no group."""

    def lesion(number: int, **known: Any) -> LesionResult:
        facts = LesionFacts(number, **known)
        return LesionResult(id=number, pixels=1, found=0, detected=False, dsc=0.0, clustered=number == 2, facts=facts)

    lesions = [
        lesion(1, size_mm=14.9, contrast=4.9, visible=False),
        lesion(2, size_mm=15.0, contrast=5.0, visible=True),
        lesion(3, size_mm=30.0, contrast=10.0, visible=True),
        lesion(4, size_mm=30.1, contrast=10.1, visible=True),
        lesion(5, size_mm=None),
    ]
    groups = {name: [x.id for x in members] for name, members in lesion_groups(lesions).items()}
    assert groups == {
        "small": [1],
        "medium": [2, 3],
        "large": [4],
        "low_contrast": [1],
        "medium_contrast": [2, 3],
        "high_contrast": [4],
        "isolated": [1, 3, 4, 5],
        "clustered": [2],
        "visible": [2, 3, 4],
        "hidden": [1],
    }


def test_components_touch_diagonally() -> None:
    """Two pixels that meet in a corner are one component, a true one if either lies on a lesion."""
    ids, prediction = np.zeros((4, 4), np.uint8), np.zeros((4, 4), bool)
    ids[0, 0] = 1
    prediction[0, 0] = prediction[1, 1] = True
    result = match_lesions(ids, prediction, overlap_min=1.0, pixel_size_mm=(1.0, 1.0))
    assert (result.components, result.false_positives) == (1, 0)
    assert result.lesions[0].dsc == pytest.approx(2 / 3)
