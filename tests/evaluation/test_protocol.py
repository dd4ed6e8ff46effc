"""The protocol on scans scored by hand: mm of binned pixels, patients as the unit, rows and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from ml_collections import ConfigDict

from data_pipeline.annotations.lesion_facts import LesionFacts
from data_pipeline.features import BoneScans, ImageRow
from data_pipeline.grid import GridSplit
from msanet_jax.evaluation.bootstrap import bootstrap_weights, interval
from msanet_jax.evaluation.protocol import score
from tests.fakes import lesion_split

SIDE = 16
Place = tuple[int, int]


def _scans(
    lesions: Sequence[Mapping[int, Place]],
    *,
    patients: Sequence[str],
    factor: int = 1,
    facts: Sequence[LesionFacts] = (),
    size_px: int = SIDE,
) -> GridSplit:
    """Lesions of one (binned) pixel each, by id; pixels of 2 mm x 3 mm, `factor` of them to a binned one."""
    ids = np.zeros((len(lesions), SIDE, SIDE), np.uint8)
    for image, places in zip(ids, lesions, strict=True):
        for number, place in places.items():
            image[place] = number
    ids = ids.repeat(factor, axis=1).repeat(factor, axis=2)
    rows = [
        ImageRow(f"i{n}", patient, "anterior", (2.0, 3.0), list(facts) or [LesionFacts(number) for number in places])
        for n, (patient, places) in enumerate(zip(patients, lesions, strict=True))
    ]
    return lesion_split(BoneScans(counts=np.ones(ids.shape, np.int32), masks={"lesions": ids}, rows=rows), size_px)


def _maps(*images: Mapping[Place, float]) -> np.ndarray:
    maps = np.zeros((len(images), SIDE, SIDE), np.float32)
    for image, places in zip(maps, images, strict=True):
        for place, probability in places.items():
            image[place] = probability
    return maps


@pytest.fixture
def config(small_config: ConfigDict) -> ConfigDict:
    """Lesion masks as they are, at 16 x 16 pixels, with few samples."""
    small_config.data.scored_mask = "lesions"
    small_config.evaluate.bootstrap_samples = 200
    return small_config


def test_distances_are_mm_of_binned_pixels(config: ConfigDict) -> None:
    """Two by two pixels of 2 mm x 3 mm make one of 4 mm x 6 mm; contours and peaks agree within 5 mm."""
    scans = _scans([{1: (3, 3)}] * 4, patients="abcd", factor=2)
    maps = _maps({(3, 5): 0.75}, {(5, 3): 0.75}, {(3, 4): 0.75}, {(4, 3): 0.75})
    result = score(maps, scans, config=config, threshold=0.5)
    assert [row.hd95_mm for row in result.images] == [12.0, 8.0, 6.0, 4.0]
    assert [row.nsd for row in result.images] == [0.0, 0.0, 0.0, 1.0]
    assert [row.peak_probability for row in result.lesions] == [None, None, None, 0.75]


def test_neighbours_are_mm_of_binned_pixels(config: ConfigDict) -> None:
    """Within 15 mm: three rows of 4 mm, two columns of 6 mm; not four rows, not three columns."""
    pairs = [{1: (3, 3), 2: place} for place in ((6, 3), (7, 3), (3, 5), (3, 6))]
    result = score(_maps({}, {}, {}, {}), _scans(pairs, patients="abcd", factor=2), config=config, threshold=0.5)
    assert [row.clustered for row in result.lesions[::2]] == [True, False, True, False]


def _found_in_one_patient() -> tuple[GridSplit, np.ndarray]:
    """Ten images of patient a whose lesion is found, ten of b whose lesion is missed."""
    scans = _scans([{1: (3, 3)}] * 20, patients="a" * 10 + "b" * 10, facts=[LesionFacts(1, size_mm=12.0, bone="rib")])
    return scans, _maps(*[{(3, 3): 1.0}] * 10, *[{}] * 10)


def test_patients_are_the_unit_of_every_interval(config: ConfigDict) -> None:
    """A quarter of the samples holds patient a alone, another b alone: intervals reach from one's score to the other's.

    Twenty independent images would give about 0.3 to 0.7.
    """
    scans, maps = _found_in_one_patient()
    result = score(maps, scans, config=config, threshold=0.5)
    intervals = result.summary.intervals
    for name in ("dsc_pooled", "recall_pooled", "dsc_mean", "nsd_mean", "lesion_recall", "lesion_dsc_mean"):
        assert result.summary[name] == pytest.approx(2 / 3 if name == "dsc_pooled" else 0.5), name
        assert intervals[name] == (0.0, 1.0), name
    assert intervals["froc_score"] == (0.0, 1.0)
    missed = 1 / SIDE**2  # the share of lesion pixels, all of them given 0
    for name in ("ece", "brier"):
        assert intervals[name] == pytest.approx((0.0, missed)), name
        assert result.summary[name] == pytest.approx(missed / 2), name
    assert result.summary["average_precision"] == pytest.approx(0.5 + 0.5 * 20 / (20 * SIDE**2))
    assert intervals["average_precision"] == pytest.approx((missed, 1.0), abs=1e-3)
    assert result.summary["ece_above_lowest_bin"] == 0.0
    (point, *_) = result.curves.froc.operating_points
    assert (point.sensitivity, point.interval) == (0.5, (0.0, 1.0))
    filled = next(row for row in result.lesion_bins.sizes if row.lesions)
    for row in (filled, result.lesion_bins.bones[0]):
        assert (row.lesions, row.recall, row.dsc_mean) == (20, 0.5, 0.5)
        assert row.recall_interval == row.dsc_mean_interval == (0.0, 1.0)
    assert (filled.from_mm, result.lesion_bins.bones[0].bone) == (10.0, "rib")


def test_samples_are_those_of_the_recipe(config: ConfigDict) -> None:
    """Seed and number of samples as the recipe says: the interval of recall is that of these weights."""
    config.seed, config.evaluate.bootstrap_samples = 3, 50
    patients = "aabcddefgh"
    scans = _scans([{1: (3, 3)}] * 10, patients=patients)
    found = np.array([1, 1, 0, 1, 0, 1, 1, 0, 0, 1])
    maps = _maps(*[{(3, 3): 1.0} if hit else {} for hit in found])
    weights = bootstrap_weights(list(patients), samples=50, seed=3)
    expected = interval((weights @ found) / weights.sum(axis=1))
    result = score(maps, scans, config=config, threshold=0.5)
    assert result.summary.intervals["recall_pooled"] == pytest.approx(expected)


def test_rows_by_hand(config: ConfigDict) -> None:
    """Lesion 1 is found, 2 missed, 3 has no pixel; two components are false; a value at the threshold marks nothing."""
    one = LesionFacts(1, size_mm=14.0, visible=True, bone="sternum")
    facts = [one, LesionFacts(2, size_mm=40.0), LesionFacts(3)]
    scans = _scans([{1: (3, 3), 2: (12, 12)}], patients="a", facts=facts)
    maps = _maps({(3, 3): 0.75, (3, 4): 0.625, (12, 12): 0.5, (8, 1): 1.0, (1, 12): 0.875})
    result = score(maps, scans, config=config, threshold=0.5)
    (row,) = result.images
    assert {key: getattr(row, key) for key in ("tp", "fp", "fn", "dsc", "precision", "recall")} == pytest.approx(
        {"tp": 1, "fp": 3, "fn": 1, "dsc": 2 / 6, "precision": 1 / 4, "recall": 1 / 2}
    )
    assert (row.image_id, row.patient, row.view) == ("i0", "a", "anterior")
    assert (row.lesions, row.detected, row.components, row.false_positives) == (2, 1, 3, 2)
    assert (row.lesion_count_error, row.lesions_without_pixels) == (1, 1)
    assert row.lesion_dsc_sum == row.lesion_dsc_sum_small == pytest.approx(2 / 3)
    assert (row.lesions_small, row.detected_small) == (1, 1)
    assert (row.lesions_large, row.detected_large, row.lesion_dsc_sum_large) == (1, 0, 0.0)
    one, two = result.lesions
    assert (one.lesion, one.pixels, one.found, one.detected) == (1, 1, 1, True)
    assert (one.size_mm, one.bone, one.visible, one.cnr) == (14.0, "sternum", True, None)
    assert (one.dsc, one.peak_probability) == (pytest.approx(2 / 3), 0.75)
    assert (two.lesion, two.found, two.detected, two.dsc) == (2, 0, False, 0.0)
    assert two.peak_probability == 0.5  # the threshold is no matter of peaks


@pytest.mark.parametrize(("overlap_min", "detected"), [(0.25, True), (0.375, False)])
def test_a_lesion_is_found_by_the_share_of_the_recipe(overlap_min: float, detected: bool, config: ConfigDict) -> None:
    """One of its four pixels is marked."""
    scans = _scans([{1: (3, 3)}], patients="a", factor=2, size_px=2 * SIDE)
    config.evaluate.lesion_overlap_min = overlap_min
    maps = np.zeros((1, 2 * SIDE, 2 * SIDE), np.float32)
    maps[0, 6, 6] = 0.75
    result = score(maps, scans, config=config, threshold=0.5)
    assert result.images[0].detected == result.summary["lesion_recall"] == detected
    assert result.images[0].tp == 1


def test_curves_by_hand(config: ConfigDict) -> None:
    """Lesion of image 0: peak of 0.75; of image 1: 0.5, after a false 0.625; then a false 0.25 in image 0."""
    config.evaluate.calibration_bins = 2
    config.evaluate.froc_false_positives_per_scan = (0.25, 1.0)
    scans = _scans([{1: (3, 3)}, {1: (12, 12)}], patients="ab")
    maps = _maps({(3, 3): 0.75, (12, 3): 0.25}, {(12, 12): 0.5, (3, 3): 0.625})
    result = score(maps, scans, config=config, threshold=0.5)
    froc = result.curves.froc
    # A point for each further lesion, and the last.
    assert froc.threshold == (math.inf, 0.75, 0.5, 0.25)
    assert froc.false_positives_per_image == (0.0, 0.0, 0.5, 1.0)
    assert froc.sensitivity == (0.0, 0.5, 1.0, 1.0)
    points = froc.operating_points
    assert [point.false_positives_per_image for point in points] == [0.25, 1.0]
    assert [point.sensitivity for point in points] == [0.5, 1.0]
    assert result.summary["froc_score"] == 0.75
    # A sample of image 1 alone finds its lesion after one false positive a scan: nothing at 0.25, all at 1.
    assert [point.interval for point in points] == [(0.0, 1.0), (1.0, 1.0)]
    low, high = result.curves.calibration
    pixels = 2 * SIDE**2
    assert (low.low, low.high, low.pixels) == (0.0, 0.5, pixels - 2)
    assert (low.probability_mean, low.lesion_share) == pytest.approx((0.75 / (pixels - 2), 1 / (pixels - 2)))
    assert (high.low, high.high, high.pixels) == (0.5, 1.0, 2)
    assert (high.probability_mean, high.lesion_share) == pytest.approx((1.375 / 2, 1 / 2))
    assert result.summary["ece"] == pytest.approx((0.25 + 0.375) / pixels)
    assert result.summary["ece_above_lowest_bin"] == pytest.approx(0.375 / 2)
    assert result.summary["brier"] == pytest.approx((0.25**2 + 0.25**2 + 0.5**2 + 0.625**2) / pixels)
    # Ranks 1 and 3 of the marked pixels are lesion.
    assert result.summary["average_precision"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    curve = result.curves.precision_recall
    assert (curve.threshold, curve.recall) == ((0.75, 0.5), (0.5, 1.0))
    assert curve.precision == pytest.approx((1.0, 2 / 3))


def test_maps_that_are_no_probabilities_have_no_curves(config: ConfigDict) -> None:
    scans, maps = _found_in_one_patient()
    result = score(4 * maps, scans, config=config, threshold=2.0, probabilities=False)
    assert not result.curves
    assert not {"ece", "brier", "average_precision", "froc_score"} & set(result.summary.values)
    assert result.summary.intervals["recall_pooled"] == (0.0, 1.0)
    assert {row.peak_probability for row in result.lesions} == {None}
