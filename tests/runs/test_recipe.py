"""What a recipe cannot mean is refused by name."""

from __future__ import annotations

import pytest

from configs import msanet, peers
from data_pipeline.errors import RequestError
from msanet_jax.runs.recipe import POSITIVE, check_recipe


@pytest.mark.parametrize("path", POSITIVE)
@pytest.mark.parametrize("value", [0, -1])
def test_a_number_that_means_nothing_is_named(path: str, value: int) -> None:
    config = msanet.get_config("smoke")
    section, key = path.split(".")
    config[section][key] = type(config[section][key])(value)
    with pytest.raises(RequestError, match=rf"config\.{path}={value}.* must be above 0"):
        check_recipe(config)


def test_every_recipe_passes() -> None:
    for variants in ("", *msanet.VARIANTS):
        check_recipe(msanet.get_config(variants))
    for peer in peers.PEERS:
        check_recipe(peers.get_config(peer))
