"""The top-hat filter by hand."""

from __future__ import annotations

import numpy as np
import pytest

from data_pipeline.annotations.lesion_facts import LesionFacts
from data_pipeline.features import ImageRow
from data_pipeline.grid import GridSplit
from msanet_jax.training.baselines import fit_baseline
from msanet_jax.training.top_hat import TopHat, component_peaks, tune_top_hat, white_top_hat


def test_the_top_hat_keeps_what_is_narrower_than_the_square() -> None:
    image = np.full((20, 20), 1.0)
    image[3:6, 3:6] = 3.0  # narrower than 5
    image[10:17, 10:17] = 4.0  # wider
    expected = np.zeros((20, 20))
    expected[3:6, 3:6] = 2.0
    np.testing.assert_array_equal(white_top_hat(image, 5), expected)


def test_components_have_their_highest_value() -> None:
    values = np.array([[0.5, 0.0, 0.0, 0.9], [0.0, 0.8, 0.0, 0.2], [0.0, 0.0, 0.0, 0.3]])
    expected = np.array([[0.8, 0.0, 0.0, 0.9], [0.0, 0.8, 0.0, 0.0], [0.0, 0.0, 0.0, 0.3]])  # 8-connected, above 0.2
    np.testing.assert_array_equal(component_peaks(values, 0.2), expected)
    np.testing.assert_array_equal(component_peaks(np.zeros((2, 2)), 0.2), np.zeros((2, 2)))


def test_hysteresis_cuts_at_one_half() -> None:
    image = np.full((1, 16, 16, 1), 1.0)
    image[0, 3, 3:6, 0] = 1.5, 2.25, 1.5  # 0.5 and 1.25 above
    image[0, 10, 10, 0] = 1.75  # 0.75 above: not high enough anywhere
    marked = TopHat(5, low=0.4, high=1.0).probability(image) > 0.5
    assert np.argwhere(marked).tolist() == [[0, 3, 3], [0, 3, 4], [0, 3, 5]]


@pytest.fixture
def split() -> GridSplit:
    """Small hot lesions with a faint rim, small faint spots, and a wide hot organ; pixels of 4 mm."""
    counts, ids = np.full((6, 48, 48), 100, np.int32), np.zeros((6, 48, 48), np.uint8)
    for number, (image, lesion) in enumerate(zip(counts, ids, strict=True)):
        image[28:46, 2:46] = 900
        image[6:11, 5 + number : 10 + number] = 250
        image[7:10, 6 + number : 9 + number] = 600
        lesion[6:11, 5 + number : 10 + number] = 1
        image[16:20, 30:34] = 200
    rows = [ImageRow(f"i{n}", f"p{n}", "anterior", (4.0, 4.0), [LesionFacts(1)]) for n in range(6)]
    return GridSplit(counts, ids, rows, [(4.0, 4.0)] * 6)


def test_tuning_finds_lesions_apart_from_organs_and_faint_spots(split: GridSplit) -> None:
    """Rim and faint spot are 1.58 and 1.41 of the body level: the hysteresis takes the rim and leaves the spot."""
    tuned = tune_top_hat(split, image_size_px=48)
    assert tuned.side_px in (7, 11, 15) and tuned.low < tuned.high
    probability = fit_baseline("top_hat", training=split, image_size_px=48)
    np.testing.assert_array_equal(probability(split.counts) > 0.5, split.masks)
    assert not probability(np.zeros((1, 48, 48), np.int32)).any()
