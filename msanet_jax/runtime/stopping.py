"""How a command ends early: told to stop, or nobody reads what it says."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

NUMBERS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(BaseException):
    """The process was told to end; what was unpacked or half-written is removed on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number, self.name = number, signal.Signals(number).name


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Turns SIGTERM and SIGHUP into `Stopped`, unless somebody handles them already or asked for them to be ignored."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    own = [number for number in NUMBERS if signal.getsignal(number) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        own = []
    for number in own:
        signal.signal(number, stop)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, own)  # a signal that came during a restart arrives here
        yield
    finally:
        for number in own:
            signal.signal(number, signal.SIG_DFL)


def hold_signals() -> None:
    """Keeps SIGTERM and SIGHUP waiting until `stopping`, also over a restart of this process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)


def say_no_more() -> None:
    """Sends all further output nowhere: its reader is gone, and Python would complain at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
