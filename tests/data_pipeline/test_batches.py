"""Batches: stateless, complete, padded, shared between hosts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from fakes import fake_split
from ml_collections import ConfigDict

from data_pipeline.batches import steps_per_epoch, train_batches
from data_pipeline.grid import GridSplit
from data_pipeline.normalize import normalize

SPLIT = fake_split(10)


def _take(config: ConfigDict, count: int, split: GridSplit = SPLIT, **changes: int) -> list[dict[str, np.ndarray]]:
    settings = {"batch_size": 4, "seed": 3} | changes
    return list(itertools.islice(train_batches(split, augment=config.augment, **settings), count))


def _still(config: ConfigDict) -> ConfigDict:
    for key in ("mirror_probability", "rotation_deg", "translation_fraction", "scale_fraction", "contrast_fraction"):
        config.augment[key] = 0.0
    config.augment.kept_counts_min = 1.0
    return config


def test_batch_depends_on_seed_and_number_only(small_config: ConfigDict) -> None:
    whole = _take(small_config, 6)
    later = _take(small_config, 3, first_batch=3)
    for a, b in zip(whole[3:], later, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
        np.testing.assert_array_equal(a["mask"], b["mask"])
    assert not np.array_equal(whole[0]["image"], whole[1]["image"])
    assert not np.array_equal(whole[0]["image"], _take(small_config, 1, seed=4)[0]["image"])


def test_shapes_and_values(small_config: ConfigDict) -> None:
    batch = _take(small_config, 1)[0]
    assert batch["image"].shape == batch["mask"].shape == (4, 16, 16, 1)
    assert batch["image"].dtype == batch["mask"].dtype == np.float32
    assert set(np.unique(batch["mask"])) <= {0.0, 1.0}


def test_an_epoch_shows_no_image_twice(small_config: ConfigDict) -> None:
    config = _still(small_config)
    known = {normalize(image).tobytes(): number for number, image in enumerate(SPLIT.counts)}
    assert steps_per_epoch(10, 4) == 2
    orders = []
    for epoch in range(3):
        images = np.concatenate([batch["image"] for batch in _take(config, 2, first_batch=2 * epoch)])[..., 0]
        nearest = [int(np.abs(normalize(SPLIT.counts) - image).sum(axis=(1, 2)).argmin()) for image in images]
        assert len(set(nearest)) == 8
        orders.append(nearest)
    assert len(known) == 10
    assert orders[0] != orders[1]


def test_hosts_share_the_global_batch(small_config: ConfigDict) -> None:
    whole = _take(small_config, 2)
    shares = [_take(small_config, 2, host=host, hosts=2) for host in range(2)]
    for number, batch in enumerate(whole):
        joined = np.concatenate([share[number]["image"] for share in shares])
        np.testing.assert_array_equal(batch["image"], joined)


def test_impossible_requests_are_named() -> None:
    with pytest.raises(ValueError, match="batch_size=16 is larger than the training set of 10 images"):
        steps_per_epoch(10, 16)
