"""Several processes as one run: how they find each other, agree, and leave.

Process 0 is the primary: it alone writes files. What it finds on disk and what it decides reaches the others through
JAX's coordination service, arrays through the devices' collectives, so only the data set has to be readable by all. The
service waits as long as it takes; a collective gives up after 30 s, so the processes meet before the first. With one
process every function is the identity.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from data_pipeline.errors import RequestError
from msanet_jax.runtime import preemption

Tree = TypeVar("Tree")

SHUTDOWN_TIMEOUT_S = 20
"""How long a process that ends waits for the others; they end together, unless one has failed."""

HEARTBEAT_TIMEOUT_S = 20
"""A process without a sign of life for as long is declared dead by JAX, which then ends the others."""

ROLL_CALL_S = 8
"""How long processes wait for each other when a collective has failed; whoever is missing is named."""

PULSE_MS = 1000
"""A wait for another process, for its data build for example, is cut into pieces, between which signals are seen."""

LAUNCHER_COUNTS = ("OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "PMI_SIZE")
"""Where Open MPI, Slurm's srun and other MPI launchers say how many processes they have started."""

LOST_PEER_WORDS = ("gloo", "nccl", "connection", "coordination service", "heartbeat", "unavailable", "aborted", "peer")
"""Words by which a failed collective or a failed coordination service is told from other runtime errors."""


_ORDER = itertools.count()
"""Numbers the messages and meetings; every process has the same ones in the same order."""


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
    if coordinator_address is not None:
        _check_port(coordinator_address, here=process_id == 0)
    try:
        jax.distributed.initialize(
            coordinator_address=coordinator_address,
            num_processes=num_processes,
            process_id=process_id,
            shutdown_timeout_seconds=SHUTDOWN_TIMEOUT_S,
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT_S,
            cluster_detection_method="deactivate" if given else None,
        )
    except (ValueError, RuntimeError) as error:
        raise RequestError(
            f"the processes of this run did not find each other ({str(error).splitlines()[0][:200]}); see "
            "docs/scaling.md, or give --coordinator_address, --num_processes and --process_id"
        ) from error
    preemption.watch(_service())
    counts = {device.process_index: 0 for device in jax.devices()}
    for device in jax.devices():
        counts[device.process_index] += 1
    if len(set(counts.values())) > 1:
        raise RequestError(f"every process must have the same number of devices, here they have {[*counts.values()]}")


def _check_port(address: str, *, here: bool) -> None:
    """JAX itself crashes where the port is taken."""
    port = address.rpartition(":")[2]
    if not port.isdigit() or not 0 < int(port) < 2**16:
        raise RequestError(f"--coordinator_address={address}: has no port, e.g. {address.partition(':')[0]}:12355")
    if not here:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", int(port)))
        except OSError as error:
            raise RequestError(
                f"--coordinator_address={address}: port {port} cannot be used on this machine ({error.strerror}); "
                "choose another, the same for every process"
            ) from error


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
    if jax.process_count() == 1:
        return tree
    wait_for_all("share")
    return multihost_utils.broadcast_one_to_all(tree)


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
    key = f"msanet/answer/{next(_ORDER)}"
    if is_primary():
        try:
            answer = {"value": ask()}
        except RequestError as error:
            _service().key_value_set(key, json.dumps({"refusal": str(error)}))
            raise
        _service().key_value_set(key, json.dumps(answer))
    answer = json.loads(_wait_for(key))
    if "refusal" in answer:
        raise RequestError(answer["refusal"])
    return answer["value"]


def agreed(ask: Callable[[], Tree], facts: Callable[[Tree], Mapping[str, str]]) -> Tree:
    """Calls `ask` on the primary, then on the others, and gives each its own result if the facts are the same on all.

    What `ask` builds on disk is built once, because the primary comes first.

    Args:
      ask: returns a result.
      facts: of a result, by name; they have to be equal on every process. One process alone computes none.

    Raises:
      RequestError: on every process, if one was refused or facts differ; names processes and facts.
    """
    if jax.process_count() == 1:
        return ask()
    results: list[Tree] = []

    def attempt() -> dict[str, Any]:
        try:
            result = ask()
        except RequestError as error:
            return {"refusal": str(error)}
        results.append(result)
        return {"facts": dict(facts(result))}

    first = from_primary(attempt)
    outcomes = _exchange(first if is_primary() else attempt())
    for number, outcome in enumerate(outcomes):
        if "refusal" in outcome:
            raise RequestError(f"process {number}: {outcome['refusal']}")
    if differing := _differing([outcome["facts"] for outcome in outcomes]):
        raise RequestError(f"the processes of this run do not agree: {'; '.join(differing)}")
    return results[0]


def _differing(facts: Sequence[Mapping[str, str]]) -> list[str]:
    """`key: value on process 0, value on process n` for every key whose values differ; n is the first that differs."""
    found = []
    for key in sorted({key for each in facts for key in each}):
        values = [each.get(key, "absent") for each in facts]
        if len(set(values)) > 1:
            number = next(number for number, value in enumerate(values) if value != values[0])
            found.append(f"{key}: {values[0]} on process 0, {values[number]} on process {number}")
    return found


def wait_for_all(place: str) -> None:
    """Returns when every process has called it with the same `place`, however long that takes."""
    if jax.process_count() > 1:
        _exchange({"place": place})


def stop_agreed(step: int) -> bool:
    """Whether all processes are to stop after `step` because one of them has received SIGTERM.

    Every process calls it after every step; elsewhere `preemption` ends them. The coordination service picks a step
    that none has passed; no device is involved. Always False with one process, where `signals.StopOnSigterm` listens.
    """
    return jax.process_count() > 1 and bool(multihost_utils.reached_preemption_sync_point(step))


def raise_if_lost_peer(error: Exception) -> None:
    """Says which process is gone, where a runtime error means that.

    Every process whose collective has failed calls it; whoever does not answer within `ROLL_CALL_S` is gone. If all
    answer, the error is about something else.

    Raises:
      LostPeerError: a process is gone.
      stopping.Stopped: all were told to end.
    """
    preemption.raise_if_stopping()
    text = str(error).lower()
    if jax.process_count() == 1 or not any(word in text for word in LOST_PEER_WORDS):
        return
    if not (missing := _roll_call()):
        return
    print(
        f"{missing}: another process of this run is gone ({str(error).splitlines()[0][:300]}); end the rest and start "
        "all again: run the same command again to continue from the last checkpoint",
        file=sys.stderr,
        flush=True,
    )
    raise LostPeerError from error


def _roll_call() -> str:
    """`process 1, process 3`: those that do not answer; empty if all do."""
    try:
        _service().wait_at_barrier("msanet/roll call", 1000 * ROLL_CALL_S)
    except jax.errors.JaxRuntimeError as error:
        # The service lists the missing tasks, one a line; without an answer the service is gone, and it is process 0's.
        names = re.findall(r"(\d+)$", str(error).partition("task names:")[2], flags=re.MULTILINE)
        return ", ".join(f"process {number}" for number in names or ["0"])
    return ""


def leave(code: int) -> None:
    """Ends a process whose peers are gone at once: the orderly way would wait for them."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exchange(value: dict[str, Any]) -> list[dict[str, Any]]:
    """The JSON objects of all processes, in their order."""
    key, service = f"msanet/exchange/{next(_ORDER)}", _service()
    service.key_value_set(f"{key}/{jax.process_index()}", json.dumps(value))
    return [json.loads(_wait_for(f"{key}/{number}")) for number in range(jax.process_count())]


def _wait_for(key: str) -> str:
    """What another process sets, however long that takes; a dead one ends the wait."""
    while True:
        try:
            return str(_service().blocking_key_value_get(key, PULSE_MS))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


def _service() -> Any:
    """The client of the coordination service, for which JAX has no public name."""
    from jax._src import distributed

    return distributed.global_state.client
