"""One training iteration and one evaluation, as pure functions of (state, batch) on one device.

An iteration runs the generator forward once, updates the discriminator on that prediction, then the generator against
the updated discriminator. Sharing the forward pass is exact: the generator does not change in between. Every output is
averaged over the device axis `layers.AXIS` when there is one.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from msanet_jax.networks.discriminator import clip_parameters
from msanet_jax.networks.layers import AXIS, MOMENTUM
from msanet_jax.training.adversaries import Batch, Game, find_adversary
from msanet_jax.training.losses import SUPERVISED, deep_supervision_loss, lesion_weights
from msanet_jax.training.state import Networks, TrainState, Tree, stream_key

Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Forward:
    """The generator's forward pass of one iteration, ready to be pulled back.

    Attributes:
      logits: finest first.
      statistics: the generator's new running statistics.
      pull_back: gradient with respect to the logits -> gradient with respect to the generator's parameters.
    """

    logits: tuple[jax.Array, ...]
    statistics: Tree
    pull_back: Callable[[tuple[jax.Array, ...]], tuple[Tree]]


def train_iteration(networks: Networks, state: TrainState, batch: Batch, *, mapped: bool) -> tuple[TrainState, Metrics]:
    """Discriminator step(s), then generator step; the whole of what is compiled and mapped over devices."""
    config = networks.config
    forward = generator_forward(networks, state, batch, mapped=mapped)
    metrics: Metrics = {}
    if config.adversary.enabled:
        for _ in range(config.adversary.discriminator_steps):
            state, metrics = discriminator_step(networks, state, batch, forward.logits[0], mapped=mapped)
    state, generator_metrics = generator_step(networks, state, batch, forward, mapped=mapped)
    return state, {**metrics, **generator_metrics}


def generator_forward(networks: Networks, state: TrainState, batch: Batch, *, mapped: bool) -> Forward:
    """Runs the generator in training mode and keeps what its gradient needs."""
    key = stream_key(networks.config.seed, "dropout", state.step)
    if mapped:
        key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))

    def apply(params: Tree) -> tuple[tuple[jax.Array, ...], Tree]:
        logits, updates = networks.generator.apply(
            {"params": params, "batch_stats": state.generator_statistics},
            batch["image"],
            train=True,
            mapped=mapped,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return logits, updates.get("batch_stats", {})

    logits, pull_back, statistics = jax.vjp(apply, state.generator_params, has_aux=True)
    return Forward(logits=logits, statistics=statistics, pull_back=pull_back)


def discriminator_step(
    networks: Networks, state: TrainState, batch: Batch, logits: jax.Array, *, mapped: bool
) -> tuple[TrainState, Metrics]:
    """One descent of the discriminator on its adversarial loss; the generator stays as it is.

    Args:
      networks: modules, optimisers, recipe.
      state: before the step.
      batch: image and truth.
      logits: `[b, rows, columns, 1]` full-resolution prediction; no gradient passes through it.
      mapped: whether the call runs under the device axis.
    """
    game = Game(networks, state, batch, jax.lax.stop_gradient(jax.nn.sigmoid(logits)), mapped)
    loss = functools.partial(find_adversary(networks.config).discriminator_loss, game)
    (value, statistics), gradients = jax.value_and_grad(loss, has_aux=True)(state.discriminator_params)
    gradients = _mean_over_devices(gradients, mapped=mapped)
    updates, optimizer = networks.discriminator_optimizer.update(
        gradients, state.discriminator_optimizer, state.discriminator_params
    )
    section = networks.config.discriminator
    params = clip_parameters(
        optax.apply_updates(state.discriminator_params, updates), bound=section.bound, clip_value=section.clip_value
    )
    metrics = {"discriminator_loss": value, "discriminator_gradient_norm": optax.tree.norm(gradients)}
    return (
        state.replace(
            discriminator_params=params, discriminator_statistics=statistics, discriminator_optimizer=optimizer
        ),
        _mean_over_devices(metrics, mapped=mapped),
    )


def generator_step(
    networks: Networks, state: TrainState, batch: Batch, forward: Forward, *, mapped: bool
) -> tuple[TrainState, Metrics]:
    """One descent of the generator on supervised + weight x adversarial loss; the discriminator stays as it is.

    Also moves the running statistics and the moving average, and counts the iteration.
    """
    (_, metrics), logit_gradients = jax.value_and_grad(_generator_loss, argnums=3, has_aux=True)(
        networks, state, batch, forward.logits, mapped
    )
    gradients = _mean_over_devices(forward.pull_back(logit_gradients)[0], mapped=mapped)
    updates, optimizer = networks.generator_optimizer.update(
        gradients, state.generator_optimizer, state.generator_params
    )
    params = optax.apply_updates(state.generator_params, updates)
    # Early averages would remember the random start; the decay rises to its value over the first iterations.
    decay = jnp.minimum(networks.config.train.ema_decay, (1.0 + state.step) / (10.0 + state.step))
    average = jax.tree.map(lambda old, new: decay * old + (1.0 - decay) * new, state.generator_average, params)
    metrics = _mean_over_devices(metrics, mapped=mapped)
    if networks.config.adversary.enabled:
        weighted = adversarial_weight(networks, state.step) * metrics[networks.config.adversary.objective]
        metrics["adversarial_share"] = weighted / metrics["generator_loss"]
    metrics |= {
        "generator_gradient_norm": optax.tree.norm(gradients),
        "learning_rate": networks.generator_schedule(state.step),
    }
    return (
        state.replace(
            step=state.step + 1,
            generator_params=params,
            generator_statistics=_mean_over_devices(forward.statistics, mapped=mapped),
            generator_optimizer=optimizer,
            generator_average=average,
        ),
        metrics,
    )


def evaluation_step(networks: Networks, state: TrainState, image: jax.Array) -> jax.Array:
    """Lesion probability `[b, rows, columns]` of the moving-average generator for `[b, rows, columns, 1]` input."""
    variables = {"params": state.generator_average, "batch_stats": state.generator_statistics}
    return jax.nn.sigmoid(networks.generator.apply(variables, image, train=False)[0][..., 0])


def batch_statistics(networks: Networks, state: TrainState, batch: Batch, *, mapped: bool) -> Tree:
    """Batch-norm means and variances of the moving-average generator on one batch, with dropout as in training.

    From statistics of zero a step of the running ones leaves (1 - momentum) times those of the batch.
    """
    _, updates = networks.generator.apply(
        {
            "params": state.generator_average,
            "batch_stats": jax.tree.map(jnp.zeros_like, state.generator_statistics),
        },
        batch["image"],
        train=True,
        mapped=mapped,
        rngs={"dropout": stream_key(networks.config.seed, "statistics", 0)},
        mutable=["batch_stats"],
    )
    statistics = jax.tree.map(lambda moved: moved / (1.0 - MOMENTUM), updates.get("batch_stats", {}))
    return _mean_over_devices(statistics, mapped=mapped)


def _generator_loss(
    networks: Networks, state: TrainState, batch: Batch, logits: Sequence[jax.Array], mapped: bool
) -> tuple[jax.Array, Metrics]:
    config = networks.config
    supervised, metrics = deep_supervision_loss(
        logits=logits,
        masks=batch["mask"],
        weights={name: config.loss[key] for name in SUPERVISED if (key := f"{name}_weight") in config.loss},
        decay=config.loss.deep_supervision_decay,
        mapped=mapped,
        pixels=lesion_weights(batch["share"], mapped=mapped) if "share" in batch else None,
    )
    metrics["supervised_loss"] = supervised
    total = supervised
    if config.adversary.enabled:
        game = Game(networks, state, batch, jax.nn.sigmoid(logits[0]), mapped)
        adversarial = find_adversary(config).generator_loss(game)
        total = supervised + adversarial_weight(networks, state.step) * adversarial
        metrics[config.adversary.objective] = adversarial
    metrics["generator_loss"] = total
    return total, metrics


def adversarial_weight(networks: Networks, step: jax.Array) -> jax.Array:
    """Weight of the adversarial loss in the generator's: linear from 0 over `adversary.warmup_epochs`."""
    section = networks.config.adversary
    warmup_steps = max(1.0, section.warmup_epochs * networks.steps_per_epoch)
    return section.weight * jnp.minimum(1.0, step / warmup_steps)


def _mean_over_devices(tree: Tree, *, mapped: bool) -> Tree:
    return jax.lax.pmean(tree, AXIS) if mapped else tree
