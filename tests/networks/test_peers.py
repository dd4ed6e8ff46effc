"""The peers: parameter counts, shapes, published properties by hand, and a step of every objective."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import msanet, peers
from msanet_jax.evaluation.evaluate import choose_uptake_threshold
from msanet_jax.networks.catalogue import BASELINES, create_discriminator, create_generator, network_names
from msanet_jax.networks.layers import norm_factory
from msanet_jax.networks.peers.attention_unet import AttentionGate
from msanet_jax.networks.peers.segan import Critic
from msanet_jax.networks.peers.unet import UpConv
from msanet_jax.training.adversaries import Game, PatchGan
from msanet_jax.training.baselines import fit_baseline, kmeans_probability
from msanet_jax.training.state import create_networks, create_state
from msanet_jax.training.steps import train_iteration
from tests.fakes import fake_split

NETWORKS = [name for name in peers.PEERS if name not in BASELINES]


def _key(seed: int) -> jax.Array:
    """A generator of random numbers that compiles in seconds."""
    return jax.random.key(seed, impl="unsafe_rbg")


def _size(tree: object) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _shapes(config: ConfigDict) -> tuple[dict, dict]:
    side = config.data.image_size_px
    image = jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32)
    generator, discriminator = create_generator(config), create_discriminator(config)
    drawn = jax.eval_shape(lambda x: generator.init(_key(0), x, train=False), image)
    judged = jax.eval_shape(lambda x: discriminator.init(_key(0), x, x, train=False), image)
    return drawn["params"], judged["params"] if config.adversary.enabled else {}


def _table() -> dict[str, tuple[int, int, int]]:
    """`peer,size` -> width, parameters of the generator, of the discriminator, as docs/peers.md prints them."""
    text = (Path(__file__).parents[2] / "docs" / "peers.md").read_text()
    rows = re.findall(r"^\| `([a-z_,]+)` \| (\d+) \| ([\d,]+) \| ([\d,]+) \|", text, flags=re.MULTILINE)
    return {name: tuple(int(value.replace(",", "")) for value in values) for name, *values in rows}


def _config(name: str) -> ConfigDict:
    peer, _, size = name.partition(",")
    if peer == "msanet":
        return msanet.get_config(size)
    return peers.get_config(name)


def test_the_table_holds_every_peer_and_its_numbers() -> None:
    table = _table()
    assert set(table) == {f"{peer}{size}" for peer in ("msanet", *NETWORKS) for size in ("", ",released", ",cpu")}
    for name, (width, generator, discriminator) in table.items():
        config = _config(name)
        shapes = _shapes(config)
        assert (config.generator.width, _size(shapes[0]), _size(shapes[1])) == (width, generator, discriminator), name


@pytest.mark.parametrize("size", ["", ",released", ",cpu"])
@pytest.mark.parametrize("peer", NETWORKS)
def test_width_is_the_one_nearest_to_msanet(peer: str, size: str) -> None:
    """The rule of configs/peers.py: a width one smaller or one larger would miss MSA-Net's count by more."""
    goal = _size(_shapes(_config(f"msanet{size}"))[0])
    config = _config(f"{peer}{size}")
    missed = []
    for change in (0, -1, 1):
        near = config.copy_and_resolve_references()
        near.generator.width += change
        near.adversary.enabled = False
        missed.append(abs(_size(_shapes(near)[0]) - goal))
    assert missed[0] == min(missed)
    assert missed[0] < 0.1 * goal


def test_every_peer_has_its_recipe() -> None:
    assert set(network_names()) == {"msanet", *NETWORKS}
    for name in peers.PEERS:
        config = peers.get_config(f"{name},smoke")
        assert (config.model, config.variants) == (name, f"{name},smoke")
        same = ("data", "augment", "train", "generator_optimizer")
        assert all(config[section] == msanet.get_config("smoke")[section] for section in same)


@pytest.mark.parametrize("variants", ["help", "", "resnet", "cpu,unet", "unet,cpu,smoke"])
def test_a_wrong_variant_lists_the_peers(variants: str) -> None:
    with pytest.raises(ValueError, match="attention_unet"):
        peers.get_config(variants)


def test_wrong_names_are_refused() -> None:
    config = peers.get_config("unet,smoke")
    config.generator.cascade_dilations = (1,)
    with pytest.raises(ValueError, match=r"model 'unet': .*cascade_dilations"):
        create_generator(config)
    config.model = "resnet"
    with pytest.raises(ValueError, match=r"model='resnet' must be one of msanet, .*unet.*kmeans"):
        create_generator(config)
    config.model = "kmeans"
    with pytest.raises(ValueError, match="no network"):
        create_generator(config)


HEADS = {
    "unet": [(8, 16)],
    "unet_plus_plus": [(8, 16), (8, 16), (8, 16)],
    "attention_unet": [(8, 16), (4, 8), (2, 4)],
    "segan": [(8, 16)],
    "patch_gan": [(8, 16)],
}


@pytest.mark.parametrize("peer", NETWORKS)
def test_heads_start_at_the_initial_share(peer: str) -> None:
    config = peers.get_config(f"{peer},smoke")
    config.generator.width = 2
    generator = create_generator(config)
    image = jnp.zeros((2, 8, 16, 1))
    logits = jax.jit(lambda: generator.init_with_output(_key(0), image, train=False)[0])()
    assert [leaf.shape for leaf in logits] == [(2, *shape, 1) for shape in HEADS[peer]]
    for leaf in logits:
        np.testing.assert_allclose(jax.nn.sigmoid(leaf), config.generator.initial_lesion_share, rtol=1e-4)
    with pytest.raises(ValueError, match="divisible by 8"):
        jax.eval_shape(lambda: generator.init(_key(0), image[:, :, :12], train=False))


def test_up_convolution_is_the_transposed_one() -> None:
    x = jax.random.normal(_key(0), (2, 3, 5, 4))
    ours, variables = UpConv(6).init_with_output(_key(1), x)
    kernel = variables["params"]["conv"]["kernel"].reshape(4, 2, 2, 6).transpose(1, 2, 0, 3)
    # Flax's transposed convolution correlates, so its kernel is ours mirrored.
    theirs = nn.ConvTranspose(6, (2, 2), strides=(2, 2), use_bias=False)
    np.testing.assert_allclose(ours, theirs.apply({"params": {"kernel": kernel[::-1, ::-1]}}, x), atol=1e-5)


def test_attention_gate_opens_and_closes() -> None:
    norm = norm_factory("none", train=False, mapped=False)
    x, gate = jax.random.normal(_key(0), (1, 4, 4, 3)), jnp.ones((1, 2, 2, 5))
    module = AttentionGate(norm)
    params = module.init(_key(1), x, gate)["params"]
    outputs = {}
    for bias in (-50.0, 0.0, 50.0):
        params["psi"]["kernel"] = jnp.zeros_like(params["psi"]["kernel"])
        params["psi"]["bias"] = jnp.full_like(params["psi"]["bias"], bias)
        outputs[bias] = module.apply({"params": params}, x, gate)
    passed = jnp.einsum("bhwc,cd->bhwd", x, params["out"]["conv"]["kernel"][0, 0])
    np.testing.assert_allclose(outputs[-50.0], 0.0, atol=1e-6)
    np.testing.assert_allclose(outputs[0.0], 0.5 * passed, atol=1e-5)
    np.testing.assert_allclose(outputs[50.0], passed, atol=1e-5)


def test_segan_critic_sees_the_product() -> None:
    config = peers.get_config("segan,smoke")
    critic = create_discriminator(config)
    assert isinstance(critic, Critic)
    image = jax.random.uniform(_key(0), (1, 64, 64, 1)).at[:, :32].set(0.0)
    mask = jax.random.uniform(_key(1), (1, 64, 64, 1))
    variables = jax.jit(lambda: critic.init(_key(2), image, mask, train=False))()
    apply = jax.jit(lambda seen: critic.apply(variables, image, seen, train=False))
    features = apply(mask)
    assert [leaf.shape[1] for leaf in features] == [64, 32, 16, 8, 4, 2, 1]
    assert [leaf.shape[-1] for leaf in features] == [1, 4, 8, 16, 32, 32, 32]
    np.testing.assert_allclose(features[0], image * mask, rtol=1e-6)
    hidden = apply(mask.at[:, :32].set(1.0))
    for seen, unseen in zip(features, hidden, strict=True):
        np.testing.assert_array_equal(seen, unseen)


def _batch() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    mask = (random.random((4, 16, 16, 1)) < 0.2).astype(np.float32)
    return {"image": (1.0 + mask + random.normal(size=mask.shape)).astype(np.float32), "mask": mask}


@pytest.mark.parametrize("peer", ["segan", "patch_gan"])
def test_an_adversarial_iteration_moves_both_networks(peer: str) -> None:
    config = peers.get_config(f"{peer},smoke")
    config.data.image_size_px = 16
    config.generator.depth, config.generator.width = 1, 2
    config.discriminator.depth = min(config.discriminator.depth, 2)
    networks = create_networks(config, steps_per_epoch=2)
    before = create_state(networks)
    iterate = jax.jit(functools.partial(train_iteration, networks, mapped=False))
    after, metrics = iterate(*iterate(before, _batch())[:1], _batch())
    for field in ("generator_params", "discriminator_params", "discriminator_statistics"):
        moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), getattr(before, field), getattr(after, field))
        assert max(jax.tree.leaves(moved)) > 0.0, field
    assert np.isfinite([float(value) for value in metrics.values()]).all()
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(after.discriminator_params))
    assert (largest <= 0.05 + 1e-7) == (peer == "segan")
    assert config.adversary.objective in metrics
    weight = float(config.adversary.weight)  # no warm-up beyond the first step, or half of the two-step one
    share = float(metrics["adversarial_share"] * metrics["generator_loss"] / metrics[config.adversary.objective])
    assert share == pytest.approx(weight if peer == "segan" else weight / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("kind", "discriminator", "generator"),
    [
        ("cross_entropy", 0.5 * (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0))), np.log1p(np.exp(1.0))),
        ("least_squares", 0.5 * ((2.0 - 1.0) ** 2 + (-1.0) ** 2), (-1.0 - 1.0) ** 2),
    ],
)
def test_patch_losses_by_hand(
    kind: str, discriminator: float, generator: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logit 2 for every patch of the truth (mask 1), -1 for every patch of the prediction (mask 0)."""
    config = peers.get_config("patch_gan,smoke")
    config.adversary.patch_loss = kind
    networks = create_networks(config, steps_per_epoch=1)
    ones = jnp.ones((1, 4, 4, 1))
    game = Game(
        networks, jax.eval_shape(lambda: create_state(networks)), {"image": ones, "mask": ones}, 0 * ones, False
    )
    monkeypatch.setattr(Game, "discriminate", lambda self, params, image, mask: ((3.0 * mask - 1.0,), {}))
    assert float(PatchGan().discriminator_loss(game, {})[0]) == pytest.approx(discriminator, rel=1e-6)
    assert float(PatchGan().generator_loss(game)) == pytest.approx(generator, rel=1e-6)
    config.adversary.patch_loss = "hinge"
    with pytest.raises(ValueError, match="hinge"):
        PatchGan().generator_loss(game)


def test_kmeans_finds_the_brightest_of_five_levels() -> None:
    """Counts in five tight groups: the top group is lesion, whatever the scale, and a blank image has none."""
    levels = np.array([0.0, 10.0, 20.0, 30.0, 100.0])
    counts = np.repeat(levels, 20).reshape(10, 10)
    images = np.sqrt(np.stack([counts, 7.0 * counts]))[..., None].astype(np.float32)
    maps = kmeans_probability(images)
    np.testing.assert_array_equal(maps > 0.5, np.stack([counts == 100.0] * 2))
    # The boundary lies at (30 + 100) / 2 = 65: v / (v + 65).
    np.testing.assert_allclose(maps[0], counts / (counts + 65.0), rtol=1e-5)
    assert not kmeans_probability(np.zeros((1, 8, 8, 1), np.float32)).any()


def test_threshold_baseline_cuts_where_the_sweep_does() -> None:
    split = fake_split(8)
    tuned = choose_uptake_threshold(split, image_size_px=16)
    probability = fit_baseline("threshold", training=split, image_size_px=16)
    np.testing.assert_array_equal(probability(split.counts) > 0.5, split.images > tuned)
    assert not probability(np.zeros((1, 16, 16), np.int32)).any()
