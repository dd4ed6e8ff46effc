"""One small model whose weights NumPy drew, so that every version of JAX can export the same.

`python -m tests.exported_files tests/data/jax_X_Y.msanet` writes it with the JAX that is installed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from configs.msanet import get_config
from msanet_jax.runs.folder import prepare
from msanet_jax.trained.export import export_model
from msanet_jax.training.checkpoints import Checkpoints
from msanet_jax.training.state import Networks, TrainState, abstract_state, create_networks
from msanet_jax.training.weights import named_weights, with_weights

MEMBERS = 2


def drawn_recipe() -> ConfigDict:
    """A network of a few thousand weights that sees 16 x 16 pixels and says something without training."""
    config = get_config("smoke")
    config.data.image_size_px = 16
    config.generator.width = 2
    config.generator.depth = 2
    config.generator.cascade_dilations = (1, 2)
    config.generator.initial_lesion_share = 0.5
    config.adversary.enabled = False
    return config


def drawn_weights(state: TrainState, member: int) -> dict[str, np.ndarray]:
    """Parameters from a normal distribution, running means 0, running variances 1."""
    random = np.random.default_rng(member)
    named = {}
    for name, leaf in sorted(named_weights(state).items()):
        drawn = np.float32(random.normal(0.0, 0.4, leaf.shape)) if name.startswith("params") else leaf
        named[name] = np.ones_like(leaf) if name.endswith("/var") else drawn
    return named


def drawn(member: int) -> tuple[Networks, TrainState]:
    """Networks and state of a member."""
    networks = create_networks(drawn_recipe(), steps_per_epoch=1)
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract_state(networks))
    return networks, with_weights(state, drawn_weights(state, member), source="drawn")


def write_run(run: Path, member: int) -> Path:
    """The folder of a training that ended with a member's weights."""
    networks, state = drawn(member)
    prepare(run, networks.config)
    checkpoints = Checkpoints(run, networks.config)
    checkpoints.save_best(state, dsc_pooled=0.1)
    checkpoints.close()
    return run


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        export_model([write_run(Path(name) / f"run{n}", n) for n in range(MEMBERS)], Path(sys.argv[1]))
