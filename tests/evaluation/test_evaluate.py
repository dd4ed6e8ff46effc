"""Evaluation of a split, the threshold baseline, files and pictures."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from data_pipeline import grid
from data_pipeline.errors import RequestError
from data_pipeline.features import Lazy
from data_pipeline.grid import on_field
from msanet_jax.evaluation.evaluate import (
    choose_threshold,
    choose_uptake_threshold,
    decide,
    dsc_by_threshold,
    evaluate,
    probability_maps,
    score_validation,
    threshold_baseline,
)
from msanet_jax.evaluation.field_maps import Network, Probability, field_probability, marks
from msanet_jax.evaluation.protocol import score
from msanet_jax.evaluation.results import Evaluation
from msanet_jax.report.case_pictures import validation_panels, write_pictures
from msanet_jax.report.curves import write_curves
from tests.fakes import fake_scans, fake_split, level_split, stored_scans

SPLIT = fake_split(10)


def _of(network: Network) -> Probability:
    return field_probability(network, 16)


ORACLE = _of(lambda images: (images[..., 0] > 1.6).astype(np.float32))
"""Knows bright pixels: a model of what the images show."""


@pytest.fixture
def perfect(small_config: ConfigDict) -> Evaluation:
    return evaluate(ORACLE, SPLIT, config=small_config)


def test_a_perfect_model(perfect: Evaluation) -> None:
    summary = perfect.summary
    assert summary["dsc_pooled"] == summary["dsc_mean"] == summary["lesion_recall"] == 1.0
    assert summary["images"] == 10
    assert summary["images_without_lesion"] == summary["images_with_undefined_dsc"] == 2
    assert summary["false_positive_pixels_without_lesion"] == 0
    assert summary.intervals["dsc_pooled"] == (1.0, 1.0)
    assert len(perfect.images) == 10
    assert len(perfect.lesions) == 8
    assert summary["nsd_mean"] == summary["average_precision"] == summary["lesion_dsc_mean"] == 1.0
    assert summary["hd95_mm_mean"] == summary["ece"] == summary["brier"] == 0.0
    assert summary["false_positives_per_image"] == summary["lesion_count_error_abs_mean"] == 0.0
    assert summary["froc_score"] == 1.0
    assert summary["images_with_undefined_hd95"] == summary["images_with_undefined_nsd"] == 2
    assert summary["lesions_without_pixels"] == 2


def test_all_positive_by_hand(small_config: ConfigDict) -> None:
    result = evaluate(_of(lambda images: np.ones(images.shape[:3], np.float32)), SPLIT, config=small_config).summary
    lesion_pixels, pixels = 8 * 16, 10 * 256
    assert result["precision_pooled"] == pytest.approx(lesion_pixels / pixels)
    assert result["recall_pooled"] == 1.0
    assert result["false_positive_pixels_without_lesion"] == 2 * 256


def test_zeroed_input_collapses(small_config: ConfigDict) -> None:
    result = evaluate(ORACLE, SPLIT, config=small_config, input_zeroed=True).summary
    assert result["dsc_pooled"] == 0.0


def test_baseline_finds_the_best_threshold(small_config: ConfigDict) -> None:
    """Against a brute-force search over all values that occur."""
    result = threshold_baseline(SPLIT, SPLIT, config=small_config).summary
    uptake, truth = SPLIT.images, SPLIT.masks
    best = max(
        2 * (truth & (uptake > value)).sum() / (truth.sum() + (uptake > value).sum()) for value in np.unique(uptake)
    )
    assert result["dsc_pooled"] == pytest.approx(best, abs=2e-3)
    assert result["dsc_pooled"] > 0.95


def test_baseline_is_tuned_on_the_training_images(small_config: ConfigDict) -> None:
    """In training lesions take up more than the rest, in the test less: a threshold of the test would find them."""
    training, test = level_split(lesion=4, other=3), level_split(lesion=3, other=4)
    assert choose_uptake_threshold(training, image_size_px=16) == 3.0
    result = threshold_baseline(training, test, config=small_config)
    assert result.summary["threshold"] == 3.0
    assert result.summary["dsc_pooled"] == result.summary["precision_pooled"] == 0.0
    assert result.summary["images"] == 4
    assert not result.curves
    # The best of the test images marks both squares: 4 x 4 pixels each.
    assert choose_uptake_threshold(test, image_size_px=16) == 1.0
    best = threshold_baseline(test, test, config=small_config).summary
    assert (best["precision_pooled"], best["recall_pooled"]) == (0.5, 1.0)
    assert best.intervals["dsc_pooled"] == pytest.approx((2 / 3, 2 / 3))


def test_baseline_reaches_an_uptake_of_ten() -> None:
    assert choose_uptake_threshold(level_split(lesion=10, other=9, side=32), image_size_px=32) == 9.0


def test_dsc_by_threshold_by_hand() -> None:
    """Lesions at 0.2 and 0.6, another pixel at 0.4; above 0.6 nothing is marked."""
    maps, truth = np.array([0.2, 0.4, 0.6, 0.0]), np.array([True, False, True, False])
    thresholds = np.array([0.0, 0.2, 0.4, 0.6])
    np.testing.assert_allclose(dsc_by_threshold(maps, truth, thresholds), [4 / 5, 2 / 4, 2 / 3, 0.0])
    assert dsc_by_threshold(maps, np.zeros(4, bool), thresholds).tolist() == [0.0] * 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dsc_by_threshold_is_what_scoring_gives(dtype: type, small_config: ConfigDict) -> None:
    """At thresholds that occur as values, too: above means above."""
    maps = np.round(np.random.default_rng(0).random((10, 16, 16)), 2).astype(dtype)
    thresholds = np.linspace(0.0, 1.0, 101)
    dsc = dsc_by_threshold(maps, SPLIT.masks, thresholds)
    for place in (0, 13, 50, 99):
        result = score(maps, SPLIT, config=small_config, threshold=float(thresholds[place]), thorough=False)
        assert result.summary["dsc_pooled"] == pytest.approx(dsc[place])
    assert dsc[100] == 0.0


def test_threshold_rules(small_config: ConfigDict) -> None:
    """Lesions have 0.4, the rest 0.2: the best thresholds are 0.2 to 0.399, the one nearest to 0.5 is taken."""
    maps = np.where(SPLIT.masks, np.float32(0.4), np.float32(0.2))
    assert choose_threshold(maps, SPLIT.masks, rules=small_config.evaluate) == 0.5
    small_config.evaluate.threshold_rule = "validation"
    assert choose_threshold(maps, SPLIT.masks, rules=small_config.evaluate) == 0.399
    small_config.evaluate.threshold = 0.1
    assert choose_threshold(maps, SPLIT.masks, rules=small_config.evaluate) == 0.2
    small_config.evaluate.threshold_rule = "test"
    with pytest.raises(RequestError, match="threshold_rule='test' must be one of fixed, validation"):
        choose_threshold(maps, SPLIT.masks, rules=small_config.evaluate)


def test_validation_uses_the_rule_and_only_the_cheap_part(small_config: ConfigDict) -> None:
    def shy(images: np.ndarray) -> np.ndarray:
        return np.where(images[..., 0] > 1.6, np.float32(0.4), np.float32(0.2))

    fixed = score_validation(_of(shy), SPLIT, config=small_config)
    assert fixed.summary["dsc_pooled"] == 0.0
    small_config.evaluate.threshold_rule = "validation"
    chosen = score_validation(_of(shy), SPLIT, config=small_config)
    assert chosen.summary["dsc_pooled"] == 1.0
    assert chosen.summary["threshold"] == 0.399
    assert not chosen.summary.intervals
    assert "hd95_mm_mean" not in chosen.summary.values
    assert not chosen.curves
    whole = evaluate(_of(shy), SPLIT, config=small_config, threshold=0.399)
    shared = chosen.summary.values.keys() & whole.summary.values.keys()
    assert {"dsc_pooled", "lesion_recall", "lesions_small"} <= shared
    np.testing.assert_equal({key: whole.summary[key] for key in shared}, {key: chosen.summary[key] for key in shared})


def test_calibration_changes_probabilities_and_no_mark(small_config: ConfigDict) -> None:
    """By either rule; a given threshold is one on the calibrated probability."""

    def unsure(images: np.ndarray) -> np.ndarray:
        return (1 / (1 + np.exp(3.0 - 1.5 * images[..., 0]))).astype(np.float32)

    raw = probability_maps(_of(unsure), SPLIT.counts, batch_size=4)
    for rule in ("fixed", "validation"):
        small_config.evaluate.threshold_rule = rule
        small_config.evaluate.calibration = "none"
        plain = decide(_of(unsure), SPLIT, config=small_config)
        assert plain.calibration is None
        small_config.evaluate.calibration = "validation"
        honest = decide(_of(unsure), SPLIT, config=small_config)
        assert honest.calibration is not None
        assert honest.threshold.validation_dsc_pooled == plain.threshold.validation_dsc_pooled
        assert abs(honest.threshold.value - plain.threshold.value) > 0.02
        maps = probability_maps(honest.probability, SPLIT.counts, batch_size=4)
        assert np.abs(maps - raw).max() > 0.1 and abs(maps.mean() - SPLIT.masks.mean()) < 1e-3 < abs(
            raw.mean() - SPLIT.masks.mean()
        )
        np.testing.assert_array_equal(marks(maps, honest.threshold.value), marks(raw, plain.threshold.value))
        scored = evaluate(honest.probability, SPLIT, config=small_config, threshold=honest.threshold.value)
        known = evaluate(_of(unsure), SPLIT, config=small_config, threshold=plain.threshold.value)
        for name in ("dsc_pooled", "precision_pooled", "recall_pooled", "hd95_mm_mean", "lesion_recall"):
            assert scored.summary[name] == known.summary[name], name
        assert scored.summary["brier"] < known.summary["brier"]
        given = decide(_of(unsure), SPLIT, config=small_config, given=honest.threshold.value)
        assert given.threshold == dataclasses.replace(honest.threshold, rule="given")
    assert decide(_of(unsure), SPLIT, config=small_config, calibrates=False).calibration is None


def test_a_recipe_from_before_calibration_follows_its_threshold_rule(small_config: ConfigDict) -> None:
    def flat(images: np.ndarray) -> np.ndarray:
        return np.full(images.shape[:3], 0.375, np.float32)

    del small_config.evaluate.calibration
    assert decide(_of(flat), SPLIT, config=small_config).calibration is None
    small_config.evaluate.threshold_rule = "validation"
    assert decide(_of(flat), SPLIT, config=small_config).calibration is not None


def test_threshold_is_that_of_the_recipe_where_none_is_given(small_config: ConfigDict) -> None:
    small_config.evaluate.threshold = 0.25
    constant = 0.375

    def flat(images: np.ndarray) -> np.ndarray:
        return np.full(images.shape[:3], constant, np.float32)

    result = evaluate(_of(flat), SPLIT, config=small_config, thorough=False).summary
    assert (result["threshold"], result["recall_pooled"]) == (0.25, 1.0)
    given = evaluate(_of(flat), SPLIT, config=small_config, threshold=0.375, thorough=False).summary
    assert (given["threshold"], given["recall_pooled"]) == (0.375, 0.0)


def test_zeroed_input_is_zero(small_config: ConfigDict) -> None:
    """What the network sees is zero, in every image; what it makes of that is scored."""

    def shifted(images: np.ndarray) -> np.ndarray:
        return images[..., 0] + np.float32(0.125)

    result = evaluate(_of(shifted), SPLIT, config=small_config, threshold=0.25, input_zeroed=True, thorough=False)
    assert (result.probabilities == 0.125).all()


def test_every_image_is_scored_once_in_its_place() -> None:
    """10 images in batches of 4: the last batch is filled up with two blank ones."""
    batches = []

    def probability(counts: np.ndarray) -> np.ndarray:
        batches.append(counts)
        return counts / np.float32(256)

    np.testing.assert_array_equal(probability_maps(probability, SPLIT.counts, batch_size=4), SPLIT.counts / 256)
    assert [batch.shape for batch in batches] == [(4, 16, 16)] * 3
    assert not batches[-1][2:].any()


def test_a_split_on_disk_scores_as_one_in_memory(small_config: ConfigDict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its maps are made twice, batch by batch, and none is kept."""
    calls = []

    def probability(counts: np.ndarray) -> np.ndarray:
        calls.append(len(counts))
        return _of(lambda images: (1 / (1 + np.exp(6.0 - 4.0 * images[..., 0]))).astype(np.float32))(counts)

    small_config.data.scored_mask, small_config.data.image_size_px = "lesions", 16
    small_config.evaluate.batch_size, small_config.evaluate.threshold_rule = 4, "validation"
    monkeypatch.setattr(grid, "IN_MEMORY_BYTES", 0)
    stored = on_field(stored_scans(fake_scans(10)), small_config.data)
    assert isinstance(stored.counts, Lazy)
    small_config.evaluate.calibration = "validation"
    on_disk, in_memory = (decide(probability, split, config=small_config) for split in (stored, SPLIT))
    assert on_disk.calibration is not None
    assert (on_disk.threshold, on_disk.calibration) == (in_memory.threshold, in_memory.calibration)
    for zeroed in (False, True):
        calls.clear()
        found = evaluate(probability, stored, config=small_config, threshold=0.5, input_zeroed=zeroed)
        assert calls == [4] * 6
        known = evaluate(probability, SPLIT, config=small_config, threshold=0.5, input_zeroed=zeroed)
        for name in ("summary", "images", "lesions", "curves", "lesion_bins"):
            assert repr(getattr(found, name)) == repr(getattr(known, name))
        np.testing.assert_array_equal(np.stack([*found.probabilities]), known.probabilities)
        np.testing.assert_array_equal(found.probabilities[7], known.probabilities[7])
    baselines = [threshold_baseline(split, split, config=small_config).summary for split in (stored, SPLIT)]
    assert repr(baselines[0]) == repr(baselines[1])
    np.testing.assert_array_equal(
        validation_panels(found, stored)["validation"], validation_panels(known, SPLIT)["validation"]
    )


def test_pictures(perfect: Evaluation, tmp_path: Path) -> None:
    write_pictures(tmp_path, perfect, SPLIT, "footer")
    names = {path.name for path in tmp_path.iterdir()}
    assert {"overview.png", "worst_1.png", "median_1.png", "best_1.png"} <= names
    with Image.open(tmp_path / "overview.png") as picture:
        assert np.asarray(picture.convert("RGB")).std() > 5
    panels = validation_panels(perfect, SPLIT)["validation"]
    assert panels.shape == (4, 16, 48, 1)
    assert panels.min() >= 0.0
    assert panels.max() <= 1.0


def test_pictures_where_no_image_has_a_dsc(perfect: Evaluation, tmp_path: Path) -> None:
    without = dataclasses.replace(
        perfect, images=[dataclasses.replace(row, dsc=float("nan")) for row in perfect.images]
    )
    write_pictures(tmp_path, without, SPLIT, "footer")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"overview.png", "undefined_1.png", "undefined_2.png", "undefined_3.png"}


def test_curves(tmp_path: Path) -> None:
    rows = [
        {"kind": "train", "step": 1, "epoch": 0.5, "supervised_loss": 1.0, "dice_loss": 0.9, "learning_rate": 1e-3},
        {"kind": "validation", "step": 1, "epoch": 0.5, "dsc_pooled": None, "precision_pooled": 0.5},
        {"kind": "train", "step": 2, "epoch": 1.0, "supervised_loss": 0.8, "dice_loss": 0.7, "learning_rate": 2e-3},
    ]
    history = tmp_path / "history.jsonl"
    history.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"cut')
    write_curves(tmp_path / "curves.png", history, "footer")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size[0] > 500
