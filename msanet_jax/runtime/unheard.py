"""Ends a process that a signal does not reach.

Python handles signals between two of its instructions. A computation of XLA is one of them, however long it takes, and
a command that is told to stop waits for those of its other threads.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Iterator

GRACE_SECONDS = 10.0
"""For so long after a signal a computation may go on."""

_COMPUTING: dict[object, float] = {}


@contextlib.contextmanager
def computing() -> Iterator[None]:
    """Around what cannot be interrupted and is worth nothing unfinished."""
    call = object()
    _COMPUTING[call] = time.monotonic()
    try:
        yield
    finally:
        del _COMPUTING[call]


@contextlib.contextmanager
def ended_when_unheard() -> Iterator[None]:
    """Ends the process if a computation goes on for `GRACE_SECONDS` after a signal that Python handles.

    Temporary folders are removed first, and processes of `multiprocessing` are ended. The exit code is that of the
    signal. Without effect outside of the main thread, or where somebody else listens to signals in this way.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    former = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    if former != -1:
        signal.set_wakeup_fd(former)
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(reader, over), name="unheard", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(former)
        over.set()
        writer.close()
        thread.join()
        reader.close()


def _watch(reader: socket.socket, over: threading.Event) -> None:
    while received := reader.recv(1):
        came = time.monotonic()
        if over.wait(GRACE_SECONDS):
            return
        if any(began <= came for began in list(_COMPUTING.values())):
            _end(received[0])


def _end(number: int) -> None:
    name = signal.Signals(number).name
    print(f"msanet: stopped by {name} in the middle of a computation", file=sys.stderr, flush=True)
    for child in multiprocessing.active_children():
        child.kill()
    # What Python does at its end, which would wait for the computation; temporary folders are registered there.
    weakref.finalize._exitfunc()  # type: ignore[attr-defined]
    os._exit(128 + number)
