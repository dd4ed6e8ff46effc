"""Evaluation of a split, the threshold baseline, files and pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from fakes import fake_scans
from ml_collections import ConfigDict
from PIL import Image

from data_pipeline.batches import binned
from msanet_jax.evaluate import Evaluation, evaluate, threshold_baseline
from msanet_jax.metrics_file import write_metrics
from msanet_jax.report import validation_panels, write_curves, write_pictures

SCANS = fake_scans(10)


def _oracle(config: ConfigDict) -> object:
    """Knows bright pixels: a model of what the images show."""
    return lambda images: (images[..., 0] > 1.6).astype(np.float32)


@pytest.fixture
def perfect(small_config: ConfigDict) -> Evaluation:
    return evaluate(_oracle(small_config), SCANS, config=small_config)


def test_a_perfect_model(perfect: Evaluation) -> None:
    summary = perfect.summary
    assert summary["dsc_pooled"] == summary["dsc_mean"] == summary["lesion_recall"] == 1.0
    assert summary["images"] == 10
    assert summary["images_without_lesion"] == summary["images_with_undefined_dsc"] == 2
    assert summary["false_positive_pixels_without_lesion"] == 0
    assert summary["intervals"]["dsc_pooled"] == (1.0, 1.0)
    assert len(perfect.images) == 10
    assert len(perfect.lesions) == 8


def test_all_positive_by_hand(small_config: ConfigDict) -> None:
    result = evaluate(lambda images: np.ones(images.shape[:3], np.float32), SCANS, config=small_config).summary
    lesion_pixels, pixels = 8 * 16, 10 * 256
    assert result["precision_pooled"] == pytest.approx(lesion_pixels / pixels)
    assert result["recall_pooled"] == 1.0
    assert result["false_positive_pixels_without_lesion"] == 2 * 256


def test_zeroed_input_collapses(small_config: ConfigDict) -> None:
    result = evaluate(_oracle(small_config), SCANS, config=small_config, input_zeroed=True).summary
    assert result["dsc_pooled"] == 0.0


def test_baseline_finds_the_best_threshold(small_config: ConfigDict) -> None:
    """Against a brute-force search over all values that occur."""
    result = threshold_baseline(SCANS, SCANS, config=small_config).summary
    counts, masks = binned(SCANS, small_config.data)
    from data_pipeline.normalize import normalize

    uptake, truth = normalize(counts), masks > 0
    best = max(
        2 * (truth & (uptake > value)).sum() / (truth.sum() + (uptake > value).sum()) for value in np.unique(uptake)
    )
    assert result["dsc_pooled"] == pytest.approx(best, abs=2e-3)
    assert result["dsc_pooled"] > 0.95


def test_metrics_file(perfect: Evaluation, small_config: ConfigDict, tmp_path: Path) -> None:
    baseline = threshold_baseline(SCANS, SCANS, config=small_config)
    write_metrics(
        tmp_path, test=perfect, threshold_baseline=baseline, zero_input_dsc_pooled=0.25, provenance={"seed": 0}
    )
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["test"]["dsc_pooled"] == 1.0
    assert content["zero_input_dsc_pooled"] == 0.25
    assert content["images"][3]["dsc"] is None
    assert "not comparable" in content["note"]
    with (tmp_path / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert rows[3]["dsc"] == ""
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.json", "images.csv", "lesions.csv"}


def test_pictures(perfect: Evaluation, small_config: ConfigDict, tmp_path: Path) -> None:
    write_pictures(tmp_path, perfect, SCANS, small_config)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"overview.png", "worst_1.png", "median_1.png", "best_1.png"} <= names
    with Image.open(tmp_path / "overview.png") as picture:
        assert np.asarray(picture.convert("RGB")).std() > 5
    panels = validation_panels(perfect, SCANS, small_config)["validation"]
    assert panels.shape == (4, 16, 48, 1)
    assert panels.min() >= 0.0
    assert panels.max() <= 1.0


def test_curves(tmp_path: Path) -> None:
    rows = [
        {"kind": "train", "step": 1, "epoch": 0.5, "supervised_loss": 1.0, "dice_loss": 0.9, "learning_rate": 1e-3},
        {"kind": "validation", "step": 1, "epoch": 0.5, "dsc_pooled": None, "precision_pooled": 0.5},
        {"kind": "train", "step": 2, "epoch": 1.0, "supervised_loss": 0.8, "dice_loss": 0.7, "learning_rate": 2e-3},
    ]
    history = tmp_path / "history.jsonl"
    history.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"cut')
    write_curves(tmp_path / "curves.png", history)
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size[0] > 500
