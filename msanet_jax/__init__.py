"""MSA-Net in JAX/Flax: networks, training, evaluation, prediction. Research software, not for diagnosis.

Public interface, loaded on first use: `load`, `predict`, `train`, `evaluate`, `simulate` (`msanet_jax.api`).
"""

from __future__ import annotations

import sys
import types
from typing import Any

__all__ = ["evaluate", "load", "predict", "simulate", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from msanet_jax import api

    return getattr(api, name)


class _Package(types.ModuleType):
    """Three functions share their name with the module that does the work; importing that one must not hide them."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in __all__ and isinstance(value, types.ModuleType):
            value.__class__ = _CallableModule
        super().__setattr__(name, value)


class _CallableModule(types.ModuleType):
    """A module of this package that is called as the function of its name."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return __getattr__(self.__name__.rpartition(".")[2])(*arguments, **options)


sys.modules[__name__].__class__ = _Package
