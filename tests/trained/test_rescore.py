"""A run scored again, from its recipe and data set to metrics.json."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from data_pipeline import folds, grid
from data_pipeline.features import BoneScans
from msanet_jax.trained import rescore
from msanet_jax.trained.model import from_network
from tests.fakes import fake_scans

SCANS = {"train": fake_scans(8), "validation": fake_scans(6, seed=1), "test": fake_scans(10, seed=2)}


def test_one_scoring_bins_every_split_once(
    small_config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 pixels become 8: of each of the three splits counts and lesion mask go through the binning once."""
    small_config.data.image_size_px = 8
    binned: Counter[int] = Counter()
    summed = grid.bin_counts

    def counted(values: np.ndarray, factor: int) -> Any:
        binned[len(values)] += 1
        assert factor == 2
        return summed(values, factor)

    def load(dataset: str, split: str, data_dir: str, field: str) -> BoneScans:
        return SCANS[split]

    model = from_network(lambda images: (images[..., 0] > 1.4).astype(np.float32), small_config, {"step": 5})
    monkeypatch.setattr(grid, "bin_counts", counted)
    monkeypatch.setattr(folds, "load_split", load)
    monkeypatch.setattr(rescore, "restore", lambda run, *, decided: model)
    (tmp_path / "config.json").write_text(small_config.to_json())
    folder, metrics = rescore.score_again(tmp_path)
    assert binned == {len(scans.rows): 2 for scans in SCANS.values()}
    assert json.loads((folder / "metrics.json").read_text())["test"]["dsc_pooled"] == metrics["test"]["dsc_pooled"]
    assert metrics["test"]["images"] == 10
    assert {path.name for path in (folder / "pictures").iterdir()} >= {"overview.png", "froc.png"}
