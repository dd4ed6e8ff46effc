"""Recipes: read from a file with variants, from a run or from text; checked, compared, named by a digest."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from data_pipeline.reading import as_record, parse_json, read_text
from msanet_jax.runs.recipe_keys import KEYS, check_keys, check_values

_REMEDY = "restore the file, or train the run again"


def check_recipe(config: ConfigDict) -> None:
    """Refuses a recipe with a missing or unknown key, or with a value that its key cannot have (`recipe_keys.KEYS`).

    Raises:
      RequestError: names the key, its value and the values that it can have.
    """
    flat = flatten(config)
    check_keys(flat)
    check_values(flat)


def differing_keys(old: ConfigDict, new: ConfigDict) -> list[str]:
    """`key: old -> new` for every leaf that differs; `variants` only names how a config was reached.

    A key that one recipe lacks and that the other sets to nothing (0, "", False, ()) does not differ: an option that
    is off says no more than a recipe from before it existed. One from before `evaluate.calibration` is calibrated where
    its threshold is chosen on validation patients.
    """
    flat_old, flat_new = flatten(old), flatten(new)
    for flat in (flat_old, flat_new):
        if rule := flat.get("evaluate.threshold_rule"):
            flat.setdefault("evaluate.calibration", "validation" if rule == "validation" else "none")
    keys = sorted((flat_old.keys() | flat_new.keys()) - {"variants"})
    return [
        f"{key}: {flat_old.get(key, 'absent')} -> {flat_new.get(key, 'absent')}"
        for key in keys
        if flat_old.get(key, flat_new.get(key) and "absent") != flat_new.get(key, flat_old.get(key) and "absent")
    ]


def flatten(config: ConfigDict) -> dict[str, Any]:
    """`{"train.batch_size": 8, ...}`; sequences become tuples."""
    return dict(_leaves(_with_tuples(config.to_dict()), ""))


def _leaves(section: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


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
    if not path.exists():
        raise RequestError(f"{run}: not the folder of a run (it has no config.json)")
    return recipe_from_text(read_text(path, remedy=_REMEDY), where=str(path))


def recipe_from_text(text: str, *, where: str = "recipe") -> ConfigDict:
    """A recipe kept as JSON, of this or an earlier version; `where` begins the message.

    Raises:
      RequestError: it is none, or a value is none that its key can have.
    """
    content = parse_json(text, dict[str, Any], where=where, remedy=_REMEDY)
    for section in {key.partition(".")[0] for key in KEYS if "." in key} & content.keys():
        as_record(content[section], dict[str, Any], where=f"{where}: {section}", remedy=_REMEDY)
    try:
        config = ConfigDict(_with_tuples(content))
        check_values(flatten(config))
    except (ValueError, TypeError, RecursionError) as error:
        raise RequestError(f"{where}: {' '.join(str(error).split())[:300]}; {_REMEDY}") from None
    return config


def require(config: ConfigDict, keys: Iterable[str], *, where: str) -> None:
    """Refuses a kept recipe without these keys.

    Raises:
      RequestError: names the first that is missing.
    """
    flat = flatten(config)
    for key in keys:
        if key not in flat:
            raise RequestError(
                f"{where}: lacks {key}, as recipes of earlier versions do; train the run again, or add the keys of "
                "configs/msanet.py"
            )


def _with_tuples(value: Any) -> Any:
    """JSON has no tuples and Flax modules want hashable attributes."""
    if isinstance(value, dict):
        return {key: _with_tuples(entry) for key, entry in value.items()}
    return tuple(_with_tuples(entry) for entry in value) if isinstance(value, list | tuple) else value
