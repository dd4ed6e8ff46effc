"""The PyTorch twin agrees with the networks: outputs, losses, gradients and the weights after an iteration."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

torch = pytest.importorskip("torch", reason="the twin needs the extra [bench]")

from benchmarks.opponents import twin, twin_training  # noqa: E402
from msanet_jax.training.state import Networks, TrainState, create_networks, create_state  # noqa: E402
from msanet_jax.training.steps import evaluation_step, train_iteration  # noqa: E402


@pytest.fixture
def config(small_config: ConfigDict) -> ConfigDict:
    small_config.adversary.warmup_epochs = 0.0
    for section in (small_config.generator_optimizer, small_config.discriminator_optimizer):
        section.warmup_epochs = 0.0
    return small_config


def _twins(config: ConfigDict, state: TrainState) -> tuple[twin.Generator, twin.Discriminator]:
    generator, discriminator = twin.Generator(config.generator), twin.Discriminator(config.discriminator)
    twin.load_flax(generator, state.generator_params, state.generator_statistics)
    twin.load_flax(discriminator, state.discriminator_params, state.discriminator_statistics)
    return generator, discriminator


def _batch() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    mask = (random.random((4, 16, 16, 1)) < 0.2).astype(np.float32)
    return {"image": (1.0 + mask + random.normal(size=mask.shape)).astype(np.float32), "mask": mask}


def _torch(array: np.ndarray) -> torch.Tensor:
    return torch.tensor(array).permute(0, 3, 1, 2)


def _start(config: ConfigDict) -> tuple[Networks, TrainState]:
    networks = create_networks(config, steps_per_epoch=2)
    state = create_state(networks)
    params = jax.tree_util.tree_map_with_path(_open_gain, state.generator_params)
    # An iteration from the random start would leave the adversarial weight at 0: its warm-up counts steps.
    one = jax.numpy.ones((), jax.numpy.int32)
    return networks, state.replace(step=one, generator_params=params, generator_average=params)


def _open_gain(path: tuple[jax.tree_util.DictKey, ...], leaf: jax.Array) -> jax.Array:
    # Gains start at 0, where whatever lies behind them would go unnoticed.
    if not path[-1].key.startswith("gain"):
        return leaf
    return jax.numpy.linspace(0.3, 0.9, leaf.size)


@pytest.mark.parametrize("fold_px", [1, 2])
def test_inference(config: ConfigDict, fold_px: int) -> None:
    config.generator.fold_px = fold_px
    networks, state = _start(config)
    generator, _ = _twins(config, state)
    image = _batch()["image"]
    with torch.inference_mode():
        expected = torch.sigmoid(generator.eval()(_torch(image))[0])[:, 0].numpy()
    found = jax.jit(lambda s, x: evaluation_step(networks, s, x))(state, image)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("fold_px", [1, 2])
def test_one_iteration(config: ConfigDict, fold_px: int) -> None:
    """Without the compiler's optimisations: gradients were NaN there while a maximum was compared with its pixels."""
    _compare_an_iteration(config, fold_px)


@pytest.mark.usefixtures("optimized")
def test_one_iteration_as_users_compile_it(config: ConfigDict) -> None:
    _compare_an_iteration(config, fold_px=1)


def _compare_an_iteration(config: ConfigDict, fold_px: int) -> None:
    config.generator.fold_px = config.discriminator.fold_px = fold_px
    # Plain descent with rate 1 turns gradients into weights, so that weights after it compare gradients.
    for section in (config.generator_optimizer, config.discriminator_optimizer):
        section.name, section.clip_global_norm, section.peak_learning_rate = "sgd", 1e9, 1.0
        section.final_learning_rate_fraction = 1.0
    networks, state = _start(config)
    generator, discriminator = _twins(config, state)
    trainer = twin_training.Trainer(config, generator, discriminator, compiled=False)
    batch = _batch()
    after, metrics = jax.jit(lambda s, b: train_iteration(networks, s, b, mapped=False))(state, batch)
    supervised, distance = trainer.iterate(_torch(batch["image"]), _torch(batch["mask"]))
    np.testing.assert_allclose(
        [metrics["supervised_loss"], metrics["multi_scale_l1"]], [supervised, distance], rtol=1e-4
    )
    expected_generator, expected_discriminator = _twins(config, after)
    for found, expected in ((generator, expected_generator), (discriminator, expected_discriminator)):
        for (name, ours), (_, theirs) in zip(found.named_parameters(), expected.named_parameters(), strict=True):
            np.testing.assert_allclose(
                ours.detach().numpy(), theirs.detach().numpy(), atol=1e-4, rtol=1e-4, err_msg=name
            )
