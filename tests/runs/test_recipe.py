"""Recipes from a file, from text and from a run are the same; what a recipe cannot mean is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs import msanet, peers
from data_pipeline.errors import RequestError
from msanet_jax.runs.folder import prepare
from msanet_jax.runs.recipe import POSITIVE, check_recipe, flatten, read_config, read_recipe, recipe_from_text, run_file

ROOT = Path(__file__).parents[2]


def test_one_recipe_from_a_file_from_text_and_from_a_run(tmp_path: Path) -> None:
    recipe = read_recipe(f"{ROOT / 'configs' / 'msanet.py'}:cpu,no_cdc")
    prepare(tmp_path, recipe)
    assert flatten(recipe) == flatten(recipe_from_text(recipe.to_json())) == flatten(read_config(tmp_path))
    assert read_config(tmp_path).generator.multi_scale_dilations == (1, 2, 3)


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"none\.py: no such recipe"):
        read_recipe(tmp_path / "none.py")
    with pytest.raises(RequestError, match="unknown variant nothing"):
        read_recipe(f"{ROOT / 'configs' / 'msanet.py'}:nothing")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(RequestError, match=r"notes\.txt: is not a Python file"):
        run_file(tmp_path / "notes.txt")


def test_flat_keys() -> None:
    nested = ConfigDict({"seed": 1, "train": {"batch_size": 8, "rates": [1, (2, [3])]}, "empty": {}})
    assert flatten(nested) == {"seed": 1, "train.batch_size": 8, "train.rates": (1, (2, (3,)))}


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
