"""What is said before a training begins, and which states are scored after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.msanet import get_config
from msanet_jax.training import job
from msanet_jax.training.job import advice_on_steps
from tests.fakes import fake_split


def test_few_steps_are_said_with_a_batch_that_fits() -> None:
    """14 images at batch 8 and 30 epochs: 30 steps. Batches of 3 are 4 a pass, 100 passes of them 400 steps."""
    config = get_config("cpu")
    config.train.total_epochs = 30.0
    said = advice_on_steps(14, config, devices=1)
    assert said == (
        "14 training images at batch 8 make 30 steps in all, too few to learn much; --config.train.batch_size=3 "
        "--config.train.total_epochs=100 make 400"
    )
    assert "batch_size=4 --config.train.total_epochs=134 make 402" in str(advice_on_steps(14, config, devices=4))


@pytest.mark.parametrize(("images", "epochs"), [(8, 400.0), (112, 30.0), (20, 200.0)])
def test_enough_steps_need_no_advice(images: int, epochs: float) -> None:
    config = get_config("cpu")
    config.train.total_epochs = epochs
    assert advice_on_steps(images, config, devices=1) is None


def test_nothing_is_said_where_it_would_not_help() -> None:
    """A smoke test is meant to be short, a baseline takes no steps, and too large a batch is refused elsewhere."""
    assert advice_on_steps(14, get_config("smoke"), devices=1) is None
    baseline = get_config("cpu")
    baseline.model = "kmeans"
    assert advice_on_steps(14, baseline, devices=1) is None
    assert advice_on_steps(4, get_config("cpu"), devices=1) is None


@pytest.mark.parametrize("also_last", [False, True])
def test_the_last_state_is_scored_before_the_best_one_where_asked(
    also_last: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """metrics.json of the best state comes last: a run that has it is complete."""
    config = get_config("smoke")
    config.evaluate.also_last = also_last
    config.model = "kmeans"  # no curves of a training
    split = fake_split(4)
    scored: list[tuple[str, int, float]] = []

    def score(probability: Any, splits: Any, *, folder: Path, step: int, **others: Any) -> dict[str, Any]:
        assert folder.is_dir()
        scored.append((folder.name, step, float(probability(split.counts)[0])))
        return {}

    best, last = (
        job._Fitted(lambda counts, value=value: np.array([value]), step) for value, step in ((0.25, 4), (0.5, 8))
    )
    monkeypatch.setattr(
        job, "load_splits", lambda data, data_dir: dict.fromkeys(("train", "validation", "test"), split)
    )
    monkeypatch.setattr(job, "_fitted", lambda *arguments: (best, last))
    monkeypatch.setattr(job, "score_and_write", score)
    monkeypatch.setattr(job, "headline", lambda metrics, run: "")
    job.train_and_evaluate(config, workdir=str(tmp_path / "run"), data_dir="")
    assert scored == [*([("last", 8, 0.5)] if also_last else []), ("run", 4, 0.25)]
