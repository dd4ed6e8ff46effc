"""Recipes: read from a file with variants, from a run or from text; checked, compared, named by a digest."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from msanet_jax.runs.recipe_keys import check_keys, check_values


def check_recipe(config: ConfigDict) -> None:
    """Refuses a recipe with a missing or unknown key, or with a value that its key cannot have (`recipe_keys.KEYS`).

    Raises:
      RequestError: names the key, its value and the values that it can have.
    """
    flat = flatten(config)
    check_keys(flat)
    check_values(flat)


def differing_keys(old: ConfigDict, new: ConfigDict) -> list[str]:
    """`key: old -> new` for every leaf that differs; `variants` only names how a config was reached."""
    flat_old, flat_new = flatten(old), flatten(new)
    keys = sorted((flat_old.keys() | flat_new.keys()) - {"variants"})
    return [
        f"{key}: {flat_old.get(key, 'absent')} -> {flat_new.get(key, 'absent')}"
        for key in keys
        if flat_old.get(key, "absent") != flat_new.get(key, "absent")
    ]


def flatten(config: ConfigDict) -> dict[str, Any]:
    """`{"train.batch_size": 8, ...}`; sequences become tuples."""
    from flax.traverse_util import flatten_dict  # loads JAX

    flat: dict[str, Any] = flatten_dict(_with_tuples(config.to_dict()), sep=".")
    return flat


def field_of(config: ConfigDict) -> str:
    """The recipe's field; recipes from before it could be chosen mean the thorax."""
    return str(config.data.get("field", "thorax"))


def config_digest(config: ConfigDict) -> str:
    """SHA-256 of a recipe as sorted JSON."""
    return hashlib.sha256(config.to_json(sort_keys=True).encode()).hexdigest()


def read_recipe(spec: str | Path) -> ConfigDict:
    """The recipe of `FILE` or `FILE:variant,variant`.

    Raises:
      RequestError: no such file or variant.
    """
    name, _, variants = str(spec).partition(".py:")
    path = Path(f"{name}.py" if variants else name)
    if not path.is_file():
        raise RequestError(f"{path}: no such recipe")
    module = run_file(path)
    try:
        config: ConfigDict = module.get_config(variants)
    except ValueError as error:
        raise RequestError(f"{path}: {str(error).splitlines()[0]}") from None
    return config


def run_file(path: Path) -> ModuleType:
    """A Python file that defines `get_config`, as a module; whatever it raises comes through.

    Raises:
      RequestError: it is not a Python file.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise RequestError(f"{path}: is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_config(run: Path) -> ConfigDict:
    """The recipe of a run, from its config.json.

    Raises:
      RequestError: `run` is not a run folder, or its config.json is damaged.
    """
    path = run / "config.json"
    try:
        return recipe_from_text(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RequestError(f"{run}: not the folder of a run (it has no config.json)") from error
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: not a readable config ({error})") from error


def recipe_from_text(text: str) -> ConfigDict:
    """A recipe kept as JSON; raises ValueError where it is none."""
    return ConfigDict(_with_tuples(json.loads(text)))


def _with_tuples(value: Any) -> Any:
    """JSON has no tuples and Flax modules want hashable attributes."""
    if isinstance(value, dict):
        return {key: _with_tuples(entry) for key, entry in value.items()}
    return tuple(_with_tuples(entry) for entry in value) if isinstance(value, list | tuple) else value
