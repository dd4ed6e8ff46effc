"""The thorax finder on the real scan, on simulated patients and on made-up ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import data_store
import numpy as np
import pytest

from data_pipeline.phantom.simulate import simulate_patient
from data_pipeline.readers import read_scans
from data_pipeline.scan import Scan, View
from data_pipeline.thorax import field_size_px, find_thorax
from data_pipeline.windows import ThoraxBox, crop

REAL_SCAN = Path(data_store.__file__).parent / "data" / "JPEG-LL.dcm"
REAL_SHOULDER_ROW = 190  # read off the picture: the deltoids begin at 185, the acromia lie at 200


def _scan(counts: np.ndarray, pixel_mm: float | None = 2.26) -> Scan:
    size = None if pixel_mm is None else (pixel_mm, pixel_mm)
    return Scan(np.ascontiguousarray(counts, np.int32), size, View.ANTERIOR, "p", "test")


@pytest.fixture(scope="module")
def real() -> np.ndarray:
    return read_scans(REAL_SCAN)[0].counts


def test_real_scan_shows_shoulders_and_no_bladder(real: np.ndarray) -> None:
    box = find_thorax(_scan(real))
    assert (box.column, box.size_px) == (0, 256)
    assert abs(box.row + 40 - REAL_SHOULDER_ROW) <= 8
    # The bladder (maximum 278) begins at row 408; the hottest bone of the trunk has 195 counts.
    assert crop(real, box).max() < 200


@pytest.mark.parametrize("kept", [0.5, 0.1, 0.03])
def test_fewer_counts_move_the_box_by_few_rows(real: np.ndarray, kept: float) -> None:
    thinned = np.random.default_rng(0).binomial(real, kept)
    assert abs(find_thorax(_scan(thinned)).row - find_thorax(_scan(real)).row) <= 3


def _with_block(real: np.ndarray, rows: slice, columns: slice, factor: int) -> np.ndarray:
    changed = real.copy()
    changed[rows, columns] *= factor
    return changed


@pytest.mark.parametrize(
    "change",
    [
        lambda real: real[:, ::-1],
        lambda real: _with_block(real, slice(400, 440), slice(110, 165), 10),  # full bladder
        lambda real: _with_block(real, slice(300, 315), slice(20, 30), 60),  # injection site in the arm
        lambda real: _with_block(real, slice(230, 250), slice(180, 195), 30),  # one very hot lesion
        lambda real: np.where(np.arange(256) < 40, 0, real),  # an arm out of the camera's field
    ],
    ids=["mirrored", "bladder", "injection", "lesion", "arm cut off"],
)
def test_hot_spots_and_arms_do_not_move_the_box(real: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> None:
    assert abs(find_thorax(_scan(change(real))).row - find_thorax(_scan(real)).row) <= 6


@pytest.mark.parametrize(
    ("change", "shift"),
    [
        (lambda counts: counts[:600], 0),  # legs outside
        (lambda counts: counts[:420], 0),  # pelvis outside
        (lambda counts: counts[120:], -120),  # crown outside
        (lambda counts: counts[300:], None),  # head outside: the box begins at the top
        (lambda counts: _with_raised_arms(counts), 0),
        (lambda counts: np.random.default_rng(0).binomial(counts, 0.1), 0),
    ],
)
def test_partial_scans_and_raised_arms(
    real: np.ndarray, change: Callable[[np.ndarray], np.ndarray], shift: int | None
) -> None:
    whole = find_thorax(Scan(real, (2.26, 2.26), View.ANTERIOR, "p", "real"))
    changed = np.ascontiguousarray(change(real)).astype(np.int32)
    box = find_thorax(Scan(changed, (2.26, 2.26), View.ANTERIOR, "p", "real"))
    assert abs(box.row - (0 if shift is None else whole.row + shift)) <= 5


def _with_raised_arms(counts: np.ndarray) -> np.ndarray:
    arms = np.zeros_like(counts)
    arms[105:275, 25:45] = arms[105:275, -45:-25] = np.random.default_rng(0).poisson(20, (170, 20))
    return counts + arms


def test_box_follows_the_patient(real: np.ndarray) -> None:
    row = find_thorax(_scan(real)).row
    lowered = np.vstack([np.zeros((80, 256), int), real[:-80]])
    assert find_thorax(_scan(lowered)).row == row + 80
    assert find_thorax(_scan(real[100:700])).row == row - 100  # partial scan
    assert find_thorax(_scan(np.vstack([real[200:], np.zeros((200, 256), int)]))).row == 0  # no head in the picture


def _figure(*parts: tuple[int, int], counts: float = 40.0) -> np.ndarray:
    """A body in air: parts of (rows, columns), one below the other from row 100 on."""
    figure, row = np.zeros((1024, 256)), 100
    for rows, columns in parts:
        figure[row : row + rows, 128 - columns // 2 : 128 + columns // 2] = counts
        row += rows
    return figure


@pytest.mark.parametrize(
    ("parts", "row"),
    [
        # Head of 60 rows, neck of 30, then the trunk; the field begins 90 mm or 40 rows above the shoulders.
        (((60, 70), (30, 40), (500, 200)), 190 - 40),
        # The trunk begins 68 mm below the top, so there is no head: the field begins 40 rows above the body.
        (((30, 40), (500, 200)), 100 - 40),
        # The same neck of 120 rows or 271 mm has room for a head.
        (((120, 40), (500, 200)), 220 - 40),
    ],
    ids=["head and neck", "neck alone", "head as narrow as the neck"],
)
def test_shoulders_are_where_the_width_is_half_way(parts: tuple[tuple[int, int], ...], row: int) -> None:
    assert abs(find_thorax(_scan(_figure(*parts))).row - row) <= 2


def test_the_field_ends_with_the_scan() -> None:
    figure = _figure((60, 70), (30, 40), (500, 200))
    assert find_thorax(_scan(figure[:380])) == ThoraxBox(380 - 256, 0, 256)


def test_a_source_beside_the_patient_is_not_the_body() -> None:
    figure = _figure((60, 70), (30, 40), (500, 200))
    marked = figure.copy()
    marked[20:40, 10:30] = 40
    assert find_thorax(_scan(marked)) == find_thorax(_scan(figure))


def test_a_body_of_few_counts_holds_together() -> None:
    """One count in five pixels: only smoothing joins them."""
    expected = _figure((60, 70), (30, 40), (500, 200), counts=0.2)
    assert abs(find_thorax(_scan(np.random.default_rng(0).poisson(expected))).row - 150) <= 5


def test_finer_pixels_give_a_larger_box(real: np.ndarray) -> None:
    fine = np.kron(real, np.ones((2, 2), int))
    coarse_box, box = find_thorax(_scan(real)), find_thorax(_scan(fine, 1.13))
    assert box.size_px == 512
    assert abs(box.row - 2 * coarse_box.row) <= 2


@pytest.mark.parametrize(
    ("columns", "pixel_mm", "size"),
    [(256, 1.8, 256), (256, 2.8, 256), (256, 4.52, 128), (512, 1.13, 512), (256, None, 256), (512, None, 512)],
)
def test_field_is_579_mm(columns: int, pixel_mm: float | None, size: int) -> None:
    assert field_size_px(_scan(np.ones((1024, columns)), pixel_mm)) == size


def test_unknown_pixels_of_an_odd_width_are_the_reference_size() -> None:
    assert field_size_px(_scan(np.ones((300, 300)), None)) == 256


def test_a_thorax_image_is_its_own_box() -> None:
    assert find_thorax(_scan(np.ones((256, 256)))) == ThoraxBox(0, 0, 256)
    assert find_thorax(_scan(np.ones((200, 156)))) == ThoraxBox(-28, -50, 256)


@pytest.mark.parametrize("counts", [np.zeros((1024, 256)), np.eye(1024, 256)])
def test_hopeless_images_still_give_a_box_inside(counts: np.ndarray) -> None:
    box = find_thorax(_scan(counts))
    assert 0 <= box.row <= 768
    assert (box.column, box.size_px) == (0, 256)


def test_wide_images_are_centred_on_the_body(real: np.ndarray) -> None:
    wide = np.hstack([np.zeros((1024, 200), int), real, np.zeros((1024, 56), int)])
    assert abs(find_thorax(_scan(wide)).column - 200) <= 5


def test_both_views_of_a_simulated_patient_agree() -> None:
    for index in (0, 1):
        patient = simulate_patient(seed=0, index=index)
        anterior, posterior = (find_thorax(patient.views[view].scan) for view in (View.ANTERIOR, View.POSTERIOR))
        assert abs(anterior.row - posterior.row) <= 10
        assert anterior.size_px == posterior.size_px == 256
