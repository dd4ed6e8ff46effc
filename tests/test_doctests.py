"""The examples in the docstrings of losses, scores and the public functions run, and every such function has one."""

from __future__ import annotations

import doctest
import importlib
import inspect

import pytest

from msanet_jax.training.adversaries import ADVERSARIES

SCORES = ("bootstrap", "comparison", "contours", "froc", "lesions", "pixels", "probabilities", "statistics")
MODULES = (
    "msanet_jax.api",
    "msanet_jax.training.adversaries",
    "msanet_jax.training.losses",
    *(f"msanet_jax.evaluation.{name}" for name in SCORES),
)


@pytest.mark.parametrize("name", MODULES)
def test_public_functions_have_examples_that_run(name: str) -> None:
    module = importlib.import_module(name)
    tests = doctest.DocTestFinder(exclude_empty=False).find(module, name)
    examples = {test.name.removeprefix(f"{name}."): len(test.examples) for test in tests}
    own = inspect.getmembers(module, lambda member: inspect.isfunction(member) and member.__module__ == name)
    assert [key for key, _ in own if not key.startswith("_") and not examples[key]] == []
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


def test_adversaries_have_examples() -> None:
    for adversary in ADVERSARIES.values():
        assert ">>> " in (type(adversary).__doc__ or ""), type(adversary)
