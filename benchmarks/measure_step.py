"""Times the real train iteration on a number of devices, on one batch that already lies on them."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from msanet_jax.networks.layers import AXIS
from msanet_jax.training.devices import map_iteration
from msanet_jax.training.state import create_networks, create_state
from msanet_jax.training.steps import train_iteration

STEPS_PER_EPOCH = 15
"""Of the schedules; it does not touch the time."""

REPEATS = 5
"""Loops timed; the median is reported with the fastest and the slowest."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of one iteration: median, fastest and slowest of `REPEATS` loops."""

    median_s: float
    fastest_s: float
    slowest_s: float


def measure(
    config: ConfigDict, *, devices: Sequence[jax.Device], form: str, global_batch: int, steps: int, scaling: str
) -> dict[str, Any]:
    """One row of the results.

    The time in collectives is the difference to the same program without any: every device then trains on its own,
    with the same arithmetic. It holds the transfers and the waiting for the slowest device; below zero it is noise.

    Args:
      config: the recipe; its dtypes are reported.
      devices: to map over, of all processes.
      form: `pmap` or `shard_map`.
      global_batch: images of an iteration over all devices.
      steps: iterations in a timed loop.
      scaling: `weak` or `strong`, for the record.
    """
    networks = create_networks(config, steps_per_epoch=STEPS_PER_EPOCH)
    timings, memory = {}, None
    for mapped in (True, False) if len(devices) > 1 else (True,):
        iteration = map_iteration(
            functools.partial(train_iteration, networks, mapped=mapped), form=form, devices=tuple(devices)
        )
        state, batch = place(
            jax.tree.map(np.asarray, create_state(networks)),
            random_batch(config.data.image_size_px, global_batch // jax.process_count()),
            form=form,
            devices=devices,
        )
        if mapped:
            memory = compiled_memory_bytes(iteration, state, batch)
        timings[mapped] = time_loop(iteration, state, batch, steps=steps)
    step = timings[True].median_s
    alone = timings.get(False, timings[True]).median_s
    return {
        "scaling": scaling,
        "form": form,
        "dtype": config.generator.dtype,
        "devices": len(devices),
        "hosts": jax.process_count(),
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "global_batch": global_batch,
        **dataclasses.asdict(timings[True]),
        "images_per_s": global_batch / step,
        "collectives_s": step - alone,
        "collectives_share": 1.0 - alone / step,
        "memory_bytes": memory,
    }


def place(state: Any, batch: dict[str, np.ndarray], *, form: str, devices: Sequence[jax.Device]) -> tuple[Any, Any]:
    """State on every device, this process's batch shared out between its own; what the mapped iteration takes."""
    local = [device for device in devices if device.process_index == jax.process_index()]
    mesh = Mesh(np.array(local if form == "pmap" else devices), (AXIS,))
    replicated, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))
    if form == "pmap":
        batch = {key: value.reshape(len(local), -1, *value.shape[1:]) for key, value in batch.items()}
    placed = {key: jax.make_array_from_process_local_data(split, value) for key, value in batch.items()}
    return jax.device_put(state, replicated), placed


def random_batch(side: int, images: int) -> dict[str, np.ndarray]:
    """Noise of the size of normalised uptake, with a twentieth of the pixels lesion."""
    random = np.random.default_rng(0)
    image = random.gamma(2.0, 0.5, (images, side, side, 1)).astype(np.float32)
    return {"image": image, "mask": (random.uniform(size=image.shape) < 0.05).astype(np.float32)}


def time_loop(iteration: Callable[..., Any], state: Any, batch: Any, *, steps: int) -> Timing:
    """Times loops of `steps` iterations, each feeding the next, after two that compile and warm up."""
    # As in msanet_jax/training/devices.py: queued iterations on simulated devices can starve an all-reduce.
    blocking = jax.default_backend() == "cpu"
    for _ in range(2):
        state, metrics = jax.block_until_ready(iteration(state, batch))
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        for _ in range(steps):
            state, metrics = iteration(state, batch)
            if blocking:
                jax.block_until_ready(metrics)
        jax.block_until_ready((state, metrics))
        seconds.append((time.perf_counter() - begin) / steps)
    return Timing(float(np.median(seconds)), min(seconds), max(seconds))


def compiled_memory_bytes(iteration: Any, state: Any, batch: Any) -> int | None:
    """What the compiler plans per device: arguments, results and temporaries, donated arrays once.

    A device's own count of its peak is of no use here: it never falls, so that every program would show the largest of
    all before it. None where the backend tells no plan.
    """
    memory = iteration.lower(state, batch).compile().memory_analysis()
    if memory is None:
        return None
    inputs, outputs = memory.argument_size_in_bytes, memory.output_size_in_bytes
    return int(inputs + outputs - memory.alias_size_in_bytes + memory.temp_size_in_bytes)
