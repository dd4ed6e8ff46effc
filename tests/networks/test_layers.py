"""Building blocks against closed forms."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msanet_jax.networks.convolution import plain_convolution
from msanet_jax.networks.layers import AXIS, CascadeDilatedConvolution, MultiScaleModule, Norm, ResidualBlock


def _no_norm(name: str, relu: bool) -> Norm:
    return Norm(kind="none", train=False, mapped=False, relu=relu, name=name)


def _random(*shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(0), shape)


def _reach(module: nn.Module, size: int = 41) -> int:
    """Side of the square of input pixels that the central output pixel depends on."""
    x = _random(1, size, size, 4)
    # Positive weights and inputs keep every ReLU open, so the gradient shows the receptive field.
    variables = jax.tree.map(lambda leaf: jnp.abs(leaf) + 0.01, module.init(jax.random.key(1), x))
    centre = lambda image: module.apply(variables, image)[0, size // 2, size // 2].sum()  # noqa: E731
    gradient = jnp.abs(jax.grad(centre)(jnp.abs(x))).sum(axis=(0, 3))
    rows = np.flatnonzero(np.asarray(gradient.sum(axis=1)) > 0)
    return int(rows[-1] - rows[0] + 1)


@pytest.mark.parametrize(("dilations", "side"), [((1,), 3), ((1, 2), 7), ((1, 2, 4), 15), ((1, 2, 4, 8), 31)])
def test_cascade_receptive_field(dilations: tuple[int, ...], side: int) -> None:
    assert _reach(CascadeDilatedConvolution(dilations, _no_norm)) == side


@pytest.mark.parametrize(("dilations", "side"), [((1,), 3), ((1, 2), 5), ((1, 2, 3), 7)])
def test_multi_scale_receptive_field(dilations: tuple[int, ...], side: int) -> None:
    assert _reach(MultiScaleModule(dilations, _no_norm)) == side


@pytest.mark.parametrize("module", [CascadeDilatedConvolution((1, 2), _no_norm), MultiScaleModule((1, 2), _no_norm)])
def test_modules_are_residual(module: nn.Module) -> None:
    x = jnp.abs(_random(1, 8, 8, 4))
    start = module.init(jax.random.key(0), x)  # gains are 0
    for variables in (start, jax.tree.map(jnp.zeros_like, start)):
        np.testing.assert_array_equal(module.apply(variables, x), x)


def test_batch_norm_normalises_and_remembers() -> None:
    x = 3.0 + 2.0 * _random(4, 8, 8, 2)
    module = Norm(kind="batch", train=True, mapped=False, momentum=0.9)
    variables = module.init(jax.random.key(0), x)
    y, updates = module.apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=(0, 1, 2)), 1.0, atol=1e-3)
    mean = updates["batch_stats"]["norm"]["mean"]
    np.testing.assert_allclose(mean, 0.1 * x.mean(axis=(0, 1, 2)), rtol=1e-5)


def test_unknown_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="batch, group or none"):
        Norm(kind="layer", train=False, mapped=False).init(jax.random.key(0), jnp.ones((1, 2, 2, 1)))


def _drawn(module: nn.Module, x: jax.Array) -> dict:
    """Parameters that are all different, gains too."""
    leaves, structure = jax.tree.flatten(module.init(jax.random.key(1), x)["params"])
    keys = jax.random.split(jax.random.key(2), len(leaves))
    drawn = [0.5 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)


def test_cascade_written_out() -> None:
    """Each convolution reads the one before; the first has the first dilation; each result has its own gain."""
    module, x = CascadeDilatedConvolution((1, 2, 4), _no_norm), _random(2, 12, 12, 4)
    params = _drawn(module, x)
    expected, y = x, x
    for dilation in (1, 2, 4):
        y = nn.relu(plain_convolution(y, params[f"dilated_{dilation}"]["conv"]["kernel"], dilation))
        expected = expected + params[f"gain_{dilation}"] * y
    np.testing.assert_allclose(module.apply({"params": params}, x), expected, rtol=1e-4, atol=1e-4)


def test_multi_scale_written_out() -> None:
    module, x = MultiScaleModule((1, 3), _no_norm), _random(2, 12, 12, 6)
    params = _drawn(module, x)
    reduced = nn.relu(x @ params["reduce"]["conv"]["kernel"][0, 0])
    branches = [reduced[..., :2]]
    for number, dilation in enumerate((1, 3), 1):
        share = reduced[..., 2 * number : 2 * number + 2]
        branches.append(plain_convolution(share, params[f"branch_{dilation}"]["kernel"], dilation))
    fused = nn.relu(jnp.concatenate(branches, axis=-1)) @ params["fuse"]["conv"]["kernel"][0, 0]
    expected = nn.relu(x + params["gain"] * fused)
    np.testing.assert_allclose(module.apply({"params": params}, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [4, 6])
def test_residual_block_written_out(channels: int) -> None:
    module, x = ResidualBlock(4, _no_norm), _random(2, 8, 8, channels)
    params = _drawn(module, x)
    y = nn.relu(plain_convolution(x, params["first"]["conv"]["kernel"], 1))
    y = plain_convolution(y, params["second"]["conv"]["kernel"], 1)
    assert ("shortcut" in params) == (channels != 4)
    shortcut = x if channels == 4 else x @ params["shortcut"]["conv"]["kernel"][0, 0]
    expected = nn.relu(shortcut + y)
    np.testing.assert_allclose(module.apply({"params": params}, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("channels", "groups"), [(16, 2), (6, 1)])
def test_group_norm_takes_eight_channels(channels: int, groups: int) -> None:
    x = 3.0 + 2.0 * _random(2, 4, 4, channels)
    module = Norm(kind="group", train=True, mapped=False, relu=True)
    found = module.apply(module.init(jax.random.key(0), x), x)
    grouped = x.reshape(2, 16, groups, -1)
    wide = (grouped - grouped.mean(axis=(1, 3), keepdims=True)) / grouped.std(axis=(1, 3), keepdims=True)
    np.testing.assert_allclose(found, nn.relu(wide.reshape(x.shape)), atol=1e-3)


def test_norm_uses_and_keeps_what_its_mode_says() -> None:
    """Training: statistics of all devices, the variance remembered. Otherwise: the running ones."""
    x = 3.0 + 2.0 * _random(4, 8, 8, 2)
    train, still = (Norm(kind="batch", train=flag, mapped=flag, relu=True, momentum=0.8) for flag in (True, False))
    variables = still.init(jax.random.key(0), x)
    run = jax.vmap(lambda x: train.apply(variables, x, mutable=["batch_stats"]), axis_name=AXIS)
    y, updates = run(x.reshape(2, 2, 8, 8, 2))
    expected = nn.relu((x - x.mean(axis=(0, 1, 2))) / x.std(axis=(0, 1, 2)))
    np.testing.assert_allclose(y.reshape(x.shape), expected, atol=1e-3)
    for device in range(2):
        kept = jax.tree.map(lambda leaf: leaf[device], updates)["batch_stats"]["norm"]  # noqa: B023
        np.testing.assert_allclose(kept["mean"], 0.2 * x.mean(axis=(0, 1, 2)), rtol=1e-4)
        np.testing.assert_allclose(kept["var"], 0.8 + 0.2 * x.var(axis=(0, 1, 2)), rtol=1e-4)
    statistics = {"norm": {"mean": jnp.array([1.0, 2.0]), "var": jnp.array([4.0, 0.25])}}
    found = still.apply({"params": variables["params"], "batch_stats": statistics}, x)
    expected = nn.relu((x - jnp.array([1.0, 2.0])) / jnp.array([2.0, 0.5]))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
