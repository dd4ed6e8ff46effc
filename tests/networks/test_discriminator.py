"""The discriminator: pairing, bounds, stages."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.peers import get_config
from data_pipeline.errors import RequestError
from msanet_jax.networks.discriminator import bounded_kernel, clip_parameters, pair, spectral_norm, stage_bounds
from msanet_jax.training.losses import multi_scale_l1
from msanet_jax.training.state import create_networks


def test_pairing_by_hand() -> None:
    image = jnp.array([1.0, 2.0]).reshape(1, 1, 2, 1)
    mask = jnp.array([0.0, 0.5]).reshape(1, 1, 2, 1)
    np.testing.assert_array_equal(pair(image, mask, "concat")[0, 0], [[1.0, 0.0], [2.0, 0.5]])
    np.testing.assert_array_equal(pair(image, mask, "multiply")[0, 0], [[0.0], [1.0]])
    with pytest.raises(ValueError, match="concat or multiply"):
        pair(image, mask, "add")


def test_multiply_cannot_see_errors_without_counts() -> None:
    image = jnp.zeros((1, 4, 4, 1))
    truth, wrong = jnp.zeros((1, 4, 4, 1)), jnp.ones((1, 4, 4, 1))
    np.testing.assert_array_equal(pair(image, truth, "multiply"), pair(image, wrong, "multiply"))
    assert float(jnp.abs(pair(image, truth, "concat") - pair(image, wrong, "concat")).max()) == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_spectral_norm_is_the_largest_singular_value(seed: int) -> None:
    kernel = jax.random.normal(jax.random.key(seed), (4, 4, 8, 16))
    exact = np.linalg.norm(np.asarray(kernel).reshape(-1, 16), 2)
    value = float(spectral_norm(kernel))
    assert 0.98 * exact <= value <= exact * (1 + 1e-5)


def test_l1_bound_holds_whatever_the_weights(small_config: ConfigDict) -> None:
    small_config.discriminator.bound = "l1"
    networks = create_networks(small_config, steps_per_epoch=1)
    image = jax.random.normal(jax.random.key(0), (2, 16, 16, 1))
    truth, wrong = jnp.zeros((2, 16, 16, 1)), jnp.ones((2, 16, 16, 1))
    variables = networks.discriminator.init(jax.random.key(1), image, truth)
    huge = jax.tree.map(lambda leaf: 1000.0 * leaf, variables)
    distance = multi_scale_l1(
        networks.discriminator.apply(huge, image, truth), networks.discriminator.apply(huge, image, wrong)
    )
    assert 0.0 < float(distance) <= 1.0


def test_clip_and_none() -> None:
    kernel = jnp.array([-1.0, 0.01, 2.0]).reshape(1, 1, 1, 3)
    np.testing.assert_array_equal(bounded_kernel(kernel, "clip"), kernel)
    np.testing.assert_allclose(
        clip_parameters(kernel, bound="clip", clip_value=0.05).ravel(), [-0.05, 0.01, 0.05], rtol=1e-6
    )
    assert clip_parameters(kernel, bound="spectral", clip_value=0.05) is kernel
    with pytest.raises(ValueError, match="spectral, clip, l1 or none"):
        bounded_kernel(kernel, "hope")


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_stages_halve_and_double(small_config: ConfigDict, norm: str) -> None:
    small_config.discriminator.norm = norm
    discriminator = create_networks(small_config, steps_per_epoch=1).discriminator
    image = jnp.zeros((3, 16, 16, 1))
    variables = discriminator.init(jax.random.key(0), image, image)
    features, updates = discriminator.apply(variables, image, image, mutable=["batch_stats"])
    assert [leaf.shape for leaf in features] == [(3, 8, 8, 4), (3, 4, 4, 8)]
    assert bool(updates) == (norm == "batch")


def test_folded_pair_keeps_pixels_in_their_places(small_config: ConfigDict) -> None:
    """A kernel that picks one channel shows which pixel it holds."""
    small_config.discriminator.fold_px, small_config.discriminator.depth = 2, 1
    small_config.discriminator.bound = "none"
    networks = create_networks(small_config, steps_per_epoch=1)
    image, mask = jax.random.uniform(jax.random.key(0), (2, 1, 8, 8, 1))
    params = networks.discriminator.init(jax.random.key(1), image, mask)["params"]
    kernel = jnp.zeros_like(params["stage_0"]["kernel"])  # [4, 4, 8, 4]
    # Channel (2 i + j) 2 + k is channel k (0 image, 1 mask) of the square's pixel (i, j); the window's second row and
    # column lie on the output's own square.
    for feature, channel in enumerate((0, 1, 4, 7)):
        kernel = kernel.at[1, 1, channel, feature].set(1.0)
    picked = {"params": {"stage_0": params["stage_0"] | {"kernel": kernel}}}
    (found,) = networks.discriminator.apply(picked, image, mask)
    assert found.shape == (1, 2, 2, 4)
    squares = (image[..., 0], mask[..., 0])
    expected = [squares[0][0, 0, 0], squares[1][0, 0, 0], squares[0][0, 1, 0], squares[1][0, 1, 1]]
    np.testing.assert_allclose(found[0, 0, 0], expected, atol=1e-6)
    np.testing.assert_allclose(found[0, 1, 1, 0], image[0, 4, 4, 0], atol=1e-6)


def test_odd_side_is_refused(small_config: ConfigDict) -> None:
    networks = create_networks(small_config, steps_per_epoch=1)
    image = jnp.zeros((1, 18, 16, 1))
    with pytest.raises(ValueError, match="18 x 16 pixels: sides must be divisible by 4"):
        networks.discriminator.init(jax.random.key(0), image, image)


def test_only_kernels_that_stretch_are_divided() -> None:
    """Singular values 3 and 0.5 of a 2 x 2 matrix: 3 is brought to 1; scaled below 1 nothing changes."""
    matrix = np.diag([3.0, 0.5]).astype(np.float32).reshape(1, 1, 2, 2)
    np.testing.assert_allclose(bounded_kernel(jnp.asarray(matrix), "spectral"), matrix / 3.0, rtol=1e-3)
    np.testing.assert_array_equal(bounded_kernel(jnp.asarray(matrix / 6.0), "spectral"), matrix / 6.0)


def test_l1_bound_by_hand() -> None:
    """Each output channel on its own: absolute sums 4 and 0.5."""
    kernel = jnp.array([[1.0, 0.25], [-3.0, -0.25]]).reshape(1, 1, 2, 2)
    np.testing.assert_allclose(bounded_kernel(kernel, "l1")[0, 0], [[0.25, 0.25], [-0.75, -0.25]])


def test_two_stages_written_out(small_config: ConfigDict) -> None:
    """Strided convolutions of the bounded kernels, a bias, and a slope of 0.2 below 0."""
    networks = create_networks(small_config, steps_per_epoch=1)
    image, mask = jax.random.normal(jax.random.key(0), (2, 2, 16, 16, 1))
    params = networks.discriminator.init(jax.random.key(1), image, mask)["params"]
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params)
    x = np.concatenate([image, mask], axis=-1)
    for stage, found in enumerate(networks.discriminator.apply({"params": params}, image, mask)):
        own = {name: np.asarray(leaf) for name, leaf in params[f"stage_{stage}"].items()}
        norm = np.linalg.norm(own["kernel"].reshape(-1, own["kernel"].shape[-1]), 2)
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (4, 4), axis=(1, 2))[:, ::2, ::2]
        y = np.einsum("brcxij,ijxf->brcf", windows, own["kernel"] / max(norm, 1.0)) + own["bias"]
        x = np.where(y > 0, y, 0.2 * y)
        np.testing.assert_allclose(found, x, rtol=0.02, atol=0.02)
        np.testing.assert_allclose(np.abs(found).mean(), np.abs(x).mean(), rtol=0.02)


def test_the_norm_sits_behind_every_stage_but_the_first(small_config: ConfigDict) -> None:
    small_config.discriminator.norm = "batch"
    discriminator = create_networks(small_config, steps_per_epoch=1).discriminator
    image, mask = jax.random.normal(jax.random.key(0), (2, 4, 16, 16, 1))
    variables = discriminator.init(jax.random.key(1), image, mask)
    assert sorted(variables["params"]) == ["norm_1", "stage_0", "stage_1"]
    features, _ = discriminator.apply(variables, image, mask, mutable=["batch_stats"])
    before_leak = jnp.where(features[1] > 0, features[1], features[1] / 0.2)
    np.testing.assert_allclose(before_leak.mean(axis=(0, 1, 2)), 0.0, atol=1e-4)
    np.testing.assert_allclose(before_leak.var(axis=(0, 1, 2)), 1.0, atol=0.02)


@pytest.mark.parametrize("fold_px", [1, 2])
def test_stage_bounds_are_reached_and_never_exceeded(small_config: ConfigDict, fold_px: int) -> None:
    """Kernels of equal entries and norm 1 on masks that differ by 1 everywhere reach it, random kernels do not."""
    section = small_config.discriminator
    section.fold_px, section.depth, section.width = fold_px, 2, 4
    network = create_networks(small_config, steps_per_epoch=1).discriminator
    image, mask = jnp.zeros((1, 32, 32, 1)), jnp.ones((1, 32, 32, 1))
    params = network.init(jax.random.key(0), image, mask)["params"]

    def largest(params: Any) -> list[float]:
        pairs = (network.apply({"params": params}, image, other) for other in (mask, jnp.zeros_like(mask)))
        return [float(jnp.abs(a - b).mean(axis=-1).max()) for a, b in zip(*pairs, strict=True)]

    bounds = stage_bounds(section)
    assert bounds == pytest.approx([4 * fold_px / 2, 16 * fold_px / 8**0.5])
    assert all(found <= bound * 1.02 for found, bound in zip(largest(params), bounds, strict=True))
    for index, stage in enumerate(("stage_0", "stage_1")):
        kernel = jnp.ones_like(params[stage]["kernel"])
        if index == 0:  # the mask's channels alone; folded channels alternate between image and mask
            kernel = kernel * (jnp.arange(kernel.shape[2]) % 2)[:, None]
        params[stage]["kernel"] = kernel / jnp.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), ord=2)
    assert largest(params) == pytest.approx(bounds, rel=0.02)


def test_stage_bounds_need_what_they_rest_on(small_config: ConfigDict) -> None:
    section = small_config.discriminator
    section.bound = "l1"
    assert stage_bounds(section) == (1.0,) * section.depth
    for key, value in (("bound", "clip"), ("norm", "batch"), ("pairing", "multiply")):
        changed = section.copy_and_resolve_references()
        changed[key] = value
        with pytest.raises(RequestError, match=r"adversary\.stages=bounded needs"):
            stage_bounds(changed)
    with pytest.raises(RequestError, match=r"adversary\.stages=bounded needs"):
        stage_bounds(get_config("segan,cpu").discriminator)
