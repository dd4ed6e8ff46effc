"""What benchmarks reads from a compiled TPU program, on a stored excerpt of one, with figures computed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.chips import CHIPS, roofline
from benchmarks.hlo import Array, collectives, convolutions, padding, traffic_bytes

TEXT = (Path(__file__).parents[1] / "data" / "tpu_excerpt.hlo").read_text()
FULL_RESOLUTION = 8 * 256 * 256  # pixels of the generator's first convolution


def _array(shape: tuple[int, ...], order: tuple[int, ...], tile: tuple[int, ...], dtype: str = "bf16") -> Array:
    return Array(dtype=dtype, shape=shape, order=order, tile=tile, on_chip=False)


@pytest.mark.parametrize(
    ("array", "plain", "padded", "lanes"),
    [
        # channels in the lanes, batch in the sublanes
        (_array((8, 256, 256, 24), (3, 0, 2, 1), (8, 128)), 2 * 24, 2 * 128, 128 / 24),
        (_array((8, 256, 256, 96), (3, 0, 2, 1), (8, 128)), 2 * 96, 2 * 128, 128 / 96),
        (_array((8, 256, 256, 256), (3, 0, 2, 1), (8, 128)), 2 * 256, 2 * 256, 1.0),
        # batch of 8 in the lanes, 12 channels in the sublanes: 16 x too many lanes, 16 sublanes for 12
        (_array((8, 256, 256, 12), (0, 3, 2, 1), (8, 128)), 2 * 12, 2 * 16 * 16, 16.0),
        # no tile in the text: stored as it is
        (_array((8, 256, 256, 24), (3, 2, 1, 0), (), "f32"), 4 * 24, 4 * 24, 1.0),
    ],
)
def test_padding_by_hand(array: Array, plain: int, padded: int, lanes: float) -> None:
    """Bytes per pixel of 8 x 256 x 256."""
    assert array.bytes == FULL_RESOLUTION * plain
    assert array.padded_bytes == FULL_RESOLUTION * padded
    assert array.lane_padding == pytest.approx(lanes)


def test_convolutions_are_found_inside_fusions_and_matrix_products_are_not() -> None:
    found = convolutions(TEXT)
    assert [instruction.name for instruction in found] == ["%conv_general_dilated.1069", "%conv_general_dilated.793"]
    generator, discriminator = (instruction.results[0] for instruction in found)
    assert generator.shape == (8, 256, 256, 24)
    assert generator.lane_padding == pytest.approx(128 / 24)
    assert discriminator.order == (0, 3, 2, 1)  # the pyramid's levels and the batch together fill 24 of 128 lanes
    assert discriminator.lane_padding == pytest.approx(128 / 24)
    used = 2 * (FULL_RESOLUTION * 24 + 24 * 128 * 128 * 16)
    taken = 2 * (FULL_RESOLUTION * 128 + 128 * 128 * 128 * 16)
    assert padding(found) == pytest.approx(taken / used)


def test_collectives_with_their_tensors() -> None:
    statistics, gradients = collectives(TEXT)
    assert "encoder_0/first/norm" in statistics.source
    assert [array.shape for array in gradients.results] == [(16,), (4, 4, 2, 16)]
    assert sum(array.bytes for array in gradients.results) == 4 * (16 + 512)
    assert gradients.operands == ("%bitcast.1", "%bitcast.2")


def test_main_memory_traffic_by_hand() -> None:
    """Two prefetches, the convolution's input and output, and the output read again; nothing else."""
    kernel, image_slice, activation = 2 * 9 * 24 * 24, 4 * 2 * 256 * 256, 2 * FULL_RESOLUTION * 24
    plain = kernel + image_slice + 3 * activation
    padded = 2 * 9 * 24 * 128 + image_slice + 3 * 2 * FULL_RESOLUTION * 128
    assert traffic_bytes(TEXT) == (plain, padded)


def test_roofline_by_hand() -> None:
    line = roofline(CHIPS["v5e"], flops=197e9, hbm_bytes=819e7, reduced_bytes=2e6, devices=4)
    assert line.compute_s == pytest.approx(1e-3)
    assert line.memory_s == pytest.approx(1e-2)
    assert line.collectives_s == pytest.approx(2 * 3 / 4 * 2e6 / 200e9)
    assert line.step_s == pytest.approx(1e-2 + line.collectives_s)
    # a v4 chip shows two devices, each with half of everything
    assert roofline(CHIPS["v4"], flops=275e9, hbm_bytes=0, reduced_bytes=0, devices=1).step_s == pytest.approx(2e-3)
