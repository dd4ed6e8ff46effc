"""The generator: shapes, parameter counts, and parts that leave nothing behind when they are off."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.msanet import get_config
from msanet_jax.networks.layers import CascadeDilatedConvolution, MultiScaleModule, ResidualBlock, norm_factory
from msanet_jax.networks.resampling import downsample2, upsample2
from msanet_jax.training.state import create_generator

COUNTS = {
    "": 5_782_108,
    "cpu": 1_129_108,
    "smoke": 33_723,
    "cpu,no_cdc": 1_045_588,
    "cpu,no_msm": 1_083_328,
    "cpu,no_deep_supervision": 1_128_937,
    "cpu,unet": 999_637,
}


def _shapes(config: ConfigDict) -> dict:
    generator = create_generator(config)
    size = config.data.image_size_px
    image = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)
    return jax.eval_shape(lambda key, x: generator.init(key, x, train=False), jax.random.key(0), image)["params"]


def _logit_shapes(generator: nn.Module, image: jax.Array) -> tuple[jax.ShapeDtypeStruct, ...]:
    return jax.eval_shape(lambda: generator.init_with_output(jax.random.key(0), image, train=False)[0])


def _start(generator: nn.Module, image: jax.Array) -> dict:
    """The start in one program; part by part it takes five times as long."""
    return jax.jit(lambda: generator.init(jax.random.key(0), image, train=False))()


@pytest.mark.parametrize("variants", COUNTS)
def test_parameter_count(variants: str) -> None:
    assert sum(leaf.size for leaf in jax.tree.leaves(_shapes(get_config(variants)))) == COUNTS[variants]


@pytest.mark.parametrize(
    ("variant", "prefix", "left"),
    [("no_cdc", "cascade", 0), ("no_msm", "multi_scale", 0), ("no_deep_supervision", "head", 1)],
)
def test_switched_off_part_leaves_no_parameters(variant: str, prefix: str, left: int) -> None:
    whole, ablated = _shapes(get_config("cpu")), _shapes(get_config(f"cpu,{variant}"))
    assert sum(name.startswith(prefix) for name in whole) > left
    assert sum(name.startswith(prefix) for name in ablated) == left


def test_logits_at_every_level(small_config: ConfigDict) -> None:
    generator = create_generator(small_config)
    logits = _logit_shapes(generator, jnp.zeros((2, 12, 20, 1)))
    assert [leaf.shape for leaf in logits] == [(2, 12, 20, 1), (2, 6, 10, 1)]
    assert {leaf.dtype for leaf in logits} == {jnp.dtype("float32")}


def test_folded_pixels_keep_the_size_and_their_places(small_config: ConfigDict) -> None:
    small_config.generator.fold_px = 2
    generator = create_generator(small_config)
    logits = _logit_shapes(generator, jnp.zeros((2, 16, 24, 1)))
    assert [leaf.shape for leaf in logits] == [(2, 16, 24, 1), (2, 4, 6, 1)]
    with pytest.raises(ValueError, match="divisible by 8"):
        generator.init(jax.random.key(0), jnp.zeros((1, 16, 20, 1)), train=False)


def test_computing_again_changes_no_number(small_config: ConfigDict) -> None:
    small_config.generator.depth = 1
    image = jax.random.normal(jax.random.key(1), (2, 16, 16, 1))
    found = []
    for remat in (False, True):
        small_config.generator.remat = remat
        generator = create_generator(small_config)
        variables = _start(generator, image)

        def loss(parameters: dict, generator: nn.Module, statistics: dict) -> tuple[jax.Array, dict]:
            logits, changed = generator.apply(
                {"params": parameters, "batch_stats": statistics}, image, train=True, mutable=["batch_stats"]
            )
            return sum(jnp.square(level).mean() for level in logits), changed

        gradient = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
        found.append(gradient(variables["params"], generator, variables["batch_stats"]))
        assert (
            "remat"
            in str(
                jax.make_jaxpr(jax.grad(loss, has_aux=True), static_argnums=1)(
                    variables["params"], generator, variables["batch_stats"]
                )
            )
        ) == remat
    for kept, again in zip(*(jax.tree.leaves(one) for one in found), strict=True):
        np.testing.assert_allclose(again, kept, rtol=1e-4, atol=1e-6)


def test_untrained_probability_is_the_initial_share(small_config: ConfigDict) -> None:
    generator = create_generator(small_config)
    image = jnp.zeros((1, 16, 16, 1))
    logits = jax.jit(lambda: generator.apply(_start(generator, image), image, train=False))()
    np.testing.assert_allclose(jax.nn.sigmoid(logits[0]), small_config.generator.initial_lesion_share, rtol=1e-4)


def test_bfloat16_computes_close_to_float32(small_config: ConfigDict) -> None:
    image = jax.random.normal(jax.random.key(1), (1, 16, 16, 1))
    variables = _start(create_generator(small_config), image)
    exact = jax.jit(lambda: create_generator(small_config).apply(variables, image, train=False)[0])()
    small_config.generator.dtype = "bfloat16"
    rough = jax.jit(lambda: create_generator(small_config).apply(variables, image, train=False)[0])()
    assert rough.dtype == jnp.float32
    np.testing.assert_allclose(jax.nn.sigmoid(rough), jax.nn.sigmoid(exact), atol=0.02)


def test_indivisible_side_is_refused(small_config: ConfigDict) -> None:
    with pytest.raises(ValueError, match="divisible by 4"):
        create_generator(small_config).init(jax.random.key(0), jnp.zeros((1, 16, 18, 1)), train=False)


def test_cascade_sits_where_it_is_told(small_config: ConfigDict) -> None:
    channels = []
    for level in (0, 1, 2, 9):
        small_config.generator.cascade_level = level
        channels.append(_shapes(small_config)["cascade"]["gain_1"].shape[0])
    assert channels == [4, 8, 16, 16]
    small_config.generator.cascade_level = -1
    with pytest.raises(ValueError, match="cascade_level=-1"):
        _shapes(small_config)


def test_gains_start_the_parts_as_identity(small_config: ConfigDict) -> None:
    image = jax.random.normal(jax.random.key(1), (1, 16, 16, 1))
    whole = create_generator(small_config)
    variables = _start(whole, image)
    small_config.generator.cascade_dilations = ()
    small_config.generator.multi_scale_dilations = ()
    plain = create_generator(small_config)
    left = {
        group: {name: leaf for name, leaf in tree.items() if not name.startswith(("cascade", "multi_scale"))}
        for group, tree in variables.items()
    }
    np.testing.assert_array_equal(
        whole.apply(variables, image, train=False)[0], plain.apply(left, image, train=False)[0]
    )


def _drawn(random: np.random.Generator, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    """Kernels that keep the scale of what passes; norms, gains, biases and statistics between 1/2 and 1."""
    kernel = random.normal(scale=(2 / np.prod(leaf.shape[:-1])) ** 0.5, size=leaf.shape)
    return np.asarray(kernel if len(leaf.shape) == 4 else random.uniform(0.5, 1.0, leaf.shape), np.float32)


def test_the_generator_written_out(small_config: ConfigDict) -> None:
    """Which part reads which: two levels, a multi-scale module and the cascade at the second, skips behind both."""
    small_config.generator.cascade_level = small_config.generator.multi_scale_from_level = 1
    generator, image = create_generator(small_config), jax.random.normal(jax.random.key(0), (1, 16, 16, 1))
    shapes = jax.eval_shape(lambda: generator.init(jax.random.key(1), image, train=False))
    variables = jax.tree.map(functools.partial(_drawn, np.random.default_rng(0)), shapes)
    norm = norm_factory("batch", train=False, mapped=False)

    def written_out(params: dict) -> tuple[jax.Array, jax.Array]:
        def part(module: nn.Module, name: str, *parts: jax.Array) -> jax.Array:
            return module.apply({"params": params[name], "batch_stats": variables["batch_stats"][name]}, *parts)

        def decoded(level: int, x: jax.Array, skip: jax.Array) -> tuple[jax.Array, jax.Array]:
            x = upsample2(x @ params[f"reduce_{level}"]["kernel"][0, 0])
            x = part(ResidualBlock(4 * 2**level, norm), f"decoder_{level}", x, skip)
            return x, x @ params[f"head_{level}"]["kernel"][0, 0] + params[f"head_{level}"]["bias"]

        fine = part(ResidualBlock(4, norm), "encoder_0", image)
        coarse = part(ResidualBlock(8, norm), "encoder_1", downsample2(fine))
        coarse = part(MultiScaleModule((1, 2), norm), "multi_scale_1", coarse)
        coarse = part(CascadeDilatedConvolution((1, 2), norm), "cascade", coarse)
        x = part(ResidualBlock(16, norm), "bottleneck", downsample2(coarse))
        x, second = decoded(1, x, coarse)
        _, first = decoded(0, x, fine)
        return first, second

    found = jax.jit(lambda: generator.apply(variables, image, train=False))()
    for ours, expected in zip(found, jax.jit(written_out)(variables["params"]), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4)


def test_dropout_is_for_training(small_config: ConfigDict) -> None:
    small_config.generator.depth, small_config.generator.cascade_dilations = 1, ()
    image = jax.random.normal(jax.random.key(0), (1, 16, 16, 1))
    plain = create_generator(small_config)
    variables = _start(plain, image)
    small_config.generator.dropout_rate = 0.5
    dropping = create_generator(small_config)
    still = [network.apply(variables, image, train=False)[0] for network in (plain, dropping)]
    np.testing.assert_array_equal(*still)
    first, second = (
        dropping.apply(variables, image, train=True, rngs={"dropout": jax.random.key(n)}, mutable=["batch_stats"])[0][0]
        for n in (2, 3)
    )
    assert float(jnp.abs(first - second).mean()) > 0.01
