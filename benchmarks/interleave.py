"""Timing of opponents in turn, so that a machine that slows down slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np


def interleaved(functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of every function in every repetition, after two unmeasured ones."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repetition in range(-2, repeats):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            if repetition >= 0:
                times[name].append(1e3 * (time.perf_counter() - begin))
    return times


def median_ratio(ours: list[float], theirs: list[float]) -> float:
    """Median over the repetitions of our time over theirs."""
    return float(np.median(np.array(ours) / np.array(theirs)))
