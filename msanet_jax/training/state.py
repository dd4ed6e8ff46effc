"""The one training state, the networks around it, and how randomness is derived."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from msanet_jax.networks.catalogue import create_discriminator, create_generator
from msanet_jax.training.optimizers import create_optimizer, learning_rate_schedule

Tree = Any
"""A JAX tree of arrays."""


class TrainState(flax.struct.PyTreeNode):
    """Everything that training changes, and nothing else; immutable.

    Without an adversary the discriminator's fields are empty trees.

    Attributes:
      step: `[]` int32, iterations done.
      generator_params: float32.
      generator_statistics: running means and variances; empty with group norm.
      generator_optimizer: optax state.
      generator_average: exponential moving average of `generator_params`, used for evaluation.
      discriminator_params: float32.
      discriminator_statistics: as for the generator; empty without norm.
      discriminator_optimizer: optax state.
    """

    step: jax.Array
    generator_params: Tree
    generator_statistics: Tree
    generator_optimizer: Tree
    generator_average: Tree
    discriminator_params: Tree
    discriminator_statistics: Tree
    discriminator_optimizer: Tree


@dataclasses.dataclass(frozen=True)
class Networks:
    """The static side of training: modules, optimisers and the numbers the steps need.

    Attributes:
      generator: the module.
      discriminator: the module; unused without an adversary.
      generator_optimizer: its optimiser.
      discriminator_optimizer: its optimiser.
      generator_schedule: learning rate by step, for the log.
      config: the whole recipe.
      steps_per_epoch: turns epochs into steps.
      total_steps: of the run.
    """

    generator: nn.Module
    discriminator: nn.Module
    generator_optimizer: optax.GradientTransformation
    discriminator_optimizer: optax.GradientTransformation
    generator_schedule: optax.Schedule
    config: ConfigDict
    steps_per_epoch: int
    total_steps: int


def create_networks(config: ConfigDict, *, steps_per_epoch: int) -> Networks:
    """Builds modules and optimisers from the recipe; the modules' attributes are the schema of its sections."""
    total_steps = total_training_steps(config, steps_per_epoch=steps_per_epoch)
    schedules = [
        learning_rate_schedule(section, steps_per_epoch=steps_per_epoch, total_steps=total_steps)
        for section in (config.generator_optimizer, config.discriminator_optimizer)
    ]
    return Networks(
        generator=create_generator(config),
        discriminator=create_discriminator(config),
        generator_optimizer=create_optimizer(config.generator_optimizer, schedule=schedules[0]),
        discriminator_optimizer=create_optimizer(config.discriminator_optimizer, schedule=schedules[1]),
        generator_schedule=schedules[0],
        config=config,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
    )


def total_training_steps(config: ConfigDict, *, steps_per_epoch: int) -> int:
    """Iterations of the whole run, at least one."""
    return max(1, round(config.train.total_epochs * steps_per_epoch))


def stream_key(seed: int, stream: str, step: int | jax.Array) -> jax.Array:
    """Random key of a named stream at a step: derived, never carried, so a resumed run draws the same numbers."""
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(stream.encode()))
    return jax.random.fold_in(key, step)


def create_state(networks: Networks) -> TrainState:
    """The state at step 0, drawn from `config.seed`; the same for the same seed on the same kind of device."""
    return jax.jit(lambda: _draw_state(networks))()


def abstract_state(networks: Networks) -> TrainState:
    """Shapes and types of the state, without computing it."""
    return jax.eval_shape(lambda: create_state(networks))


def _draw_state(networks: Networks) -> TrainState:
    config = networks.config
    size = config.data.image_size_px
    image = jnp.zeros((1, size, size, 1), jnp.float32)
    # The counter-based default generator takes a minute to compile for a hundred kernels; this one a few seconds.
    generator_key, discriminator_key = (
        jax.random.key(zlib.crc32(f"{name} {config.seed}".encode()), impl="unsafe_rbg")
        for name in ("generator", "discriminator")
    )
    generator = networks.generator.init(generator_key, image, train=False)
    discriminator: Mapping[str, Tree] = {"params": {}}
    if config.adversary.enabled:
        discriminator = networks.discriminator.init(discriminator_key, image, image, train=False)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        generator_params=generator["params"],
        generator_statistics=generator.get("batch_stats", {}),
        generator_optimizer=networks.generator_optimizer.init(generator["params"]),
        generator_average=jax.tree.map(jnp.copy, generator["params"]),
        discriminator_params=discriminator["params"],
        discriminator_statistics=discriminator.get("batch_stats", {}),
        discriminator_optimizer=networks.discriminator_optimizer.init(discriminator["params"]),
    )
