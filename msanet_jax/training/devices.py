"""The only place that knows about devices: one pmap for training, one for evaluation, and batch placement.

With several processes each maps over its own devices and sees its own share of the batch; the axis spans all of them.
The state travels un-stacked (`in_axes=None`): it looks the same on one device and on many, and checkpoints need no
un-replication. `out_axes=None` returns the first device's copy, which is right only because every output of a step is
reduced over the devices; the parity test holds that.

JAX 0.12 calls `jax.pmap` the old way and recommends `jax.shard_map`. It still works, without a warning, and is itself
jit over shard_map there. For us nothing changes: both forms of `map_iteration` compile to the same collectives, and the
tests run both. To switch, `compile_train_iteration` asks for `form="shard_map"` and hands the batch over unsplit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from data_pipeline.errors import RequestError
from msanet_jax.networks.layers import AXIS
from msanet_jax.runtime.compiler_options import compiled_with_options
from msanet_jax.runtime.cores import over_cores, padded, usable_cores
from msanet_jax.runtime.hosts import gather
from msanet_jax.training.state import Networks, TrainState, Tree
from msanet_jax.training.steps import Metrics, batch_statistics, evaluation_step, train_iteration

HostBatch = Mapping[str, np.ndarray]


def describe_devices() -> str:
    """One line for the log: how many devices of which kind, on how many hosts."""
    device = jax.local_devices()[0]
    return (
        f"{jax.device_count()} {device.platform} device(s) ({device.device_kind}), {jax.process_count()} host(s), "
        f"jax {jax.__version__}"
    )


def check_batch_size(batch_size: int, key: str) -> None:
    """Refuses a global batch that the devices cannot share evenly.

    Raises:
      RequestError: `batch_size` is not positive, or not divisible by the number of devices.
    """
    devices = jax.device_count()
    if batch_size < 1:
        raise RequestError(f"{key}={batch_size} must be positive, e.g. --{key}={devices}")
    if batch_size % devices:
        raise RequestError(
            f"{key}={batch_size} is not divisible by {devices} devices; use a multiple, e.g. "
            f"--{key}={devices * max(1, round(batch_size / devices))}"
        )


def shard(batch: HostBatch) -> dict[str, np.ndarray]:
    """`[b, ...]` -> `[local devices, b / local devices, ...]`, a view of the same memory."""
    devices = jax.local_device_count()
    return {key: value.reshape(devices, -1, *value.shape[1:]) for key, value in batch.items()}


def place_state(state: TrainState) -> TrainState:
    """A copy of the state on every local device, as the mapped iteration returns it, so that nothing moves later."""
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.device_put(state, NamedSharding(mesh, PartitionSpec()))


def map_iteration(
    iteration: Callable[..., Any], *, form: str = "pmap", devices: Sequence[jax.Device] | None = None
) -> Any:
    """Maps a pure step (state, batch) -> (state, metrics) over devices; the old state is donated.

    Args:
      iteration: reduces all its outputs over the axis `AXIS`.
      form: `pmap` takes a batch `[local devices, b, ...]`; `shard_map` is jit over shard_map and takes a global batch
        `[devices x b, ...]`. Both compile to the same collectives.
      devices: all of the run by default.

    Returns:
      A function that compiles on its first call, with a method `lower`, as jit's.
    """
    if form == "pmap":
        return jax.pmap(
            iteration, axis_name=AXIS, in_axes=(None, 0), out_axes=(None, None), donate_argnums=0, devices=devices
        )
    mesh = Mesh(np.array(jax.devices() if devices is None else devices), (AXIS,))
    replicated, split = PartitionSpec(), PartitionSpec(AXIS)
    # With check_vma=True the gradient of replicated parameters is summed by itself and the step's mean comes too late.
    mapped = jax.shard_map(
        iteration, mesh=mesh, in_specs=(replicated, split), out_specs=(replicated, replicated), check_vma=False
    )
    return jax.jit(mapped, donate_argnums=0)


def compile_train_iteration(networks: Networks) -> Callable[[TrainState, HostBatch], tuple[TrainState, Metrics]]:
    """(state, this host's batch) -> (state, reduced metrics), mapped over all devices; the old state is donated."""
    mapped = map_iteration(functools.partial(train_iteration, networks, mapped=True))
    # Several simulated CPU devices share one thread pool; queued iterations can starve a collective until it aborts.
    blocking = jax.default_backend() == "cpu" and jax.device_count() > 1

    def iterate(state: TrainState, batch: HostBatch) -> tuple[TrainState, Metrics]:
        outputs = mapped(state, shard(batch))
        return jax.block_until_ready(outputs) if blocking else outputs

    return iterate


def compile_statistics(networks: Networks) -> Callable[[TrainState, HostBatch], Tree]:
    """(state, this host's batch) -> batch-norm statistics of the averaged parameters on the batch of all devices."""
    mapped = jax.pmap(
        functools.partial(batch_statistics, networks, mapped=True), axis_name=AXIS, in_axes=(None, 0), out_axes=None
    )
    return lambda state, batch: mapped(state, shard({"image": batch["image"]}))


def compile_probability(networks: Networks) -> Callable[[TrainState, np.ndarray], np.ndarray]:
    """(state, images `[n, rows, columns, 1]`) -> probabilities `[n, rows, columns]` float32; any n.

    The batch is padded with zeros to a multiple of the devices and the padding dropped again. With several processes
    all call it with the same images; each computes its share and gets the whole.
    """
    mapped = compiled_with_options(
        jax.pmap(functools.partial(evaluation_step, networks), axis_name=AXIS, in_axes=(None, 0))
    )
    # Simulated devices share the cores already; an accelerator has its own.
    cores = usable_cores() if jax.default_backend() == "cpu" and jax.device_count() == 1 else 1

    def share_of_host(state: TrainState, images: np.ndarray) -> np.ndarray:
        outputs = np.asarray(mapped(state, shard({"image": images})["image"]), np.float32)
        return outputs.reshape(len(images), *outputs.shape[2:])

    def probability(state: TrainState, images: np.ndarray) -> np.ndarray:
        share = np.split(padded(images, jax.device_count()), jax.process_count())[jax.process_index()]
        outputs = over_cores(functools.partial(share_of_host, state), share, cores=cores)
        return gather(outputs)[: len(images)]

    return probability
