"""The alternating steps: who moves, who stays, and one device against four."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from msanet_jax.training.devices import check_batch_size, compile_probability, compile_train_iteration, shard
from msanet_jax.training.state import Networks, TrainState, create_networks, create_state, stream_key
from msanet_jax.training.steps import (
    adversarial_weight,
    batch_statistics,
    discriminator_step,
    evaluation_step,
    generator_forward,
    generator_step,
    train_iteration,
)


def _batch(size: int = 8, side: int = 16) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    mask = (random.random((size, side, side, 1)) < np.linspace(0.0, 0.4, size)[:, None, None, None]).astype(np.float32)
    return {"image": (1.0 + mask + random.normal(size=mask.shape)).astype(np.float32), "mask": mask}


def _plain_descent(config: ConfigDict) -> None:
    """Without momentum and clipping a difference between gradients stays a difference of the same size."""
    for section in (config.generator_optimizer, config.discriminator_optimizer):
        section.name = "sgd"
        section.peak_learning_rate = 0.1
        section.warmup_epochs = 0.0
        section.clip_global_norm = 1e9


def _start(config: ConfigDict) -> tuple[Networks, TrainState]:
    networks = create_networks(config, steps_per_epoch=2)
    return networks, create_state(networks)


Step = Callable[[TrainState, dict[str, np.ndarray]], tuple[TrainState, dict[str, jax.Array]]]


def _steps(networks: Networks) -> tuple[Step, Step]:
    """Both steps behind their own forward pass, compiled."""

    @jax.jit
    def discriminator(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, dict[str, jax.Array]]:
        forward = generator_forward(networks, state, batch, mapped=False)
        return discriminator_step(networks, state, batch, forward.logits[0], mapped=False)

    @jax.jit
    def generator(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, dict[str, jax.Array]]:
        forward = generator_forward(networks, state, batch, mapped=False)
        return generator_step(networks, state, batch, forward, mapped=False)

    return discriminator, generator


def _identical(first: object, second: object) -> bool:
    return all(jax.tree.leaves(jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), first, second)))


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_each_step_leaves_the_other_network_alone(small_config: ConfigDict, norm: str) -> None:
    small_config.discriminator.norm = norm
    networks, before = _start(small_config)
    batch = _batch()
    discriminator, generator = _steps(networks)
    middle, _ = discriminator(before, batch)
    assert not _identical(before.discriminator_params, middle.discriminator_params)
    for field in ("generator_params", "generator_statistics", "generator_optimizer", "generator_average", "step"):
        assert _identical(getattr(before, field), getattr(middle, field))
    after, _ = generator(middle, batch)
    assert not _identical(middle.generator_params, after.generator_params)
    assert not _identical(middle.generator_statistics, after.generator_statistics)
    for field in ("discriminator_params", "discriminator_statistics", "discriminator_optimizer"):
        assert _identical(getattr(middle, field), getattr(after, field))
    assert int(after.step) == int(before.step) + 1


def test_steps_pull_in_opposite_directions(small_config: ConfigDict) -> None:
    """One small step of each: the discriminator raises the multi-scale L1, the generator lowers its own loss."""
    _plain_descent(small_config)
    small_config.discriminator_optimizer.peak_learning_rate = 1.0
    small_config.generator_optimizer.peak_learning_rate = 1e-2
    networks, state = _start(small_config)
    batch = _batch()
    discriminator, generator = _steps(networks)
    stronger, first = discriminator(state, batch)
    _, second = discriminator(stronger, batch)
    assert float(second["discriminator_loss"]) < float(first["discriminator_loss"]) < 0.0
    improved, before = generator(state, batch)
    _, after = generator(improved, batch)
    assert float(after["supervised_loss"]) < float(before["supervised_loss"])


def test_four_devices_give_what_one_gives(small_config: ConfigDict) -> None:
    assert jax.local_device_count() == 4
    _plain_descent(small_config)
    networks, state = _start(small_config)
    alone = jax.jit(functools.partial(train_iteration, networks, mapped=False))
    together = compile_train_iteration(networks)
    one, four = state, jax.tree.map(jnp.copy, state)
    for _ in range(3):
        one, metrics_one = alone(one, _batch())
        four, metrics_four = together(four, _batch())
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert set(metrics_one) == set(metrics_four)
    for key, value in metrics_one.items():
        np.testing.assert_allclose(value, metrics_four[key], atol=1e-5, err_msg=key)


def test_no_adversary_leaves_no_discriminator(small_config: ConfigDict) -> None:
    small_config.adversary.enabled = False
    networks, state = _start(small_config)
    assert not jax.tree.leaves((state.discriminator_params, state.discriminator_statistics))
    after, metrics = jax.jit(functools.partial(train_iteration, networks, mapped=False))(state, _batch())
    assert "multi_scale_l1" not in metrics
    assert int(after.step) == 1


def test_an_iteration_in_bfloat16_is_close_to_one_in_float32(small_config: ConfigDict) -> None:
    small_config.adversary.warmup_epochs = 0.0
    networks, state = _start(small_config)
    state = state.replace(step=jnp.ones((), jnp.int32))  # the weight of step 0 is 0
    iteration = functools.partial(train_iteration, mapped=False)
    _, exact = jax.jit(functools.partial(iteration, networks))(state, _batch())
    for section in (small_config.generator, small_config.discriminator):
        section.dtype = "bfloat16"
    networks, _ = _start(small_config)
    after, rough = jax.jit(functools.partial(iteration, networks))(state, _batch())
    for name in ("supervised_loss", "multi_scale_l1", "generator_loss"):
        assert float(rough[name]) == pytest.approx(float(exact[name]), rel=0.03), name
    assert {leaf.dtype for leaf in jax.tree.leaves(after.generator_params)} == {jnp.dtype("float32")}


def test_the_iteration_compiles_once(small_config: ConfigDict) -> None:
    networks, state = _start(small_config)
    traces = 0

    def iteration(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, dict[str, jax.Array]]:
        nonlocal traces
        traces += 1
        return train_iteration(networks, state, batch, mapped=False)

    compiled = jax.jit(iteration)
    for _ in range(3):
        state, _ = compiled(state, _batch())
    assert traces == 1


def test_adversarial_weight_warms_up(small_config: ConfigDict) -> None:
    small_config.adversary.warmup_epochs = 5.0
    networks, _ = _start(small_config)
    weights = [float(adversarial_weight(networks, jnp.array(step))) for step in (0, 5, 10, 100)]
    full = small_config.adversary.weight
    assert weights == pytest.approx([0.0, full / 2, full, full])


def test_moving_average_by_hand(small_config: ConfigDict) -> None:
    networks, state = _start(small_config)
    batch = _batch()
    after, _ = _steps(networks)[1](state, batch)
    decay = 1.0 / 10.0  # min(ema_decay, (1 + step) / (10 + step)) at step 0
    expected = jax.tree.map(
        lambda old, new: decay * old + (1 - decay) * new, state.generator_params, after.generator_params
    )
    for a, b in zip(jax.tree.leaves(after.generator_average), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("images", [1, 6])
def test_probability_of_any_number_of_images(small_config: ConfigDict, images: int) -> None:
    networks, state = _start(small_config)
    batch = _batch(images)["image"]
    mapped = compile_probability(networks)(state, batch)
    assert mapped.shape == (images, 16, 16)
    alone = jax.jit(functools.partial(evaluation_step, networks))(state, batch)
    np.testing.assert_allclose(mapped, alone, atol=1e-5)  # two programs round differently: 1.3e-6 seen


def test_streams_differ_by_name_and_step() -> None:
    keys = [
        stream_key(0, "dropout", 0),
        stream_key(0, "dropout", 1),
        stream_key(0, "generator", 0),
        stream_key(1, "dropout", 0),
    ]
    assert len({tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in keys}) == 4
    assert jnp.array_equal(jax.random.key_data(keys[0]), jax.random.key_data(stream_key(0, "dropout", 0)))


def test_batch_must_divide() -> None:
    assert shard({"image": np.zeros((8, 2))})["image"].shape == (4, 2, 2)
    with pytest.raises(ValueError, match=r"train\.batch_size=6 is not divisible by 4 devices"):
        check_batch_size(6, "train.batch_size")


def test_own_statistics_are_those_of_the_averaged_parameters(small_config: ConfigDict) -> None:
    """A training step with the averaged parameters moves the running statistics a tenth of the way to them."""
    networks, state = _start(small_config)
    doubled = jax.tree.map(lambda value: 2.0 * value + 0.1, state.generator_params)
    state = state.replace(generator_average=doubled)
    found = jax.jit(functools.partial(batch_statistics, networks, mapped=False))(state, _batch())
    moving = jax.jit(lambda s, b: generator_forward(networks, s, b, mapped=False).statistics)
    moved = moving(state.replace(generator_params=doubled), _batch())
    expected = jax.tree.map(lambda new, old: (new - 0.9 * old) / 0.1, moved, state.generator_statistics)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
