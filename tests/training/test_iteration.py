"""One training iteration on networks of two numbers, against NumPy in float64: losses, gradients, statistics.

The reference writes every loss out and differentiates by differences; the pyramid is SciPy's. The adversarial weight
is above 0, so that its sign and its size show.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy import ndimage

from data_pipeline.batches import lesion_shares
from msanet_jax.networks.layers import AXIS
from msanet_jax.training.state import Networks, TrainState, create_networks, create_state
from msanet_jax.training.steps import evaluation_step, generator_forward, train_iteration

WEIGHT = 10.0 * 0.25  # adversary.weight at step 1 of a warm-up of 4
RATE_GENERATOR, RATE_DISCRIMINATOR = 0.5, 0.25
LEVELS = 3
Numbers = np.ndarray


class Line(nn.Module):
    """Logits slope x + offset + noise of every pixel, and of every mean of 2 x 2; its statistic shifts inference."""

    noise: float = 0.0

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool, mapped: bool = False) -> tuple[jax.Array, ...]:
        slope = self.param("slope", nn.initializers.constant(0.8), ())
        offset = self.param("offset", nn.initializers.constant(-1.1), ())
        statistic = self.variable("batch_stats", "mean", jnp.zeros, ())
        if train:
            statistic.value = jnp.square(image).mean()
        logits = slope * image + offset - (0.0 if train else statistic.value)
        if train and self.noise:
            logits = logits + self.noise * jax.random.normal(self.make_rng("dropout"), logits.shape)
        return logits, nn.avg_pool(logits, (2, 2), (2, 2))


class Critic(nn.Module):
    """Features a x m + b m, and their hyperbolic tangent as a second stage."""

    stages: int

    @nn.compact
    def __call__(
        self, image: jax.Array, mask: jax.Array, *, train: bool = True, mapped: bool = False
    ) -> tuple[jax.Array, ...]:
        a = self.param("a", nn.initializers.constant(0.7), ())
        b = self.param("b", nn.initializers.constant(-0.4), ())
        statistic = self.variable("batch_stats", "mean", jnp.zeros, ())
        statistic.value = mask.mean() * image.mean()
        first = a * image * mask + b * mask
        return (first, jnp.tanh(first))[: self.stages]


def _start(config: ConfigDict, objective: str, patch_loss: str) -> tuple[Networks, TrainState]:
    config.adversary.objective, config.adversary.patch_loss = objective, patch_loss
    config.adversary.weight, config.adversary.warmup_epochs, config.adversary.pyramid_levels = 10.0, 2.0, LEVELS
    config.loss.dice_weight, config.loss.cross_entropy_weight, config.loss.deep_supervision_decay = 2.0, 3.0, 0.5
    config.discriminator.bound = "none"
    for section, rate in (
        (config.generator_optimizer, RATE_GENERATOR),
        (config.discriminator_optimizer, RATE_DISCRIMINATOR),
    ):
        section.name, section.clip_global_norm, section.warmup_epochs = "sgd", 1e9, 0.0
        section.peak_learning_rate, section.final_learning_rate_fraction = rate, 1.0
    stages = 2 if objective == "multi_scale_l1" else 1
    networks = dataclasses.replace(
        create_networks(config, steps_per_epoch=2), generator=Line(), discriminator=Critic(stages)
    )
    return networks, create_state(networks).replace(step=jnp.ones((), jnp.int32))


def _batch() -> dict[str, Numbers]:
    random = np.random.default_rng(0)
    mask = (random.random((4, 8, 8, 1)) < np.array([0.0, 0.1, 0.2, 0.5])[:, None, None, None]).astype(np.float32)
    return {"image": (1.0 + mask + random.normal(size=mask.shape)).astype(np.float32), "mask": mask}


def _mean_of_squares(x: Numbers, factor: int) -> Numbers:
    return x.reshape(len(x), 8 // factor, factor, 8 // factor, factor, 1).mean(axis=(2, 4))


def _low_pass(x: Numbers, level: int) -> Numbers:
    low = _mean_of_squares(x, 2**level)
    for _ in range(level):
        low = ndimage.zoom(low, (1, 2, 2, 1), order=1, mode="nearest", grid_mode=True)
    return low


def _sigmoid(x: Numbers) -> Numbers:
    return 1.0 / (1.0 + np.exp(-x))


def _cross_entropy(logits: Numbers, truth: Numbers | float) -> float:
    p = _sigmoid(logits)
    return float(-(truth * np.log(p) + (1.0 - truth) * np.log(1.0 - p)).mean())


def _logits(generator: Numbers, image: Numbers) -> Numbers:
    return generator[0] * image + generator[1]


def _dice(logits: Numbers, truth: Numbers) -> float:
    p = _sigmoid(logits)
    return float(1.0 - (2.0 * (p * truth).sum() + 1.0) / (p.sum() + truth.sum() + 1.0))


def _supervised(generator: Numbers, batch: dict[str, Numbers]) -> float:
    logits, total = _logits(generator, batch["image"]), 0.0
    for factor, weight in ((1, 2 / 3), (2, 1 / 3)):
        level, truth = _mean_of_squares(logits, factor), _mean_of_squares(batch["mask"], factor)
        total += weight * (2.0 * _dice(level, truth) + 3.0 * _cross_entropy(level, truth))
    return total


def _features(critic: Numbers, image: Numbers, mask: Numbers) -> Numbers:
    return critic[0] * image * mask + critic[1] * mask


def _distance(critic: Numbers, batch: dict[str, Numbers], prediction: Numbers) -> float:
    found = []
    for level in range(LEVELS):
        image, *masks = (_low_pass(x, level) for x in (batch["image"], batch["mask"], prediction))
        truth, predicted = (_features(critic, image, mask) for mask in masks)
        found += [np.abs(truth - predicted).mean(), np.abs(np.tanh(truth) - np.tanh(predicted)).mean()]
    return float(np.mean(found))


def _patch(critic: Numbers, batch: dict[str, Numbers], mask: Numbers, label: float, loss: str) -> float:
    logits = _features(critic, batch["image"], mask)
    return _cross_entropy(logits, label) if loss == "cross_entropy" else float(np.square(logits - label).mean())


def _gradient(function: Callable[[Numbers], float], at: Numbers) -> Numbers:
    steps = 1e-6 * np.eye(len(at))
    return np.array([(function(at + step) - function(at - step)) / 2e-6 for step in steps])


OBJECTIVES = [
    ("multi_scale_l1", "cross_entropy"),
    ("patch_gan", "cross_entropy"),
    ("patch_gan", "least_squares"),
]


@pytest.mark.parametrize(("objective", "loss"), OBJECTIVES)
def test_an_iteration_is_the_written_out_descent(small_config: ConfigDict, objective: str, loss: str) -> None:
    networks, state = _start(small_config, objective, loss)
    batch = _batch()
    after, metrics = jax.jit(functools.partial(train_iteration, networks, mapped=False))(state, batch)
    wide = {name: value.astype(np.float64) for name, value in batch.items()}
    generator, critic = np.array([0.8, -1.1]), np.array([0.7, -0.4])
    before = _sigmoid(_logits(generator, wide["image"]))

    def against_truth(critic: Numbers) -> float:
        if objective == "multi_scale_l1":
            return -_distance(critic, wide, before)
        return (_patch(critic, wide, wide["mask"], 1.0, loss) + _patch(critic, wide, before, 0.0, loss)) / 2

    def towards_truth(generator: Numbers) -> float:
        prediction = _sigmoid(_logits(generator, wide["image"]))
        if objective == "multi_scale_l1":
            return _distance(moved, wide, prediction)
        return _patch(moved, wide, prediction, 1.0, loss)

    slope = _gradient(against_truth, critic)
    moved = critic - RATE_DISCRIMINATOR * slope
    total = _gradient(lambda g: _supervised(g, wide) + WEIGHT * towards_truth(g), generator)
    found = [float(after.discriminator_params[name]) for name in "ab"]
    assert found == pytest.approx(moved, abs=1e-5)
    found = [float(after.generator_params[name]) for name in ("slope", "offset")]
    assert found == pytest.approx(generator - RATE_GENERATOR * total, abs=1e-5)
    # At step 1 the average keeps (1 + 1) / (10 + 1) of what it was.
    found = [float(after.generator_average[name]) for name in ("slope", "offset")]
    assert found == pytest.approx(generator - 9 / 11 * RATE_GENERATOR * total, abs=1e-5)
    supervised, adversarial = _supervised(generator, wide), towards_truth(generator)
    assert {name: float(value) for name, value in metrics.items()} == pytest.approx(
        {
            "discriminator_loss": against_truth(critic),
            "discriminator_gradient_norm": np.linalg.norm(slope),
            "dice_loss": _dice(_logits(generator, wide["image"]), wide["mask"]),
            "cross_entropy_loss": _cross_entropy(_logits(generator, wide["image"]), wide["mask"]),
            "supervised_loss": supervised,
            objective: adversarial,
            "generator_loss": supervised + WEIGHT * adversarial,
            "adversarial_share": WEIGHT * adversarial / (supervised + WEIGHT * adversarial),
            "generator_gradient_norm": np.linalg.norm(total),
            "learning_rate": RATE_GENERATOR,
        },
        rel=1e-4,
    )
    assert float(after.generator_statistics["mean"]) == pytest.approx(np.square(wide["image"]).mean(), rel=1e-5)
    levels = LEVELS if objective == "multi_scale_l1" else 1
    seen = [
        _low_pass(wide["image"], n).mean() * _low_pass(m, n).mean()
        for m in (wide["mask"], before)
        for n in range(levels)
    ]
    assert float(after.discriminator_statistics["mean"]) == pytest.approx(np.mean(seen), rel=1e-4)


@pytest.mark.parametrize(("objective", "loss"), OBJECTIVES[:2])
def test_devices_together_do_what_one_does(small_config: ConfigDict, objective: str, loss: str) -> None:
    networks, state = _start(small_config, objective, loss)
    batch = _batch()
    alone = jax.jit(functools.partial(train_iteration, networks, mapped=False))(state, batch)
    shares = {name: value.reshape(2, 2, *value.shape[1:]) for name, value in batch.items()}
    iteration = functools.partial(train_iteration, networks, mapped=True)
    together = jax.jit(jax.vmap(iteration, in_axes=(None, 0), axis_name=AXIS))(state, shares)
    for one, each in zip(jax.tree.leaves(alone[0]), jax.tree.leaves(together[0]), strict=True):
        # A discriminator's norms average their statistics themselves; this critic's does not.
        if one is not alone[0].discriminator_statistics["mean"]:
            np.testing.assert_allclose(each, jnp.stack([one, one]), rtol=1e-5)
    for name, value in alone[1].items():
        np.testing.assert_allclose(together[1][name], [value, value], rtol=1e-5, err_msg=name)


def test_devices_together_do_what_one_does_with_equal_lesions(small_config: ConfigDict) -> None:
    """The mean size of a lesion is that of the lesions of all devices."""
    networks, state = _start(small_config, "multi_scale_l1", "")
    batch = _batch()
    batch["share"] = lesion_shares(batch["mask"])
    plain, equal = (
        jax.jit(functools.partial(train_iteration, networks, mapped=False))(state, given)
        for given in ({name: batch[name] for name in ("image", "mask")}, batch)
    )
    for name in ("dice_loss", "multi_scale_l1"):
        assert abs(float(plain[1][name]) - float(equal[1][name])) > 1e-4
    assert float(plain[1]["cross_entropy_loss"]) == float(equal[1]["cross_entropy_loss"])
    shares = {name: value.reshape(2, 2, *value.shape[1:]) for name, value in batch.items()}
    iteration = functools.partial(train_iteration, networks, mapped=True)
    together = jax.jit(jax.vmap(iteration, in_axes=(None, 0), axis_name=AXIS))(state, shares)
    alone, spread = (jax.tree.leaves(found[0].generator_params) for found in (equal, together))
    for one, each in zip(alone, spread, strict=True):
        np.testing.assert_allclose(each, jnp.stack([one, one]), rtol=1e-5)
    for name, value in equal[1].items():
        np.testing.assert_allclose(together[1][name], [value, value], rtol=1e-5, err_msg=name)


def test_each_discriminator_step_is_a_step(small_config: ConfigDict) -> None:
    networks, state = _start(small_config, "multi_scale_l1", "")
    small_config.adversary.discriminator_steps = 2
    after, _ = jax.jit(functools.partial(train_iteration, networks, mapped=False))(state, _batch())
    wide = {name: value.astype(np.float64) for name, value in _batch().items()}
    prediction, critic = _sigmoid(_logits(np.array([0.8, -1.1]), wide["image"])), np.array([0.7, -0.4])
    for _ in range(2):
        critic = critic + RATE_DISCRIMINATOR * _gradient(lambda c: _distance(c, wide, prediction), critic)
    assert [float(after.discriminator_params[name]) for name in "ab"] == pytest.approx(critic, abs=1e-5)


def test_the_discriminator_is_clipped_where_the_recipe_says(small_config: ConfigDict) -> None:
    networks, state = _start(small_config, "patch_gan", "least_squares")
    small_config.discriminator.bound, small_config.discriminator.clip_value = "clip", 0.3
    after, _ = jax.jit(functools.partial(train_iteration, networks, mapped=False))(state, _batch())
    assert [float(after.discriminator_params[name]) for name in "ab"] == pytest.approx([0.3, -0.3])


def test_the_average_of_a_late_iteration_moves_by_one_hundredth(small_config: ConfigDict) -> None:
    networks, state = _start(small_config, "patch_gan", "least_squares")
    small_config.train.ema_decay = 0.99
    state = state.replace(step=jnp.int32(10_000), generator_average={"slope": 5.0, "offset": 7.0})
    after, _ = jax.jit(functools.partial(train_iteration, networks, mapped=False))(state, _batch())
    for name, old in (("slope", 5.0), ("offset", 7.0)):
        expected = 0.99 * old + 0.01 * float(after.generator_params[name])
        assert float(after.generator_average[name]) == pytest.approx(expected, rel=1e-6)
    assert int(after.step) == 10_001


def test_evaluation_uses_the_averaged_parameters_and_the_running_statistics(small_config: ConfigDict) -> None:
    networks, state = _start(small_config, "multi_scale_l1", "")
    state = state.replace(
        generator_average={"slope": jnp.float32(2.0), "offset": jnp.float32(0.5)},
        generator_statistics={"mean": jnp.float32(0.25)},
    )
    image = _batch()["image"]
    found = evaluation_step(networks, state, image)
    np.testing.assert_allclose(found, _sigmoid(2.0 * image + 0.5 - 0.25)[..., 0], rtol=1e-5)


def test_noise_differs_between_seeds_steps_and_devices(small_config: ConfigDict) -> None:
    networks, state = _start(small_config, "multi_scale_l1", "")
    networks = dataclasses.replace(networks, generator=Line(noise=1.0))
    batch = {name: value[:1] for name, value in _batch().items()}

    def logits(step: int, seed: int) -> np.ndarray:
        small_config.seed = seed
        forward = generator_forward(networks, state.replace(step=jnp.int32(step)), batch, mapped=False)
        return np.asarray(forward.logits[0])

    first = logits(1, 0)
    np.testing.assert_array_equal(first, logits(1, 0))
    for other in (logits(2, 0), logits(1, 1)):
        assert np.abs(first - other).mean() > 0.5
    # The same images on two devices.
    both = jax.tree.map(lambda value: np.stack([value, value]), batch)
    forward = functools.partial(generator_forward, networks, mapped=True)
    shares = jax.vmap(lambda s, b: forward(s, b).logits[0], in_axes=(None, 0), axis_name=AXIS)(state, both)
    assert float(jnp.abs(shares[0] - shares[1]).mean()) > 0.5
