"""How a command ends early: told to stop, or nobody reads what it says."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

NUMBERS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_AGAIN_SECONDS = 0.02
CLEANING_SECONDS = 10.0
"""For so long after the first signal others are ignored: they would end the removal of what it left half done."""


class Stopped(BaseException):
    """The process was told to end; what was unpacked or half-written is removed on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number, self.name = number, signal.Signals(number).name


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Turns SIGTERM and SIGHUP into `Stopped`, unless somebody handles them already or asked for them to be ignored.

    What follows the first signal within `CLEANING_SECONDS` changes nothing, a second Ctrl-C included. Python drops what
    is raised in a finalizer or a callback of its garbage collector. A signal that arrives in one is sent again.
    """
    begun: float | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal begun
        if begun is not None and time.monotonic() - begun < CLEANING_SECONDS:
            return
        begun = time.monotonic()
        raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)

    def unraisable(dropped: Any) -> None:
        nonlocal begun
        if isinstance(dropped.exc_value, Stopped | KeyboardInterrupt):
            number = dropped.exc_value.number if isinstance(dropped.exc_value, Stopped) else signal.SIGINT
            begun = None
            # From a thread and a little later: in here it would be dropped again.
            threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number)).start()
        else:
            former(dropped)

    unhandled = {**dict.fromkeys(NUMBERS, signal.SIG_DFL), signal.SIGINT: signal.default_int_handler}
    own = {number: handler for number, handler in unhandled.items() if signal.getsignal(number) == handler}
    if threading.current_thread() is not threading.main_thread():
        own = {}
    former, sys.unraisablehook = sys.unraisablehook, unraisable
    for number in own:
        signal.signal(number, stop)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, own)  # a signal that came during a restart arrives here
        yield
    finally:
        for number, handler in own.items():
            signal.signal(number, handler)
        sys.unraisablehook = former


def hold_signals() -> None:
    """Keeps SIGTERM and SIGHUP waiting until `stopping`, also over a restart of this process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)


def say_no_more() -> None:
    """Sends all further output nowhere: its reader is gone, and Python would complain at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
