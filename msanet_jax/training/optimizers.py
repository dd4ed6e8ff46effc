"""Optimisers and schedules: optax chains from the config."""

from __future__ import annotations

from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from data_pipeline.errors import RequestError


def learning_rate_schedule(config: ConfigDict, *, steps_per_epoch: int, total_steps: int) -> optax.Schedule:
    """Linear warm-up from 0 to the peak, then cosine decay to `final_learning_rate_fraction` of it.

    Args:
      config: `generator_optimizer` or `discriminator_optimizer`.
      steps_per_epoch: turns `warmup_epochs` into steps.
      total_steps: where the decay ends; warm-up is cut to at most half of it.
    """
    warmup_steps = min(round(config.warmup_epochs * steps_per_epoch), total_steps // 2)
    return optax.schedules.warmup_cosine_decay_schedule(
        init_value=config.peak_learning_rate / (warmup_steps + 1),
        peak_value=config.peak_learning_rate,
        warmup_steps=warmup_steps,
        decay_steps=max(total_steps, warmup_steps + 1),
        end_value=config.peak_learning_rate * config.final_learning_rate_fraction,
    )


def create_optimizer(config: ConfigDict, *, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Clipping by global norm, then AdamW (decay on kernels only) or plain SGD.

    Raises:
      RequestError: `config.name` is neither `adamw` nor `sgd`.
    """
    if config.name == "adamw":
        update = optax.adamw(
            schedule,
            b1=config.beta1,
            b2=config.beta2,
            weight_decay=config.weight_decay,
            mask=_is_kernel,
        )
    elif config.name == "sgd":
        update = optax.sgd(schedule)
    else:
        raise RequestError(f"optimizer name is adamw or sgd, not {config.name!r}")
    return optax.chain(optax.clip_by_global_norm(config.clip_global_norm), update)


def _is_kernel(parameters: Any) -> Any:
    """Norm scales, offsets and biases are not decayed."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, parameters)
