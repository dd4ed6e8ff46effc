"""Batch normalisation with its own gradient against Flax's, and by hand."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msanet_jax.networks.batch_norm import normalize_batch
from msanet_jax.networks.layers import AXIS, BatchNorm


def _normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(1.0, 2.0, size=shape), jnp.float32)


@pytest.mark.parametrize("relu", [False, True])
def test_like_flax(relu: bool) -> None:
    x = _normal(0, 3, 4, 5, 6)
    ours = BatchNorm(train=True, mapped=False, relu=relu, momentum=0.9)
    reference = nn.BatchNorm(use_running_average=False, momentum=0.9)
    variables = ours.init(jax.random.key(0), x)
    params = {"scale": _normal(1, 6), "bias": _normal(2, 6)}

    def run(module: nn.Module, params: dict, x: jax.Array) -> tuple[jax.Array, dict]:
        y, updates = module.apply(
            {"params": params, "batch_stats": variables["batch_stats"]}, x, mutable=["batch_stats"]
        )
        return (y if module is ours or not relu else nn.relu(y)), updates

    weights = _normal(3, *x.shape)
    for function in (
        lambda module: run(module, params, x),
        lambda module: jax.grad(lambda p, x: (run(module, p, x)[0] * weights).sum(), argnums=(0, 1))(params, x),
    ):
        for found, expected in zip(jax.tree.leaves(function(ours)), jax.tree.leaves(function(reference)), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_running_statistics() -> None:
    x = _normal(0, 3, 4, 5, 6)
    module = BatchNorm(train=False, mapped=False, relu=False, momentum=0.9)
    params, mean, variance = {"scale": _normal(1, 6), "bias": _normal(2, 6)}, _normal(3, 6), jnp.abs(_normal(4, 6))
    y = module.apply({"params": params, "batch_stats": {"mean": mean, "var": variance}}, x)
    expected = (x - mean) / np.sqrt(variance + 1e-5) * params["scale"] + params["bias"]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_devices_share_statistics_and_gradient() -> None:
    x, weights = _normal(0, 4, 2, 3, 3, 5), _normal(1, 4, 2, 3, 3, 5)
    scale, offset = _normal(2, 5), _normal(3, 5)

    def loss(x: jax.Array, weights: jax.Array, axis: str | None) -> jax.Array:
        return (normalize_batch(x, scale, offset, relu=True, axis_name=axis)[0] * weights).sum()

    whole = jax.grad(lambda x: loss(x.reshape(8, 3, 3, 5), weights.reshape(8, 3, 3, 5), None))(x)
    shared = jax.vmap(lambda x, w: jax.grad(lambda x: loss(x, w, AXIS))(x), axis_name=AXIS)(x, weights)
    np.testing.assert_allclose(shared, whole, rtol=1e-4, atol=1e-5)


def test_constant_channel_stays_finite() -> None:
    y = normalize_batch(jnp.full((2, 3, 3, 1), 7.0), jnp.ones(1), jnp.full(1, 0.5), relu=False, axis_name=None)[0]
    np.testing.assert_allclose(y, 0.5, atol=1e-2)
