"""Imported folders as TFDS sets, in both fields; PhantomBone's whole bodies; batches and scores of oblong images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from configs.msanet import get_config
from data_pipeline.augmentation.warping import geometry, warp
from data_pipeline.batches import train_batches
from data_pipeline.datasets import is_simulated, load_split
from data_pipeline.errors import RequestError
from data_pipeline.features import BoneScans
from data_pipeline.fields import field_counts, field_ids, field_shape, find_window
from data_pipeline.grid import on_field
from data_pipeline.intake.build import ImportOptions, import_source
from data_pipeline.intake.folder import SPLITS, read_data_set
from data_pipeline.readers.stated import Stated
from data_pipeline.scan import Scan, View
from data_pipeline.thorax import find_thorax
from data_pipeline.windows import crop, cut
from msanet_jax.evaluation.evaluate import evaluate
from tests.fakes import fake_scans
from tests.user_files import LESIONS, body_scan, picture_source


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("imported")
    source = picture_source(place / "in", 5, healthy=1)
    import_source(source, place / "set", ImportOptions(stated=Stated(pixel_mm=4.52)), progress=False)
    return place / "set"


def _all(folder: Path, data_dir: Path, field: str) -> dict[str, BoneScans]:
    return {split: load_split(str(folder), split, str(data_dir), field) for split in SPLITS}


def test_thorax_field_of_an_imported_set(folder: Path, tmp_path: Path) -> None:
    splits = _all(folder, tmp_path, "thorax")
    data_set = read_data_set(folder)
    for name, scans in splits.items():
        assert scans.counts.shape[1:] == (256, 256) and scans.counts.dtype == np.int32
        assert {row.patient for row in scans.rows} == set(data_set.splits[name])
        assert set(scans.masks) == {"lesions"}
    ill = [(split, n) for split in splits for n, row in enumerate(splits[split].rows) if row.lesion_rows]
    assert len(ill) == 4
    split, number = ill[0]
    scans = splits[split]
    # Pixels of 4.52 mm become pixels of 2.26 mm: four times as many, the counts stay.
    areas = np.bincount(scans.masks["lesions"][number].ravel())[1:]
    assert sorted(areas.tolist()) == sorted(4 * rows * columns for _, _, rows, columns in LESIONS)
    assert scans.rows[number].pixel_size_mm == pytest.approx((2.26, 2.26), rel=2e-3)
    assert [row.id for row in scans.rows[number].lesion_rows] == [1, 2, 3]
    entry = next(e for e in data_set.entries if e.image_id == scans.rows[number].image_id)
    whole = np.asarray(Image.open(folder / entry.counts))
    assert scans.counts[number].sum() == pytest.approx(crop(whole, entry.thorax).sum(), rel=0.01)
    assert not is_simulated(str(folder)) and is_simulated("phantom_bone/tiny")


def test_an_edit_gives_a_new_set_and_the_same_folder_the_old_one(folder: Path, tmp_path: Path) -> None:
    before = load_split(str(folder), "train", str(tmp_path))
    built = sorted(path.name for path in (tmp_path / "imported_bone").iterdir())
    load_split(str(folder), "test", str(tmp_path))
    assert sorted(path.name for path in (tmp_path / "imported_bone").iterdir()) == built
    manifest = folder / "manifest.csv"
    original = manifest.read_text()
    lines = original.splitlines()
    columns = lines[0].split(",")
    row = next(n for n, line in enumerate(lines) if line.startswith(before.rows[0].image_id))
    cells = lines[row].split(",")
    cells[columns.index("thorax_row")] = str(int(cells[columns.index("thorax_row")]) + 10)
    manifest.write_text("\n".join([*lines[:row], ",".join(cells), *lines[row + 1 :]]) + "\n")
    try:
        after = load_split(str(folder), "train", str(tmp_path))
        np.testing.assert_array_equal(after.counts[0][:-20], before.counts[0][20:])
        assert len(list((tmp_path / "imported_bone").iterdir())) == 2
    finally:
        manifest.write_text(original)


def test_whole_body_field(folder: Path, tmp_path: Path) -> None:
    scans = load_split(str(folder), "train", str(tmp_path), "whole_body")
    assert scans.counts.shape[1:] == (1024, 256)
    number = next(n for n, row in enumerate(scans.rows) if row.lesion_rows)
    ids = scans.masks["lesions"][number]
    row, column = np.argwhere(ids == 1).min(axis=0)
    assert (row, column) == (2 * LESIONS[0][0], 2 * LESIONS[0][1])
    assert (ids == 1).sum() == 4 * LESIONS[0][2] * LESIONS[0][3]


def test_sets_that_cannot_be_loaded(folder: Path, tmp_path: Path) -> None:
    splits = folder / "splits.json"
    original = splits.read_text()
    content = json.loads(original)
    splits.write_text(json.dumps(content | {"train": content["train"] + content["test"], "test": []}))
    try:
        with pytest.raises(RequestError, match="test has no patient with a lesion mask; at least three patients"):
            load_split(str(folder), "train", str(tmp_path))
    finally:
        splits.write_text(original)
    with pytest.raises(RequestError, match=r"data.field='legs' must be one of thorax, whole_body"):
        load_split(str(folder), "train", str(tmp_path), "legs")
    with pytest.raises(RequestError, match=r"or a folder that `msanet import` wrote"):
        load_split(str(tmp_path), "train", str(tmp_path))
    with pytest.raises(RequestError, match=r"data.scored_mask='reader_1' must be one of lesions"):
        data = get_config("smoke").data
        data.scored_mask = "reader_1"
        on_field(load_split(str(folder), "test", str(tmp_path)), data)


def test_windows_cut_as_the_thorax_does_and_whole_bodies_from_the_top() -> None:
    counts = np.kron(body_scan(), np.ones((2, 2), np.int32)).astype(np.int32)
    scan = Scan(counts, (2.26, 2.26), View.ANTERIOR, "p", "fake")
    box = find_thorax(scan)
    np.testing.assert_array_equal(field_counts(counts, find_window(scan, "thorax"), "thorax"), crop(counts, box))
    np.testing.assert_array_equal(field_counts(counts, find_window(scan, "whole_body"), "whole_body"), counts)
    short = Scan(counts[:700], (2.26, 2.26), View.ANTERIOR, "p", "fake")
    body = field_counts(short.counts, find_window(short, "whole_body"), "whole_body")
    assert body.shape == (1024, 256) and not body[700:].any()
    np.testing.assert_array_equal(body[:700], counts[:700])
    fine = Scan(np.kron(counts, np.ones((2, 2), np.int32)).astype(np.int32), (1.13, 1.13), View.ANTERIOR, "p", "fake")
    window = find_window(fine, "whole_body")
    assert (window.rows, window.columns) == (2048, 512)
    np.testing.assert_array_equal(field_counts(fine.counts, window, "whole_body"), 4 * counts)
    np.testing.assert_array_equal(field_ids(fine.counts, window, "whole_body"), counts)
    assert not cut(counts, find_window(scan, "thorax").__class__(5000, 0, 10, 10)).any()
    assert field_shape("whole_body") == (1024, 256)


def _oblong(images: int) -> BoneScans:
    """Squares of `fake_scans` with as much air below them."""
    scans = fake_scans(images)

    def lengthen(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values, np.zeros_like(values)], axis=1)

    return BoneScans(lengthen(scans.counts), {name: lengthen(ids) for name, ids in scans.masks.items()}, scans.rows)


def test_batches_and_scores_of_oblong_images() -> None:
    config = get_config("smoke")
    config.data.image_size_px = 8
    split = on_field(_oblong(6), config.data)
    batch = next(train_batches(split, augment=config.augment, image_size_px=8, batch_size=4, seed=1))
    assert batch["image"].shape == batch["mask"].shape == (4, 16, 8, 1)
    order = iter(np.split(split.masks.astype(np.float32), 3))
    config.evaluate.batch_size = 2
    evaluation = evaluate(lambda counts: next(order), split, config=config)
    assert evaluation.probabilities.shape == (6, 32, 16)
    assert evaluation.summary["dsc_pooled"] == 1.0


def test_turning_and_mirroring_an_oblong_image_keep_its_centre() -> None:
    image = np.zeros((41, 21, 1), np.float32)
    image[20, 10] = 1.0
    image[20, 4] = 0.5
    one, none = tf.constant(1.0), tf.zeros([2])
    side = tf.constant([41.0, 21.0])

    def moved(mirror: float, angle: float) -> np.ndarray:
        transform = geometry(side, mirror=tf.constant(mirror), angle=tf.constant(angle), zoom=one, shift=none)
        return warp(tf.constant(image), transform).numpy()[..., 0]

    mirrored = moved(-1.0, 0.0)
    assert mirrored[20, 10] == pytest.approx(1.0) and mirrored[20, 16] == pytest.approx(0.5)
    turned = moved(1.0, np.pi / 2)
    assert turned[20, 10] == pytest.approx(1.0, abs=1e-4)
    assert max(turned[26, 10], turned[14, 10]) == pytest.approx(0.5, abs=1e-4)
