"""The variant `gpu` as JAX lowers it for CUDA, without a GPU: it has what cuDNN needs for its tensor cores."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

from configs.msanet import get_config
from msanet_jax.training.state import create_networks, create_state
from msanet_jax.training.steps import evaluation_step, train_iteration

CONVOLUTION = re.compile(
    r"stablehlo\.convolution\(.*? dim_numbers = \[(.*?)\]x\[(.*?)\]->\[(.*?)\],"
    r".*? : \(tensor<(\S+)>, tensor<(\S+)>\) -> tensor<(\S+)>"
)
NARROW = {1, 2}
"""Channels of the image, of image and mask side by side, and of a lesion map: the only ones not divisible by 8."""


class Convolution(NamedTuple):
    """Names of the dimensions, sizes and types of both inputs and of the result."""

    dimensions: tuple[str, ...]
    sizes: tuple[list[int], ...]
    types: set[str]


def _convolutions(program: str) -> Iterator[Convolution]:
    for groups in CONVOLUTION.findall(program):
        shapes = [shape.split("x") for shape in groups[3:]]
        sizes = tuple([int(size) for size in shape[:-1]] for shape in shapes)
        yield Convolution(groups[:3], sizes, {shape[-1] for shape in shapes})


def _lowered(kind: str) -> str:
    """StableHLO text of `train` or `inference` of the whole recipe, lowered for CUDA."""
    networks = create_networks(get_config("gpu"), steps_per_epoch=10)
    state = jax.eval_shape(lambda: create_state(networks))
    image = jax.ShapeDtypeStruct((16, 256, 256, 1), jnp.float32)
    steps: dict[str, tuple[Callable[..., Any], Any]] = {
        "train": (functools.partial(train_iteration, networks, mapped=False), {"image": image, "mask": image}),
        "inference": (functools.partial(evaluation_step, networks), image),
    }
    step, batch = steps[kind]
    return str(jax.export.export(jax.jit(step), platforms=["cuda"])(state, batch).mlir_module())


@pytest.mark.parametrize("kind", ["train", "inference"])
def test_convolutions_for_cuda(kind: str) -> None:
    """Every one multiplies bfloat16, has its channels last in memory, and channels in multiples of 8."""
    program = _lowered(kind)
    found = list(_convolutions(program))
    assert len(found) == program.count("stablehlo.convolution(")
    assert len(found) >= {"train": 150, "inference": 50}[kind]
    assert {frozenset(convolution.types) for convolution in found} == {frozenset({"bf16"})}
    # The gradient of a kernel is a convolution over the batch: its "batch" are the channels, which are last, too.
    assert {convolution.dimensions for convolution in found} <= {
        ("b, 0, 1, f", "0, 1, i, o", "b, 0, 1, f"),
        ("b, 0, 1, f", "0, 1, o, i", "b, 0, 1, f"),
        ("f, 0, 1, b", "i, 0, 1, o", "0, 1, b, f"),
    }
    channels = {size[-1] for convolution in found for size in convolution.sizes}
    assert {count for count in channels if count % 8} <= NARROW
    # On a CPU the gradients of kernels are matrix products; here they are convolutions.
    assert (sum(convolution.dimensions[0] == "f, 0, 1, b" for convolution in found) > 60) == (kind == "train")
