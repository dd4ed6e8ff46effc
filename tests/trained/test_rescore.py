"""A run scored again, from its recipe and data set to metrics.json."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from data_pipeline import folds, grid
from data_pipeline.errors import RequestError
from data_pipeline.features import StoredScans
from msanet_jax.evaluation.results import Calibration
from msanet_jax.runs.cases import read_cases
from msanet_jax.trained import rescore
from msanet_jax.trained.model import from_network
from msanet_jax.training import outcome
from tests.fakes import fake_scans, stored_scans

SCANS = {"train": fake_scans(8), "validation": fake_scans(6, seed=1), "test": fake_scans(10, seed=2)}


def test_scores_are_on_the_field_grid_and_nothing_is_binned_for_the_truth(
    small_config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 pixels become 8 for the network; counts, masks and scores keep the 16 of the field."""
    small_config.data.image_size_px = 8

    def no_binning(*_: object) -> None:
        raise AssertionError

    def load(dataset: str, split: str, data_dir: str, field: str) -> StoredScans:
        return stored_scans(SCANS[split])

    model = from_network(lambda images: (images[..., 0] > 1.4).astype(np.float32), small_config, {"step": 5})
    monkeypatch.setattr(grid, "bin_counts", no_binning)
    monkeypatch.setattr(folds, "open_split", load)
    monkeypatch.setattr(rescore, "restore", lambda run, *, decided: model)
    (tmp_path / "config.json").write_text(small_config.to_json())
    folder, metrics = rescore.score_again(tmp_path)
    assert metrics.rules.scored_pixels == "field"
    assert sum(row.pixels for row in metrics.calibration) == 10 * 16 * 16
    truth = SCANS["test"].masks[small_config.data.scored_mask] > 0
    assert sum(row.tp + row.fn for row in metrics.images) == truth.sum()
    assert json.loads((folder / "metrics.json").read_text())["test"]["dsc_pooled"] == metrics.scores["dsc_pooled"]
    assert metrics.scores["images"] == 10
    assert {path.name for path in (folder / "pictures").iterdir()} >= {"overview.png", "froc.png"}


def test_any_model_is_scored_on_any_set_with_its_own_threshold(
    small_config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exported file on a set that its recipe does not name; nothing is chosen on that set's patients.

    The set does not fit into memory, and not every image is kept for the report.
    """
    monkeypatch.setattr(grid, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(outcome, "KEPT_MAX", 6)
    small_config.data.folds = small_config.data.subsets = 3  # of the recipe's own set
    small_config.evaluate.threshold_rule = "validation"
    model = from_network(
        lambda images: (images[..., 0] > 1.6).astype(np.float32) / 4,
        small_config,
        {"step": 5},
        threshold=0.35,
        calibration=Calibration((0.0,), 0.0, (0.5, 0.5)),  # odds 1/3 become 1/sqrt(3): 0.366
    )
    small_config.evaluate.calibration = "validation"
    loaded: list[str] = []

    def load(dataset: str, split: str, data_dir: str, field: str) -> StoredScans:
        loaded.append(dataset)
        return stored_scans(SCANS[split])

    monkeypatch.setattr(folds, "open_split", load)
    monkeypatch.setattr(rescore, "load_exported", lambda path: model)
    file = tmp_path / "any.msanet"
    file.touch()
    with pytest.raises(RequestError, match="--out: name a folder"):
        rescore.score_again(file, on="phantom_bone/other")
    _, metrics = rescore.score_again(file, on="phantom_bone/other", out=tmp_path / "scores")
    assert set(loaded) == {"phantom_bone/other"}
    assert (metrics.threshold.value, metrics.threshold.rule) == (0.35, "given")
    assert metrics.calibration_map == model.calibration  # the model's own, and not applied a second time
    assert max(row.probability_mean or 0.0 for row in metrics.calibration) == pytest.approx(0.366, abs=1e-3)
    assert metrics.provenance.dataset == "phantom_bone/other"
    assert metrics.scores["dsc_pooled"] == 1.0
    kept = read_cases(tmp_path / "scores")
    assert kept is not None and kept.image_ids.tolist() == [row.image_id for row in metrics.images[:6]]
    np.testing.assert_array_equal(kept.instances, SCANS["test"].masks["lesions"][:6])
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(small_config.to_json())
    monkeypatch.setattr(rescore, "restore", lambda run, *, decided: model if decided else None)
    folder, _ = rescore.score_again(run, on="phantom_bone/other", split="validation")
    assert folder == run / "evaluation_phantom_bone_other_validation"
