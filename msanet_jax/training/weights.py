"""Weights of a generator by name: in an exported model, and as the start of another training."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from data_pipeline.errors import RequestError
from msanet_jax.training.state import TrainState


def named_weights(state: TrainState) -> dict[str, np.ndarray]:
    """The moving-average generator, `params/...`, and its running statistics, `statistics/...`."""
    trees = {"params": state.generator_average, "statistics": state.generator_statistics}
    return {name: np.asarray(leaf) for name, leaf in flatten_dict(trees, sep="/").items()}


def with_weights(state: TrainState, named: Mapping[str, np.ndarray], *, source: str) -> TrainState:
    """A state whose generator, moving average and running statistics are those of `named_weights`, in float32.

    Discriminator, optimisers and step stay as they are.

    Args:
      state: of the network that is to get the weights; its own are not used.
      named: what `named_weights` gave, in any precision.
      source: where they come from, for the message.

    Raises:
      RequestError: they are of another network.
    """
    expected = {name: leaf.shape for name, leaf in named_weights(state).items()}
    if (difference := differing_arrays({name: leaf.shape for name, leaf in named.items()}, expected)) is not None:
        raise RequestError(f"{source}: weights of another network: {difference} by the recipe")
    trees = unflatten_dict({name: jnp.asarray(leaf, jnp.float32) for name, leaf in named.items()}, sep="/")
    return state.replace(
        generator_params=trees["params"],
        # An iteration donates its state: no buffer may be in it twice.
        generator_average=jax.tree.map(jnp.copy, trees["params"]),
        generator_statistics=trees.get("statistics", {}),
    )


def differing_arrays(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> str | None:
    """How shapes by name differ from the expected ones, in a few words; None where they do not.

    Example:
      >>> differing_arrays({"a": (2,), "b": (3, 1)}, {"a": (2,), "b": (3, 4)})
      '1 arrays differ, first b: (3, 1) in the file, (3, 4)'
    """
    differing = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if not differing:
        return None
    first = differing[0]
    return (
        f"{len(differing)} arrays differ, first {first}: {found.get(first, 'absent')} in the file, "
        f"{expected.get(first, 'absent')}"
    )
