"""Inference in threads: every image once, in order, really side by side, and the same result as in one piece."""

from __future__ import annotations

import os
import threading

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from msanet_jax.runtime.cores import over_cores, usable_cores
from msanet_jax.training import devices
from msanet_jax.training.state import create_networks, create_state


@pytest.mark.parametrize(
    ("images", "cores", "pieces"), [(1, 4, [1]), (3, 2, [2, 2]), (8, 2, [4, 4]), (5, 8, [1] * 5), (4, 1, [4])]
)
def test_every_image_once_and_in_order(images: int, cores: int, pieces: list[int]) -> None:
    seen: list[int] = []

    def twice(piece: np.ndarray) -> np.ndarray:
        seen.append(len(piece))
        return 2 * piece

    batch = np.arange(1, images + 1, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(over_cores(twice, batch, cores=cores), 2 * batch)
    assert seen == pieces


def test_pieces_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=20)  # opens only when three pieces are inside at once

    def wait(piece: np.ndarray) -> np.ndarray:
        meeting.wait()
        return piece

    np.testing.assert_array_equal(over_cores(wait, np.arange(6), cores=3), np.arange(6))


def test_a_failure_reaches_the_caller() -> None:
    def fail(piece: np.ndarray) -> np.ndarray:
        raise ValueError(f"piece of {len(piece)}")

    with pytest.raises(ValueError, match="piece of 2"):
        over_cores(fail, np.zeros(4), cores=2)


def test_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert usable_cores() == 7


def test_probability_is_that_of_one_piece(small_config: ConfigDict, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = create_networks(small_config, steps_per_epoch=10)
    state, side = create_state(networks), small_config.data.image_size_px
    images = np.random.default_rng(0).gamma(2.0, 0.5, (5, side, side, 1)).astype(np.float32)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    results = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(devices, "usable_cores", lambda cores=cores: cores)
        results.append(devices.compile_probability(networks)(state, images))
    assert results[0].shape == (5, side, side)
    assert results[0].std() > 1e-6
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-6)
