"""Recipes from a file, from text and from a run are the same; what a recipe cannot mean is refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import msanet, peers
from data_pipeline.errors import RequestError
from msanet_jax.runs.folder import prepare
from msanet_jax.runs.recipe import check_recipe, flatten, read_config, read_recipe, recipe_from_text, run_file
from msanet_jax.runs.recipe_keys import KEYS, Flag, Real, Several, Values, Whole, Words, check_values

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


def _wrong(values: Values) -> list[Any]:
    """What a key with such values never means: other types, non-finite, empty, negative, just outside the range."""
    wrong: list[Any] = [None, {}, b"1", float("nan"), float("inf"), -float("inf"), -1, -0.5, "\n", "\x1b[2J"]
    random = np.random.default_rng(0)
    match values:
        case Flag():
            wrong += [0, 1, 0.0, "", "True", ()]
        case Whole(low, high):
            wrong += [True, 1.5, "1", "", (1,), low - 1, high + 1, 10**30, float(low)]
            wrong += [low - int(step) for step in random.integers(1, 10**9, size=20)]
        case Real(low, high):
            wrong += [
                True,
                "0.5",
                "",
                (0.5,),
                np.nextafter(low, -1.0),
                np.nextafter(high, 1e12),
                10**30,
                *values.without,
            ]
            wrong += (low - random.exponential(size=20)).tolist()
        case Words(names):
            wrong += [1, True, (), *(["", "nothing"] if names else []), *(["adamw\n"])]
        case Several(each, least):
            wrong += ["", "(1, 2)", 1, *((bad,) for bad in _wrong(each)), *([(), []] if least else [])]
    return wrong


@pytest.mark.parametrize("key", KEYS)
def test_wrong_values_are_named(key: str) -> None:
    for value in _wrong(KEYS[key].values):
        with pytest.raises(RequestError, match=rf"^config\.{re.escape(key)}=.* must be .*$") as refusal:
            check_values({key: value})
        assert str(refusal.value).isprintable(), value


def test_the_ends_of_a_range() -> None:
    closed, above, below = Real(0.0, 1.0), Real(0.0, 1.0, without=(0.0,)), Real(0.0, 1.0, without=(1.0,))
    assert [values.accept(end) for values in (closed, above, below) for end in (0.0, 1)] == [1, 1, 0, 1, 1, 0]
    assert str(above) == "a number, above 0 to 1"
    assert str(below) == "a number, 0 to below 1"
    assert Whole(1, 3).accept(3) and not Whole(1, 3).accept(4)
    assert Several(Whole(1, 3), least=0).accept(()) and not Several(Whole(1, 3), least=1).accept(())
    assert Words(least=0).accept("") and not Words().accept("")


def test_missing_and_unknown_keys_are_named() -> None:
    config = msanet.get_config("smoke")
    with config.unlocked():
        config.train.epochs = 3
        config.generator.attention = True  # an attribute of a network of one's own
    with pytest.raises(RequestError, match=r"^config\.train\.epochs: no such key"):
        check_recipe(config)
    del config.train.epochs
    check_recipe(config)
    del config.seed
    with pytest.raises(RequestError, match=r"^config\.seed is missing"):
        check_recipe(config)


def test_every_recipe_passes() -> None:
    for variants in ("", *msanet.VARIANTS):
        check_recipe(msanet.get_config(variants))
    for peer in peers.PEERS:
        check_recipe(peers.get_config(peer))
