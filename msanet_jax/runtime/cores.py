"""Inference on a CPU: a batch in one piece a core, side by side.

Within one program XLA was seen to run convolutions to 24 channels and more on a single core each; programs of several
threads it spreads over the cores. On two cores, two halves of a batch in two threads took 0.72 to 0.79 of the time of
the whole. Images are independent in inference, so the result is the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux: fewer than the machine has in containers and under taskset
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def over_cores(function: Callable[[np.ndarray], np.ndarray], batch: np.ndarray, *, cores: int) -> np.ndarray:
    """`function(batch)`, computed in equal pieces in as many threads.

    Args:
      function: `[n, ...]` -> `[n, ...]`, each output from its own input; releases Python's lock while it computes.
      batch: `[n, ...]`, n at least 1; padded with zeros to a multiple of the pieces, the padding's outputs are dropped.
      cores: pieces at most; there are never more than images.
    """
    pieces = _pieces(len(batch), cores)
    if pieces == 1:
        return function(batch)
    with ThreadPoolExecutor(pieces) as pool:
        return np.concatenate(list(pool.map(function, np.split(padded(batch, pieces), pieces))))[: len(batch)]


def images_a_piece(images: int, cores: int) -> int:
    """Images in each piece of `over_cores`.

    Example:
      >>> images_a_piece(images=7, cores=2)
      4
    """
    return -(-images // _pieces(images, cores))


def _pieces(images: int, cores: int) -> int:
    return max(1, min(cores, images))


def padded(batch: np.ndarray, multiple: int) -> np.ndarray:
    """`batch` with zeros behind it up to the next multiple of `multiple` rows; itself where none are missing."""
    missing = -len(batch) % multiple
    return np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), batch.dtype)]) if missing else batch
