"""What is said before a training begins."""

from __future__ import annotations

import pytest

from configs.msanet import get_config
from msanet_jax.training.job import advice_on_steps


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
