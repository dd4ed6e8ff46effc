"""SIGTERM with several processes: when one of them receives it, all of them end, wherever they are.

JAX takes the signal and tells every process through its coordination service. The training loop stops by it at a step
that all agree on (`hosts.stop_agreed`). Everywhere else a thread in each process ends it as SIGTERM ends a single one.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import jax

from data_pipeline.errors import ExitCode
from msanet_jax.runtime.stopping import Stopped

NOTICE = "RECEIVED_PREEMPTION_NOTICE"
"""Under this key the coordination service keeps that a process has received SIGTERM."""

POLL_S = 1.0
"""How often each process asks for it."""

GRACE_S = 8.0
"""How long a process that compiles or waits for others may take to end in an orderly way."""

_STEPPING = threading.Event()
_NOTICED = threading.Event()


def watch(client: Any) -> None:
    """Starts the thread, which lasts until Python ends.

    Args:
      client: of the coordination service.
    """
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(client, over), name="preemption", daemon=True)
    thread.start()

    def end() -> None:
        over.set()
        thread.join()

    atexit.register(end)


@contextlib.contextmanager
def stepping() -> Iterator[None]:
    """In it the loop stops by itself; it has stopped if an exception comes out."""
    _STEPPING.set()
    yield
    _STEPPING.clear()


def raise_if_stopping() -> None:
    """Ends a process whose peers are gone because all were told to end.

    Raises:
      Stopped: that is so.
    """
    if _NOTICED.is_set():
        raise Stopped(signal.SIGTERM)


def _watch(client: Any, over: threading.Event) -> None:
    while not _received(client) or _STEPPING.is_set():
        if over.wait(POLL_S):
            return
    _NOTICED.set()
    _thread.interrupt_main(signal.SIGTERM)  # raises `Stopped` in the main thread, when that runs Python
    if over.wait(GRACE_S):
        return
    print("main.py: stopped by SIGTERM; run the same command again to continue", file=sys.stderr, flush=True)
    jax.distributed.shutdown()
    os._exit(ExitCode.PREEMPTED)


def _received(client: Any) -> bool:
    try:
        return bool(client.key_value_try_get(NOTICE))
    except jax.errors.JaxRuntimeError:  # nobody has, or the service is gone, for which JAX ends the process
        return False
