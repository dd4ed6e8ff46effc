"""Every variant builds, every key is read, nothing unknown passes."""

from __future__ import annotations

import ast
from pathlib import Path

import jax
import pytest

from configs.msanet import VARIANTS, get_config
from msanet_jax.runs.recipe import flatten
from msanet_jax.training.losses import SUPERVISED
from msanet_jax.training.state import create_networks, create_state

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("variants", ["", *VARIANTS, "cpu,no_cdc", "smoke,no_msm,no_adversarial"])
def test_variant_builds(variants: str) -> None:
    networks = create_networks(get_config(variants), steps_per_epoch=10)
    state = jax.eval_shape(lambda: create_state(networks))
    assert jax.tree.leaves(state.generator_params)
    assert bool(jax.tree.leaves(state.discriminator_params)) == networks.config.adversary.enabled


def test_variants_combine() -> None:
    both = get_config("cpu,no_cdc")
    assert both.generator.cascade_dilations == ()
    assert both.data.image_size_px == 128
    assert get_config("cpu").generator.cascade_dilations == (1, 2, 4, 8)


@pytest.mark.parametrize("variants", ["help", "npu", "cpu,npu"])
def test_unknown_variant_lists_the_known(variants: str) -> None:
    with pytest.raises(ValueError, match="no_deep_supervision"):
        get_config(variants)


def test_every_key_is_read() -> None:
    """Each leaf occurs as an attribute in the code, weighs a loss, or is an attribute of a module."""
    used = {f"{name}_weight" for name in SUPERVISED}
    for folder in ("msanet_jax", "data_pipeline"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute):
                    used.add(node.attr)
    for key in flatten(get_config()):
        section, _, leaf = key.rpartition(".")
        if section not in ("generator", "discriminator"):  # their sections are the modules' attributes
            assert leaf in used, key
