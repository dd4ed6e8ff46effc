"""A split on the network's grid, by hand and against a plain loop; on the field's grid nothing is binned."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
from ml_collections import ConfigDict

from data_pipeline import grid
from data_pipeline.features import BoneScans, Lazy
from data_pipeline.grid import GridSplit, on_field, on_network
from data_pipeline.normalize import normalize
from tests.fakes import fake_scans, stored_scans


def _data(size_px: int, mask: str = "lesions") -> ConfigDict:
    return ConfigDict({"image_size_px": size_px, "scored_mask": mask})


def _binned(scans: BoneScans, size_px: int) -> GridSplit:
    return on_network(on_field(scans, _data(size_px)), size_px)


def _scans(ids: np.ndarray) -> BoneScans:
    return BoneScans(np.ones(ids.shape, np.int32), {"lesions": ids}, fake_scans(len(ids)).rows, version="1.2.3")


def test_binning_by_majority_and_most_frequent_id() -> None:
    ids = np.zeros((1, 4, 4), np.uint8)
    ids[0, :2, :2] = [[1, 1], [2, 0]]  # three of four: lesion 1
    ids[0, :2, 2:] = [[3, 0], [0, 0]]  # one of four: nothing
    ids[0, 2:, :2] = [[4, 0], [0, 4]]  # two of four: lesion 4
    ids[0, 2:, 2:] = [[0, 6], [5, 0]]  # a tie: the first
    split = _binned(_scans(ids), 2)
    np.testing.assert_array_equal(split.counts, np.full((1, 2, 2), 4))
    np.testing.assert_array_equal(split.ids[0], [[1, 0], [4, 6]])
    np.testing.assert_array_equal(split.masks[0], [[True, False], [True, True]])
    assert (split.counts.dtype, split.ids.dtype, split.masks.dtype) == (np.int32, np.uint8, bool)
    assert split.version == "1.2.3"


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_ids_against_a_loop_over_the_blocks(factor: int) -> None:
    """Oblong images crowded with small lesions."""
    ids = np.random.default_rng(0).choice([0, 0, 1, 2, 3, 9], size=(3, 32, 16)).astype(np.uint8)
    split = _binned(_scans(ids), 16 // factor)
    assert split.ids.shape == split.images.shape == (3, 32 // factor, 16 // factor)
    for image, row, column in np.ndindex(split.ids.shape):
        rows, columns = (slice(place * factor, (place + 1) * factor) for place in (row, column))
        lesion = [int(one) for one in ids[image, rows, columns].ravel() if one]
        expected = Counter(lesion).most_common(1)[0][0] if 2 * len(lesion) >= factor**2 else 0
        assert split.ids[image, row, column] == expected


def test_pixels_grow_and_images_are_normalised() -> None:
    """Rows and columns of the scan's pixels differ."""
    scans = fake_scans(2)
    scans.rows[1] = scans.rows[1].__class__("b", "p", "anterior", (2.0, 3.0), [])
    split = _binned(scans, 4)
    assert split.pixel_sizes_mm == [(8.0, 8.0), (8.0, 12.0)]
    summed = scans.counts.reshape(2, 4, 4, 4, 4).sum(axis=(2, 4))
    np.testing.assert_array_equal(split.counts, summed)
    np.testing.assert_array_equal(split.images, normalize(summed))


def test_the_field_keeps_its_pixels() -> None:
    scans = fake_scans(2)
    split = on_field(scans, _data(4))
    np.testing.assert_array_equal(split.counts, scans.counts)
    np.testing.assert_array_equal(split.ids, scans.masks["lesions"])
    assert split.pixel_sizes_mm == [(2.0, 2.0), (2.0, 2.0)]
    whole = on_network(split, 16)
    np.testing.assert_array_equal(whole.counts, split.counts)
    np.testing.assert_array_equal(whole.ids, split.ids)


def test_a_split_that_does_not_fit_into_memory_stays_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five bytes a pixel; at the limit it still fits. Read image by image it is the same split."""
    scans = fake_scans(6)
    stored, size = stored_scans(scans), 6 * 16 * 16 * 5
    monkeypatch.setattr(grid, "IN_MEMORY_BYTES", size)
    assert isinstance(on_field(stored, _data(8)).counts, np.ndarray)
    monkeypatch.setattr(grid, "IN_MEMORY_BYTES", size - 1)
    assert isinstance(on_field(stored, _data(8)).counts, Lazy)
    monkeypatch.setattr(grid, "IN_MEMORY_BYTES", 0)
    field = on_field(dataclasses.replace(stored.part([5, 0, 2]), version="1.2.3"), _data(8))
    assert field.version == "1.2.3" and len(field) == 3 and field.shape == (16, 16)
    for split, known in ((field, on_field(scans, _data(8))), (on_network(field, 8), _binned(scans, 8))):
        assert isinstance(split.counts, Lazy)
        for number, row in enumerate((5, 0, 2)):
            for name in ("counts", "ids", "masks", "images"):
                np.testing.assert_array_equal(getattr(split, name)[number], getattr(known, name)[row])
            assert split.rows[number] == known.rows[row]
            assert split.pixel_sizes_mm[number] == known.pixel_sizes_mm[row]
        assert [row.image_id for row in split.rows] == ["image-5", "image-0", "image-2"]


def test_impossible_requests_are_named() -> None:
    with pytest.raises(ValueError, match="scored_mask='guess' must be one of lesions"):
        on_field(fake_scans(2), _data(16, "guess"))
    with pytest.raises(ValueError, match="image_size_px=10 does not divide the 16 pixels"):
        on_field(stored_scans(fake_scans(2)), _data(10))
    with pytest.raises(ValueError, match="image_size_px=10 does not divide the 16 pixels"):
        on_field(fake_scans(2), _data(10))
    with pytest.raises(ValueError, match="image_size_px=10 does not divide the 16 pixels"):
        on_network(on_field(fake_scans(2), _data(16)), 10)


def test_spared_are_hidden_lesions_benign_spots_and_organs() -> None:
    lesions, hidden, benign, organs = np.eye(4, dtype=np.uint8).reshape(4, 1, 2, 2)
    scans = _scans(lesions)
    assert on_field(scans, _data(2)).spared is None
    scans.masks.update(lesions_all=hidden + lesions, benign=7 * benign, organs=np.zeros_like(organs))
    np.testing.assert_array_equal(on_field(scans, _data(2)).spared, [[[True, True], [True, False]]])
    scans.masks["organs"] = 3 * organs
    assert on_field(scans, _data(2)).spared.all()
