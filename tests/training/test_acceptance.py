"""What is refused before a run begins, and that a refused command leaves its folder as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.msanet import get_config
from data_pipeline.errors import RequestError
from data_pipeline.grid import GridSplit
from msanet_jax.training import job
from msanet_jax.training.acceptance import check_run
from tests.fakes import fake_split

IMPOSSIBLE = (
    ({"seed": -1}, r"config\.seed=-1 must be a whole number, 0 to 2,147,483,640"),
    ({"evaluate.threshold": float("nan")}, r"config\.evaluate\.threshold=nan must be a number, 0 to 1"),
    ({"train.batch_size": 6}, r"config\.train\.batch_size=6 is not divisible by 4 devices"),
    ({"model": "nothing"}, "model='nothing' must be one of msanet"),
    ({"data.image_size_px": 100}, "data.image_size_px=100 does not divide the 256 pixels"),
    ({"generator.depth": 7, "generator.cascade_level": 7}, "64 x 64 pixels: sides must be divisible by 128"),
    ({"adversary.pyramid_levels": 9}, "no 9 pyramid levels"),
    ({"adversary.objective": "nothing"}, "adversary.objective='nothing' must be one of"),
)


@pytest.mark.parametrize(("changes", "said"), IMPOSSIBLE)
def test_a_refused_recipe_leaves_no_folder(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    config = get_config("smoke")
    for key, value in changes.items():
        section, _, leaf = key.rpartition(".")
        vars(config[section] if section else config)["_fields"][leaf] = value  # past the checks of types
    with pytest.raises(RequestError, match=said) as refusal:
        job.train_and_evaluate(config, workdir=str(tmp_path / "run"), data_dir=str(tmp_path / "data"))
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_refused_data_leave_the_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch larger than the set is known only when the set is; the folder then takes another recipe."""
    splits: dict[str, GridSplit] = {name: fake_split(4) for name in ("train", "validation", "test")}
    monkeypatch.setattr(job, "load_splits", lambda data, data_dir: splits)
    config = get_config("smoke")
    config.train.batch_size = 8
    with pytest.raises(RequestError, match=r"train\.batch_size=8 is larger than the training set of 4 images"):
        job.train_and_evaluate(config, workdir=str(tmp_path / "run"), data_dir=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("variants", ["smoke", "smoke,no_msm,no_cdc,no_adversarial"])
def test_what_can_be_trained_is_accepted(variants: str) -> None:
    check_run(get_config(variants))
