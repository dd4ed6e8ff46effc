"""The compared steps of our networks and of their PyTorch twins: same weights, same batch, on the processor."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks.opponents.process import Steps
from benchmarks.peak import use_cpu
from msanet_jax.training.devices import compile_probability, compile_train_iteration, place_state
from msanet_jax.training.state import create_networks, create_state


def jax_steps(config: ConfigDict) -> Steps:
    """`train` and `inference` as the product does them, on a batch that stays."""
    use_cpu()
    networks = create_networks(config, steps_per_epoch=10)
    state = create_state(networks)
    image, mask = random_images(config)
    iterate, current = compile_train_iteration(networks), [place_state(jax.tree.map(jnp.copy, state))]
    probability = compile_probability(networks)

    def train() -> None:
        current[0], metrics = iterate(current[0], {"image": image, "mask": mask})
        jax.block_until_ready(metrics)

    return {"train": train, "inference": lambda: probability(state, image)}


def torch_steps(config: ConfigDict, *, compiled: bool) -> Steps:
    """The twin's, with the same weights and batch."""
    # Imported here: our own steps, and `--help`, do without PyTorch.
    import torch

    from benchmarks.opponents import twin, twin_training

    use_cpu()
    state = create_state(create_networks(config, steps_per_epoch=10))
    image, mask = (torch.tensor(array).permute(0, 3, 1, 2) for array in random_images(config))
    generator, evaluated = twin.Generator(config.generator), twin.Generator(config.generator)
    for copy in (generator, evaluated):
        twin.load_flax(copy, state.generator_params, state.generator_statistics)
    predict = torch.compile(evaluated.eval()) if compiled else evaluated.eval()
    discriminator = twin.Discriminator(config.discriminator)
    twin.load_flax(discriminator, state.discriminator_params, state.discriminator_statistics)
    trainer = twin_training.Trainer(config, generator, discriminator, compiled=compiled)

    def infer() -> np.ndarray:
        with torch.inference_mode():
            return torch.sigmoid(predict(image)[0]).numpy()

    return {"train": lambda: trainer.iterate(image, mask), "inference": infer}


def random_images(config: ConfigDict) -> tuple[np.ndarray, np.ndarray]:
    """Images like normalised uptake and masks with a twentieth lesion, `[batch, side, side, 1]` float32."""
    random, side = np.random.default_rng(0), config.data.image_size_px
    shape = (config.train.batch_size, side, side, 1)
    return random.normal(1.0, 0.3, shape).astype(np.float32), (random.random(shape) < 0.05).astype(np.float32)
