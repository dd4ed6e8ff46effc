"""Optimisers and schedules against their formulas."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from configs.msanet import get_config
from msanet_jax.training.optimizers import create_optimizer, learning_rate_schedule


def _section(**changes: float | str) -> ConfigDict:
    section = get_config().generator_optimizer
    section.update({"peak_learning_rate": 0.1, "clip_global_norm": 1e9, "weight_decay": 0.0} | changes)
    return section


def _parameters() -> dict[str, jax.Array]:
    return {"kernel": jnp.full((1, 1, 2, 2), 3.0), "scale": jnp.full(2, 5.0), "bias": jnp.full(2, -7.0)}


def test_kernels_decay_and_norms_do_not() -> None:
    """Without a gradient a step of rate r takes the share r x decay away from kernels, and nothing from the others."""
    optimizer = create_optimizer(_section(weight_decay=0.2), schedule=optax.constant_schedule(0.1))
    before = _parameters()
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, before), optimizer.init(before), before)
    after = optax.apply_updates(before, updates)
    np.testing.assert_allclose(after["kernel"], 3.0 * (1.0 - 0.1 * 0.2), rtol=1e-6)
    np.testing.assert_array_equal(after["scale"], before["scale"])
    np.testing.assert_array_equal(after["bias"], before["bias"])


def test_adamw_by_hand() -> None:
    """Two steps with the moments written out (Kingma and Ba 2015)."""
    section = _section(beta1=0.8, beta2=0.95)
    optimizer = create_optimizer(section, schedule=optax.constant_schedule(0.1))
    weight, first, second = 2.0, 0.0, 0.0
    ours = jnp.float32(weight)
    state = optimizer.init(ours)
    for number, gradient in enumerate((0.5, -2.0), 1):
        first, second = 0.8 * first + 0.2 * gradient, 0.95 * second + 0.05 * gradient**2
        weight -= 0.1 * (first / (1 - 0.8**number)) / (np.sqrt(second / (1 - 0.95**number)) + 1e-8)
        updates, state = optimizer.update(jnp.float32(gradient), state, ours)
        ours = optax.apply_updates(ours, updates)
        assert float(ours) == pytest.approx(weight, rel=1e-5)


def test_sgd_takes_the_clipped_gradient() -> None:
    """Gradients of norm 5 shrink to the norm 2; smaller ones stay."""
    optimizer = create_optimizer(_section(name="sgd", clip_global_norm=2.0), schedule=optax.constant_schedule(0.1))
    weights = {"a": jnp.zeros(()), "b": jnp.zeros(())}
    for gradients, expected in (((3.0, 4.0), (-0.1 * 3 * 0.4, -0.1 * 4 * 0.4)), ((0.6, 0.8), (-0.06, -0.08))):
        tree = {name: jnp.float32(value) for name, value in zip("ab", gradients, strict=True)}
        updates, _ = optimizer.update(tree, optimizer.init(weights), weights)
        assert [float(updates[name]) for name in "ab"] == pytest.approx(expected, rel=1e-5)


def test_the_schedule_of_a_short_run() -> None:
    """4 steps of warm-up from peak / 5, then half a cosine from the peak at 4 to a tenth of it at 20."""
    section = _section(warmup_epochs=2.0, final_learning_rate_fraction=0.1)
    schedule = learning_rate_schedule(section, steps_per_epoch=2, total_steps=20)
    found = [float(schedule(step)) for step in (0, 2, 4, 8, 12, 20, 30)]
    quarter = 0.01 + 0.09 * (1 + np.cos(np.pi / 4)) / 2
    assert found == pytest.approx([0.02, 0.06, 0.1, quarter, 0.055, 0.01, 0.01], rel=1e-5)


def test_warm_up_takes_at_most_half_of_the_run() -> None:
    schedule = learning_rate_schedule(_section(warmup_epochs=100.0), steps_per_epoch=2, total_steps=8)
    assert max(range(9), key=lambda step: float(schedule(step))) == 4
    one = learning_rate_schedule(_section(warmup_epochs=0.0), steps_per_epoch=2, total_steps=1)
    assert float(one(0)) == pytest.approx(0.1)


def test_unknown_optimizer_is_refused() -> None:
    with pytest.raises(ValueError, match="adamw or sgd, not 'lion'"):
        create_optimizer(_section(name="lion"), schedule=optax.constant_schedule(0.1))
