"""Fields on scans of other pixels: where windows lie, counts kept, lesions at their places."""

from __future__ import annotations

import numpy as np
import pytest

from data_pipeline.fields import field_counts, field_ids, field_pixel_mm, find_window
from data_pipeline.scan import Scan, View
from data_pipeline.windows import ThoraxBox, Window, cut


@pytest.mark.parametrize(
    ("side", "first"),
    [
        (128, [0, 0, 1, 1, 2, 2]),
        (256, [0, 1, 2, 3, 4, 5]),
        (384, [0, 2, 3, 5, 6, 8]),  # centres at 0.75, 2.25, 3.75, ...
        (512, [1, 3, 5, 7, 9, 11]),  # a centre on an edge belongs to the pixel behind it
        (768, [1, 4, 7, 10, 13, 16]),
    ],
)
def test_a_pixel_has_the_id_at_its_centre(side: int, first: list[int]) -> None:
    rows = np.repeat(np.arange(side)[:, None], side, axis=1)
    window = Window(0, 0, side, side)
    np.testing.assert_array_equal(field_ids(rows, window, "thorax")[:6, 0], first)
    np.testing.assert_array_equal(field_ids(rows.T, window, "thorax")[0, :6], first)


@pytest.mark.parametrize("side", [128, 384, 512, 768])
def test_masks_stay_where_counts_are(side: int) -> None:
    """The middle of a square of lesion and of its counts, in fractions of the field: within a quarter of a pixel."""
    lesion = np.zeros((side, side), np.int32)
    lesion[side // 4 : side // 2, side // 8 : side // 4] = 1
    window = Window(0, 0, side, side)
    for image in (field_ids(lesion, window, "thorax"), field_counts(36 * lesion, window, "thorax")):
        rows, columns = np.indices(image.shape)
        found = [(image * axis).sum() / image.sum() + 0.5 for axis in (rows, columns)]
        assert found == pytest.approx([256 * 3 / 8, 256 * 3 / 16], abs=0.25)


def test_counts_are_kept_and_spread_evenly() -> None:
    counts = np.full((128, 128), 8, np.int32)
    counts[10, 20] = 400
    field = field_counts(counts, Window(0, 0, 128, 128), "thorax")
    assert field.dtype == np.int32 and field.sum() == counts.sum()
    np.testing.assert_array_equal(field[20:22, 40:42], 100)
    assert field[0, 0] == 2
    np.testing.assert_array_equal(field_counts(np.full((512, 512), 3), Window(0, 0, 512, 512), "thorax"), 12)
    # A quarter of three counts on every pixel, rounded.
    np.testing.assert_array_equal(field_counts(np.full((128, 128), 3), Window(0, 0, 128, 128), "thorax"), 1)


def test_cutting_by_hand() -> None:
    image = np.arange(1, 13).reshape(3, 4)
    np.testing.assert_array_equal(cut(image, Window(1, 2, 2, 2)), [[7, 8], [11, 12]])
    np.testing.assert_array_equal(cut(image, Window(-1, 3, 3, 2)), [[0, 0], [4, 0], [8, 0]])
    np.testing.assert_array_equal(cut(image, Window(2, -1, 2, 3)), [[0, 9, 10], [0, 0, 0]])


def test_pixels_of_a_field_in_millimetres() -> None:
    assert field_pixel_mm((1.0, 2.0), Window(0, 0, 512, 128), "thorax") == (2.0, 1.0)
    assert field_pixel_mm((1.0, 2.0), Window(0, 0, 512, 128), "whole_body") == (0.5, 1.0)


def test_the_whole_body_stands_above_and_below_its_thorax() -> None:
    """Its columns are those of the thorax box, or lie about the box's middle where the box has another size."""
    scan = Scan(np.ones((1024, 300), np.int32), (2.26, 2.26), View.ANTERIOR, "p", "made up")
    assert find_window(scan, "thorax", ThoraxBox(90, 30, 256)) == Window(90, 30, 256, 256)
    assert find_window(scan, "whole_body", ThoraxBox(90, 30, 256)) == Window(0, 30, 1024, 256)
    assert find_window(scan, "whole_body", ThoraxBox(90, 30, 200)) == Window(0, 30 + 100 - 128, 1024, 256)
