"""Batches: stateless, complete, padded, shared between hosts."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from data_pipeline import grid
from data_pipeline.batches import lesion_shares, steps_per_epoch, train_batches
from data_pipeline.errors import RequestError
from data_pipeline.features import Lazy, StoredScans
from data_pipeline.grid import GridSplit, on_field, on_network
from data_pipeline.normalize import normalize
from tests.fakes import fake_scans, fake_split, stored_scans

SPLIT = fake_split(10)


def _take(config: ConfigDict, count: int, split: GridSplit = SPLIT, **changes: int) -> list[dict[str, np.ndarray]]:
    settings = {"image_size_px": split.shape[1], "batch_size": 4, "seed": 3} | changes
    return list(itertools.islice(train_batches(split, augment=config.augment, **settings), count))


def _still(config: ConfigDict) -> ConfigDict:
    for key in config.augment:
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


@pytest.fixture
def from_disk(monkeypatch: pytest.MonkeyPatch, small_config: ConfigDict) -> Callable[[StoredScans], GridSplit]:
    """The split of stored scans that do not fit into memory."""
    monkeypatch.setattr(grid, "IN_MEMORY_BYTES", 0)
    return lambda stored: on_field(stored, small_config.data)


def test_batches_from_disk_are_those_from_memory(
    from_disk: Callable[[StoredScans], GridSplit], small_config: ConfigDict
) -> None:
    """Bit for bit, for every host and from any batch on; no other mask is decoded."""
    stored = stored_scans(fake_scans(10))
    names = ("counts", "lesions", "image_id", "patient", "view", "pixel_size_mm", "lesion_rows")
    stored = dataclasses.replace(
        stored, features=tfds.features.FeaturesDict({name: stored.features[name] for name in names})
    )
    split = from_disk(stored)
    assert isinstance(split.counts, Lazy) and isinstance(split.masks, Lazy)
    for options in ({}, {"first_batch": 3, "image_size_px": 8}, {"host": 1, "hosts": 2}):
        pairs = zip(_take(small_config, 3, split, **options), _take(small_config, 3, **options), strict=True)
        for read, expected in pairs:
            np.testing.assert_array_equal(read["image"], expected["image"])
            np.testing.assert_array_equal(read["mask"], expected["mask"])


def test_damage_is_one_line(from_disk: Callable[[StoredScans], GridSplit], small_config: ConfigDict) -> None:
    stored = stored_scans(fake_scans(10))
    split = from_disk(stored)
    stored.records[4] = stored.records[4][:40]
    with pytest.raises(RequestError, match=r"^set: the built data set is damaged \(.*\); delete it to build anew$"):
        _take(small_config, 3, split)


def test_shapes_and_values(small_config: ConfigDict) -> None:
    batch = _take(small_config, 1)[0]
    assert batch["image"].shape == batch["mask"].shape == (4, 16, 16, 1)
    assert batch["image"].dtype == batch["mask"].dtype == np.float32
    assert set(np.unique(batch["mask"])) <= {0.0, 1.0}


def test_images_are_binned_to_the_network_s_grid(small_config: ConfigDict) -> None:
    """Without augmentation a batch holds what prediction gives the network, and the truth of its grid."""
    config, coarse = _still(small_config), on_network(SPLIT, 8)
    for batch in _take(config, 2, image_size_px=8):
        assert batch["image"].shape == batch["mask"].shape == (4, 8, 8, 1)
        for image, mask in zip(batch["image"][..., 0], batch["mask"][..., 0], strict=True):
            number = int(np.abs(coarse.images - image).sum(axis=(1, 2)).argmin())
            np.testing.assert_allclose(image, coarse.images[number], rtol=1e-5)
            np.testing.assert_array_equal(mask, coarse.masks[number])


def test_displacements_are_in_mm(small_config: ConfigDict) -> None:
    """Of an image with pixels ten times as large a tenth of a pixel moves."""
    config = _still(small_config)
    config.augment.elastic_mm = 10.0
    plain = normalize(SPLIT.counts[0])
    one = _one_image(4)
    fine, coarse = (
        np.abs(_images(config, 2, dataclasses.replace(one, pixel_sizes_mm=[(mm, mm)] * 4)) - plain).mean()
        for mm in (2.0, 20.0)
    )
    assert coarse < 0.4 * fine


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


def _one_image(images: int) -> GridSplit:
    """The same image again and again: what differs between examples is the augmentation."""
    return GridSplit(
        counts=np.repeat(SPLIT.counts[:1], images, axis=0),
        ids=np.repeat(SPLIT.ids[:1], images, axis=0),
        rows=SPLIT.rows[:images],
        pixel_sizes_mm=SPLIT.pixel_sizes_mm[:images],
    )


def _distinct(images: np.ndarray) -> int:
    return len({image.tobytes() for image in images})


def _images(config: ConfigDict, count: int, split: GridSplit = SPLIT, **changes: int) -> np.ndarray:
    return np.concatenate([batch["image"] for batch in _take(config, count, split, **changes)])[..., 0]


@pytest.mark.parametrize(
    "change",
    [
        {"rotation_deg": 10.0},
        {"kept_counts_min": 0.5},
        {"contrast_fraction": 0.2},
        {"scale_fraction": 0.2},
        {"stretch_fraction": 0.2},
        {"elastic_mm": 10.0},
        {"uptake_log": 1.0},
        {"blur_mm": 4.0},
        {"haze_fraction": 0.3},
        {"gain_fraction": 0.2},
    ],
)
def test_every_example_of_every_batch_has_its_own_augmentation(small_config: ConfigDict, change: dict) -> None:
    config = _still(small_config)
    assert _distinct(_images(config, 4, _one_image(8))) == 1
    config.augment.update(change)
    first, second = (_images(config, 4, _one_image(8), seed=seed) for seed in (3, 4))
    assert _distinct(first) == 16  # two epochs of two batches
    assert _distinct(np.concatenate([first, second])) == 32


def test_augmentations_do_not_come_back(small_config: ConfigDict) -> None:
    """200 images on, and around the 2**31st, an image is still drawn anew."""
    config = _still(small_config)
    config.augment.gain_fraction = 0.2
    assert _distinct(_images(config, 50, _one_image(8))) == 200
    late = _take(config, 2, _one_image(8), first_batch=2**29 - 1)
    assert _distinct(np.concatenate([batch["image"] for batch in late])[..., 0]) == 8


def test_the_order_follows_the_seed(small_config: ConfigDict) -> None:
    config = _still(small_config)
    assert not np.array_equal(_images(config, 2), _images(config, 2, seed=4))


def test_contrast_comes_after_normalising(small_config: ConfigDict) -> None:
    """One exponent an image, on the normalised image."""
    config = _still(small_config)
    config.augment.contrast_fraction = 0.3
    plain = normalize(SPLIT.counts[0])
    exponents = []
    for image in _images(config, 4, _one_image(4)):
        clear = (plain > 0) & (np.abs(np.log(np.maximum(plain, 1e-9))) > 0.05)
        ratio = np.log(image[clear]) / np.log(plain[clear])
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
        exponents.append(ratio[0])
    assert 0.7 <= min(exponents) < 0.95 and 1.05 < max(exponents) <= 1.3


def test_over_the_epochs_every_image_is_seen(small_config: ConfigDict) -> None:
    """10 images in batches of 4: each epoch leaves out two others."""
    images = _images(_still(small_config), 16)
    nearest = [int(np.abs(normalize(SPLIT.counts) - image).sum(axis=(1, 2)).argmin()) for image in images]
    assert set(nearest) == set(range(10))
    assert max(np.bincount(nearest)) <= 8


def test_training_truth_is_the_image_s_own(small_config: ConfigDict) -> None:
    for batch in _take(_still(small_config), 4):
        for image, mask in zip(batch["image"][..., 0], batch["mask"][..., 0], strict=True):
            number = int(np.abs(normalize(SPLIT.counts) - image).sum(axis=(1, 2)).argmin())
            np.testing.assert_array_equal(mask, SPLIT.masks[number])


def test_shares_by_hand() -> None:
    """Regions of 8-neighbours: one of three pixels over a corner, one of one, and an image's own in its neighbour."""
    masks = np.zeros((2, 4, 4, 1), np.float32)
    masks[0, 0, :2], masks[0, 1, 2], masks[0, 3, 0] = 1, 1, 1
    masks[1, 0, :2] = 1
    shares = lesion_shares(masks)[..., 0]
    assert shares[0].tolist() == np.float32([[1 / 3, 1 / 3, 0, 0], [0, 0, 1 / 3, 0], [0] * 4, [1, 0, 0, 0]]).tolist()
    assert shares[1, 0].tolist() == [0.5, 0.5, 0.0, 0.0]
    assert shares.sum() == pytest.approx(3)  # one for each lesion


def test_shares_come_with_the_batch_where_asked(small_config: ConfigDict) -> None:
    (plain,), (batch,) = _take(small_config, 1), _take(small_config, 1, shares=True)
    assert plain.keys() == {"image", "mask"}
    np.testing.assert_array_equal(batch["share"], lesion_shares(plain["mask"]))
