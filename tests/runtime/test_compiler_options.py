"""Options of the CPU compiler: who gets them, and that they change the speed but not the result."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest

from configs.msanet import get_config
from msanet_jax.runtime.compiler_options import (
    ONEDNN,
    VARIABLE,
    chosen,
    compiled,
    compiled_with_options,
    compiler_options,
)
from msanet_jax.training.devices import compile_probability
from msanet_jax.training.state import create_networks, create_state
from msanet_jax.training.steps import evaluation_step

TAKEN = {"jaxlib": "0.12.0.1", "backend": "cpu", "processor": "x86_64", "environment": {VARIABLE: "1"}}


@pytest.mark.parametrize(
    ("different", "options"),
    [
        ({}, ONEDNN),
        ({"jaxlib": "0.12.3"}, ONEDNN),
        ({"environment": {VARIABLE: "1", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}}, ONEDNN),
        ({"jaxlib": "0.10.2"}, {}),
        ({"jaxlib": "0.13.0"}, {}),
        ({"jaxlib": "0.120.0"}, {}),
        ({"backend": "gpu"}, {}),
        ({"processor": "aarch64"}, {}),
        ({"environment": {VARIABLE: "0"}}, {}),
        ({"environment": {}}, {}),
        ({"environment": {VARIABLE: "1", "XLA_FLAGS": "--xla_cpu_experimental_ynn_fusion_type=dot"}}, {}),
        ({"environment": {VARIABLE: "1", "XLA_FLAGS": "--xla_cpu_experimental_onednn_custom_call=false"}}, {}),
    ],
)
def test_who_gets_them(different: dict[str, object], options: dict[str, object]) -> None:
    assert chosen(**(TAKEN | different)) == options  # type: ignore[arg-type]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The options are asked for; skips where this jaxlib, processor or backend takes none."""
    monkeypatch.setenv(VARIABLE, "1")
    if not compiler_options():
        pytest.skip("this jaxlib, processor or backend takes no options")


@pytest.mark.usefixtures("asked")
def test_probabilities_are_the_same_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """To 1e-5, for batches of two sizes; without an option the function stays what it is."""
    networks = create_networks(get_config("smoke"), steps_per_epoch=1)
    state = create_state(networks)
    images = np.random.default_rng(0).normal(1.0, 0.3, (3, 64, 64, 1)).astype(np.float32)
    taken = compile_probability(networks)
    with_options = [taken(state, images), taken(state, images[:1])]
    monkeypatch.setenv(VARIABLE, "0")
    assert compiler_options() == {}
    function = jax.jit(functools.partial(evaluation_step, networks))
    assert compiled_with_options(function) is function
    plain = compile_probability(networks)
    for found, given in zip(with_options, (images, images[:1]), strict=True):
        np.testing.assert_allclose(found, plain(state, given), atol=1e-5)


@pytest.mark.usefixtures("asked")
def test_they_reach_the_compiler() -> None:
    """All convolutions of the network become calls of oneDNN, and their names are options that this jaxlib knows."""
    networks = create_networks(get_config("smoke"), steps_per_epoch=1)
    state, images = create_state(networks), np.ones((2, 64, 64, 1), np.float32)
    lowered = jax.jit(functools.partial(evaluation_step, networks)).lower(state, images)
    text = compiled(lowered, compiler_options()).as_text()
    assert text.count('custom_call_target="__onednn$convolution"') > 10
    assert "__ynn" not in text
    assert " convolution(" not in text


@pytest.mark.usefixtures("asked")
def test_programs_that_call_onednn_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing one fails, of which JAX warns, and a warning is an error here; others are kept as before."""
    kept_from = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    try:
        networks = create_networks(get_config("smoke"), steps_per_epoch=1)
        # A shape of its own, which no other test has compiled.
        state, images = create_state(networks), np.ones((3, 32, 96, 1), np.float32)
        assert compile_probability(networks)(state, images).shape == (3, 32, 96)
        assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.0
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", kept_from)
