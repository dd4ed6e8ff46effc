"""Mapping over devices in both forms, and how scaling is reckoned; on closed forms."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from benchmarks.measure_step import place
from benchmarks.scaling_page import draw, merge, page, with_efficiency
from data_pipeline.errors import RequestError
from msanet_jax.networks.layers import AXIS
from msanet_jax.training.devices import check_batch_size, map_iteration, place_state, shard


def _descent(weight: jax.Array, batch: dict[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
    """One step down mean (w x)^2 / 2, averaged over devices as the train iteration does: gradient w mean x^2."""
    gradient = jax.lax.pmean(jax.grad(lambda w: ((w * batch["x"]) ** 2).mean() / 2)(weight), AXIS)
    return weight - gradient, {"gradient": gradient}


@pytest.mark.parametrize("form", ["pmap", "shard_map"])
def test_both_forms_average_the_gradient_once(form: str) -> None:
    iteration = map_iteration(_descent, form=form)
    state, batch = place(jnp.float32(2.0), {"x": np.arange(8, dtype=np.float32)}, form=form, devices=jax.devices())
    after, metrics = iteration(state, batch)
    expected = 2.0 * (0 + 1 + 4 + 9 + 16 + 25 + 36 + 49) / 8
    assert float(metrics["gradient"]) == pytest.approx(expected)  # summed twice it would be four times that
    assert float(after) == pytest.approx(2.0 - expected)
    assert state.is_deleted()  # donated


def test_a_placed_state_stays_where_it_is() -> None:
    state = place_state(jnp.float32(2.0))
    after, _ = map_iteration(_descent)(state, shard({"x": np.ones(8, np.float32)}))
    assert after.sharding.is_equivalent_to(state.sharding, 0)
    assert len(after.sharding.device_set) == 4


def test_every_device_gets_the_next_images() -> None:
    found = shard({"x": np.arange(16).reshape(8, 2)})["x"]
    np.testing.assert_array_equal(found[:, :, 0], [[0, 2], [4, 6], [8, 10], [12, 14]])
    np.testing.assert_array_equal(found[:, :, 1], found[:, :, 0] + 1)


@pytest.mark.parametrize(
    ("batch_size", "message"),
    [(0, "must be positive, e.g. --k=4"), (-4, "must be positive"), (6, "not divisible by 4 devices")],
)
def test_batch_sizes_that_cannot_be(batch_size: int, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        check_batch_size(batch_size, "k")
    check_batch_size(8, "k")


def _row(devices: int, images_per_s: float, *, scaling: str, batch: int) -> dict[str, object]:
    return {
        "scaling": scaling,
        "form": "pmap",
        "dtype": "float32",
        "devices": devices,
        "hosts": 1,
        "platform": "gpu",
        "kind": "card",
        "global_batch": batch,
        "median_s": batch / images_per_s,
        "fastest_s": batch / images_per_s,
        "slowest_s": batch / images_per_s,
        "images_per_s": images_per_s,
        "collectives_share": 0.25,
        "memory_bytes": 2**20,
    }


def test_efficiency_by_hand() -> None:
    weak = [_row(1, 100.0, scaling="weak", batch=8), _row(4, 320.0, scaling="weak", batch=32)]
    strong = [_row(2, 50.0, scaling="strong", batch=8), _row(8, 100.0, scaling="strong", batch=8)]
    found = {(row["scaling"], row["devices"]): row for row in with_efficiency([*weak, *strong])}
    assert found["weak", 4]["speedup"] == pytest.approx(3.2)
    assert found["weak", 4]["efficiency"] == pytest.approx(0.8)
    assert found["strong", 8]["speedup"] == pytest.approx(2.0)  # over two devices, the fewest measured
    assert found["strong", 8]["efficiency"] == pytest.approx(0.5)
    text = page(list(found.values()))
    assert "simulated" not in text
    assert "| weak | pmap | float32 | 4 | 1 | 32 |" in text


def test_a_new_row_replaces_the_old_one() -> None:
    old = [_row(1, 100.0, scaling="weak", batch=8), _row(2, 150.0, scaling="weak", batch=16)]
    joined = merge(old, [_row(2, 180.0, scaling="weak", batch=16)])
    assert [row["images_per_s"] for row in joined] == [100.0, 180.0]


@pytest.mark.parametrize(("scalings", "height_px"), [(("strong",), 340), (("weak", "strong"), 640)])
def test_the_picture_has_a_line_of_panels_for_each_scaling(
    tmp_path: Path, scalings: tuple[str, ...], height_px: int
) -> None:
    row = {
        "form": "pmap",
        "dtype": "float32",
        "platform": "cpu",
        "global_batch": 8,
        "kind": "cpu",
        "images_per_s": 2.0,
        "collectives_share": 0.1,
        "memory_bytes": 2**20,
    }
    rows = [row | {"scaling": scaling, "devices": count} for scaling in scalings for count in (1, 2)]
    draw(rows, tmp_path / "devices.png")
    with Image.open(tmp_path / "devices.png") as image:
        assert image.size == (1100, height_px)
