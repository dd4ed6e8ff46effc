"""The steps of docs/peers.md, "Another peer", as they are written there."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import peers as recipes
from msanet_jax.networks import catalogue, peers
from msanet_jax.training.state import create_networks, create_state
from msanet_jax.training.steps import train_iteration

PAGE = (Path(__file__).parents[2] / "docs" / "peers.md").read_text()
NETWORK, RECIPE, ENTRY, WIDTHS = re.findall(r"```python\n(.*?)```", PAGE.split("## Another peer")[1], re.DOTALL)
NAME = "hourglass"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConfigDict]:
    """The recipe of the page's peer, whose network lies in a folder of its own beside the project's peers."""
    (tmp_path / f"{NAME}.py").write_text(NETWORK)
    monkeypatch.setattr(peers, "__path__", [*peers.__path__, str(tmp_path)])
    catalogue.network_names.cache_clear()
    names: dict[str, object] = {}
    exec(RECIPE, vars(recipes) | {}, names)
    monkeypatch.setattr(recipes, "PEERS", recipes.PEERS | eval(f"{{{ENTRY}}}", {}, names))
    yield recipes.get_config(f"{NAME},smoke")
    catalogue.network_names.cache_clear()
    sys.modules.pop(f"{peers.__name__}.{NAME}", None)


def test_the_peer_trains(config: ConfigDict) -> None:
    """Its logits start at the share of the recipe, and two iterations (the rate starts at 0) change its parameters."""
    assert NAME in catalogue.network_names()
    config.data.image_size_px, config.generator.width, config.generator.depth = 16, 2, 2
    networks = create_networks(config, steps_per_epoch=2)
    state = create_state(networks)
    variables = {"params": state.generator_params, "batch_stats": state.generator_statistics}
    (logits,) = jax.jit(functools.partial(networks.generator.apply, train=False))(variables, jnp.zeros((2, 16, 16, 1)))
    np.testing.assert_allclose(jax.nn.sigmoid(logits), np.full((2, 16, 16, 1), 0.01), rtol=1e-4)
    image = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 1)), jnp.float32)
    batch = {"image": image, "mask": jnp.zeros_like(image)}
    iterate = jax.jit(functools.partial(train_iteration, networks, mapped=False))
    after, metrics = iterate(iterate(state, batch)[0], batch)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), state.generator_params, after.generator_params)
    assert max(jax.tree.leaves(moved)) > 0.0
    assert np.isfinite([float(value) for value in metrics.values()]).all()


def test_the_widths_are_printed(config: ConfigDict, capsys: pytest.CaptureFixture[str]) -> None:
    """They are within the tenth of MSA-Net's parameters that the rule of the peers allows."""
    exec(WIDTHS, {})
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    printed = [tuple(map(int, row[-3:-1])) for row in rows]
    assert printed == [(66, 5_806_813), (38, 1_926_069), (29, 1_122_243)]
