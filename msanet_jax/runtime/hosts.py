"""Several processes as one run: how they find each other, agree, and leave.

Process 0 is the primary: it alone writes files. What it finds on disk and what it decides reaches the others through
the devices' collectives, so only the data set has to be readable by all. With one process every function is the
identity.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from data_pipeline.errors import RequestError

Tree = TypeVar("Tree")

SHUTDOWN_TIMEOUT_S = 20
"""How long a process that ends waits for the others; they end together, unless one has failed."""

MESSAGE_BLOCK_BYTES = 4096
"""Messages are filled up to multiples of this: every new length compiles a collective."""

LAUNCHER_COUNTS = ("OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "PMI_SIZE")
"""Where Open MPI, Slurm's srun and other MPI launchers say how many processes they have started."""

LOST_PEER_WORDS = ("gloo", "nccl", "connection", "coordination service", "heartbeat", "unavailable", "aborted", "peer")
"""Words by which a failed collective or a failed coordination service is told from other runtime errors."""


class LostPeerError(Exception):
    """Another process of the run died or was cut off; said on stderr already."""


def join(
    *, distributed: bool | None, coordinator_address: str | None, num_processes: int | None, process_id: int | None
) -> None:
    """Makes this process one of a run, before any other use of JAX.

    Args:
      distributed: True lets `jax.distributed` find the others (Slurm, Open MPI, Kubernetes, Cloud TPU); None and False
        mean a run of one process, but None refuses where a launcher has plainly started several.
      coordinator_address: `host:port` of process 0; it and the next two imply `distributed`.
      num_processes: of the run.
      process_id: this one's number, from 0.

    Raises:
      RequestError: the three do not fit together, nothing was found, or the others did not come.
    """
    explicit = {"coordinator_address": coordinator_address, "num_processes": num_processes, "process_id": process_id}
    given = [f"--{key}" for key, value in explicit.items() if value is not None]
    if not given and not distributed:
        if distributed is None:
            _refuse_forgotten_flag(os.environ)
        return
    if given and None in explicit.values():
        missing = " ".join(f"--{key}" for key, value in explicit.items() if value is None)
        raise RequestError(f"{' '.join(given)} without {missing}: give all three, or only --distributed")
    if coordinator_address is not None and not coordinator_address.rpartition(":")[2].isdigit():
        raise RequestError(
            f"--coordinator_address={coordinator_address}: has no port, e.g. {coordinator_address}:12355"
        )
    try:
        jax.distributed.initialize(
            coordinator_address=coordinator_address,
            num_processes=num_processes,
            process_id=process_id,
            shutdown_timeout_seconds=SHUTDOWN_TIMEOUT_S,
            cluster_detection_method="deactivate" if given else None,
        )
    except (ValueError, RuntimeError) as error:
        raise RequestError(
            f"the processes of this run did not find each other ({str(error).splitlines()[0][:200]}); see "
            "docs/scaling.md, or give --coordinator_address, --num_processes and --process_id"
        ) from error
    counts = {device.process_index: 0 for device in jax.devices()}
    for device in jax.devices():
        counts[device.process_index] += 1
    if len(set(counts.values())) > 1:
        raise RequestError(f"every process must have the same number of devices, here they have {[*counts.values()]}")


def _refuse_forgotten_flag(environment: Mapping[str, str]) -> None:
    for name in LAUNCHER_COUNTS:
        count = environment.get(name, "1")
        if count.isdigit() and int(count) > 1:
            raise RequestError(
                f"started as one of {count} processes ({name}), each of which would train on its own into the same "
                "folder; add --distributed for one run over all of them, or --nodistributed if they are apart"
            )


def is_primary() -> bool:
    """Whether this process writes the files."""
    return jax.process_index() == 0


def share(tree: Tree) -> Tree:
    """The primary's arrays on every process, as NumPy; the others give arrays of the same shapes and types."""
    return multihost_utils.broadcast_one_to_all(tree) if jax.process_count() > 1 else tree


def gather(rows: np.ndarray) -> np.ndarray:
    """Joins the processes' arrays along their first axis, in the order of the processes; same shape on each."""
    return np.asarray(multihost_utils.process_allgather(rows, tiled=True)) if jax.process_count() > 1 else rows


def from_primary(ask: Callable[[], Any]) -> Any:
    """Calls `ask` on the primary alone and gives its JSON-able answer to all; every process has to call.

    Raises:
      RequestError: what `ask` raised, on every process, so that all end alike.
    """
    if jax.process_count() == 1:
        return ask()
    answer: dict[str, Any] = {}
    if is_primary():
        try:
            answer = {"value": ask()}
        except RequestError as error:
            answer = {"refusal": str(error)}
            _send(answer)
            raise
    answer = _send(answer)
    if "refusal" in answer:
        raise RequestError(answer["refusal"])
    return answer["value"]


def primary_first(load: Callable[[], Tree]) -> Tree:
    """Calls `load` on the primary, and on the others when it is done: what it builds on disk is built once."""
    if jax.process_count() == 1:
        return load()
    loaded: list[Tree] = []
    from_primary(lambda: loaded.append(load()))
    return loaded[0] if loaded else load()


def wait_for_all(place: str) -> None:
    """Returns when every process has called it with the same `place`."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(place)


def stop_agreed(step: int) -> bool:
    """Whether all processes are to stop after `step` because one of them has received SIGTERM.

    Every process calls it after every step. The coordination service picks a step that none has passed; no device is
    involved. Always False with one process, where `signals.StopOnSigterm` listens.
    """
    return jax.process_count() > 1 and bool(multihost_utils.reached_preemption_sync_point(step))


def raise_if_lost_peer(error: Exception) -> None:
    """Says so at once where a runtime error most likely means that another process is gone.

    At once, because closing files takes time and JAX may end this process in the meantime.

    Raises:
      LostPeerError: it means that.
    """
    text = str(error).lower()
    if jax.process_count() == 1 or not any(word in text for word in LOST_PEER_WORDS):
        return
    print(
        f"another process of this run is gone ({str(error).splitlines()[0][:300]}); end the rest and start all again: "
        "run the same command again to continue from the last checkpoint",
        file=sys.stderr,
        flush=True,
    )
    raise LostPeerError from error


def leave(code: int) -> None:
    """Ends a process whose peers are gone at once: the orderly way would wait for them."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _send(answer: dict[str, Any]) -> dict[str, Any]:
    """The primary's JSON object on every process: first its padded length, then its bytes."""
    data = json.dumps(answer).encode() if is_primary() else b""
    blocks = int(share(np.array(-(-len(data) // MESSAGE_BLOCK_BYTES), np.int32)))
    padded = np.frombuffer(data.ljust(blocks * MESSAGE_BLOCK_BYTES, b" "), np.uint8)
    return json.loads(np.asarray(share(padded)).tobytes())
