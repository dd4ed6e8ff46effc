"""What of the processor's peak a step reaches; JAX is kept on the processor, where the PyTorch twins run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.interleave import interleaved

GEMM_SIDE = 2048


def use_cpu() -> None:
    """Keeps JAX on the processor, for the PyTorch side of every comparison runs there; call it before JAX is used.

    Raises:
      RuntimeError: JAX was used before, on another device.
    """
    jax.config.update("jax_platforms", "cpu")
    if jax.default_backend() != "cpu":
        raise RuntimeError(f"JAX runs on {jax.default_backend()} already; start with JAX_PLATFORMS=cpu")


def describe_backends() -> str:
    """Where both sides run, for the results."""
    import torch  # in the functions that need it, so that `--help` does without

    return f"JAX on {jax.default_backend()}, PyTorch on cpu, {torch.get_num_threads()} threads"


def gemm_gflops(side: int = GEMM_SIDE) -> float:
    """The machine's best rate of a float32 product of two `side` x `side` matrices, by either library, in GFLOP/s."""
    import torch

    random = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    product, theirs = jax.jit(lambda a: a @ a), torch.tensor(random)
    functions = {"jax": lambda: jax.block_until_ready(product(random)), "torch": lambda: theirs @ theirs}
    best = min(min(times) for times in interleaved(functions, 5).values())
    return 2.0 * side**3 / best / 1e6


def compiled_gflop(function: Callable[..., Any], *arguments: Any) -> float:
    """Floating-point operations of one call as the compiler counts them in its program, in 10^9; NaN if it does not."""
    analysis = jax.jit(function).lower(*arguments).compile().cost_analysis()
    return float("nan") if analysis is None else float(analysis["flops"]) / 1e9


def share_of_peak(gflop: float, milliseconds: float, peak_gflops: float) -> float:
    """Rate of `gflop` in `milliseconds` over the peak rate."""
    return gflop / (1e-3 * milliseconds) / peak_gflops
