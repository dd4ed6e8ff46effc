"""Finds the networks of a recipe by `config.model`: `msanet`, or the name of a file in msanet_jax/networks/peers."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from types import ModuleType
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from msanet_jax.networks import peers
from msanet_jax.networks.discriminator import Discriminator
from msanet_jax.networks.generator import Generator

BASELINES = ("threshold", "kmeans", "top_hat")
"""Values of `config.model` that learn no network; msanet_jax/training/baselines.py scores them."""

OF_THE_UPDATE = ("clip_value",)
"""Keys of the `discriminator` section that the update reads, not the module."""


@functools.cache
def network_names() -> tuple[str, ...]:
    """Every `config.model` that has a network, in alphabetical order after `msanet`."""
    return ("msanet", *(name for name in _peer_names() if hasattr(_peer(name), "GENERATOR")))


def create_generator(config: ConfigDict) -> nn.Module:
    """The generator alone, as prediction needs it.

    Raises:
      RequestError: no such model, or its attributes are not the keys of the recipe's `generator` section.
    """
    module = Generator if config.model == "msanet" else _named(config.model).GENERATOR
    return _build(module, dict(config.generator), f"generator section of model {config.model!r}")


def create_discriminator(config: ConfigDict) -> nn.Module:
    """The discriminator of the model; MSA-Net's where a peer has none of its own.

    Raises:
      RequestError: as `create_generator`, for the `discriminator` section.
    """
    module = Discriminator
    if config.model != "msanet":
        module = getattr(_named(config.model), "DISCRIMINATOR", Discriminator)
    attributes = {key: value for key, value in config.discriminator.items() if key not in OF_THE_UPDATE}
    return _build(module, attributes, f"discriminator section of model {config.model!r}")


def _named(name: str) -> ModuleType:
    if name in BASELINES:
        raise RequestError(f"model {name!r} learns nothing and has no network to load")
    if name not in network_names():
        raise RequestError(f"model={name!r} must be one of {', '.join((*network_names(), *BASELINES))}")
    return _peer(name)


def _peer_names() -> list[str]:
    return sorted(entry.name for entry in pkgutil.iter_modules(peers.__path__))


def _peer(name: str) -> ModuleType:
    return importlib.import_module(f"{peers.__name__}.{name}")


def _build(module: Any, attributes: dict[str, Any], where: str) -> nn.Module:
    try:
        return module(**attributes)
    except TypeError as error:
        reason = str(error).split("__init__() ", maxsplit=1)[-1]
        raise RequestError(
            f"{where}: {reason}; a run of another version of msanet-jax has to be trained again"
        ) from error
