"""The stress table from sets that are known by construction."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from data_pipeline.features import BoneScans
from data_pipeline.phantom.priors.stress import STRESSES
from msanet_jax.trained import stress
from msanet_jax.trained.model import from_network
from tests.fakes import fake_scans, fake_split


def _load(dataset: str, split: str, data_dir: str) -> BoneScans:
    """Lesions of 4 x 4 pixels of 120 counts on 20; on one set the same spots are benign."""
    scans = fake_scans(8, seed=3)
    nothing = np.zeros_like(scans.masks["lesions"])
    masks = scans.masks | {"organs": nothing, "benign": nothing}
    if dataset == "phantom_bone/stress_benign":
        masks |= {"benign": masks["lesions"], "lesions": nothing, "lesions_all": nothing}
    if dataset == "phantom_bone/stress_uptake":
        masks |= {"lesions": nothing, "lesions_all": nothing}
    assert (split == "validation") == (dataset == "phantom_bone/stress_tuning")
    return BoneScans(scans.counts, masks, scans.rows, version="9.9.9")


def test_one_row_a_set_for_the_model_and_the_filter(
    small_config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = from_network(lambda images: (images[..., 0] > 1.6).astype(np.float32), small_config, {"step": 5})
    monkeypatch.setattr(stress, "load_split", _load)
    monkeypatch.setattr(stress, "load_scored", lambda source: model)
    folder, page = stress.score_on_stress(tmp_path)
    content = json.loads((folder / "stress.json").read_text())
    assert folder == tmp_path / "evaluation_stress"
    assert (folder / "stress.md").read_text() == page
    rows = {row["set"]: row for row in content["sets"]}
    assert list(rows) == list(STRESSES)
    assert rows["reference"]["model"]["dsc_pooled"] == 1.0
    assert rows["reference"]["model"]["healthy_false_pixels_per_image"] == 0.0
    assert rows["reference"]["model"]["dsc_pooled_interval"] == [1.0, 1.0]
    assert rows["reference"]["model"]["gap"] < 1e-3 and "gap" not in rows["reference"]["top_hat"]
    assert rows["reference"]["top_hat"]["dsc_pooled"] > 0.9
    # 6 of 8 images have 16 pixels: on benign spots they are false but not on healthy bone.
    assert rows["benign"]["model"]["precision_pooled"] == 0.0
    assert rows["benign"]["model"]["healthy_false_pixels_per_image"] == 0.0
    assert rows["uptake"]["model"]["healthy_false_pixels_per_image"] == 6 * 16 / 8
    assert page.count("\n| ") == len(STRESSES) + 1
    assert "PhantomBone 9.9.9" in page and "not comparable" in page


def test_false_pixels_on_healthy_tissue_by_hand() -> None:
    """Of four marks one is lesion, one lies on what is spared, two on healthy tissue: one an image."""
    split = fake_split(2)
    marked, spared = np.zeros((2, *split.masks.shape), bool)
    ids = np.zeros(split.ids.shape, np.uint8)
    marked[0, [3, 3, 8, 9], [3, 4, 8, 9]] = True
    ids[0, 3, 3], spared[0, 3, 4] = 1, True
    assert stress.healthy_false_pixels(marked, dataclasses.replace(split, ids=ids, spared=spared)) == 1.0


def test_what_cannot_be_scored_is_refused(
    small_config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_config.data.field = "whole_body"
    model = from_network(lambda images: images[..., 0], small_config, {"step": 5})
    monkeypatch.setattr(stress, "load_scored", lambda source: model)
    with pytest.raises(RequestError, match="stress sets show the thorax"):
        stress.score_on_stress(tmp_path)
    with pytest.raises(RequestError, match="--out: name a folder"):
        stress.score_on_stress(Path("default"))
    with pytest.raises(RequestError, match=r"--threshold=2: must lie"):
        stress.score_on_stress(tmp_path, threshold=2.0)
