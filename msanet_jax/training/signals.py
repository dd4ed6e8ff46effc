"""SIGTERM asks a training to save and stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from types import FrameType
from typing import Any

import jax

from msanet_jax.runtime.preemption import stepping


class Preempted(Exception):  # noqa: N818 - an event, not an error
    """SIGTERM arrived; the state is saved; the same command continues from it."""


class StopOnSigterm:
    """Context in which SIGTERM sets `requested` instead of killing the process.

    With several processes `jax.distributed` takes the signal, so that all stop at the same step: `hosts.stop_agreed`.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._together = contextlib.ExitStack()

    @property
    def requested(self) -> bool:
        """Whether SIGTERM arrived."""
        return self._event.is_set()

    def __enter__(self) -> StopOnSigterm:
        """Installs the handler; signals reach the main thread only."""
        self._installed = threading.current_thread() is threading.main_thread() and jax.process_count() == 1
        if self._installed:
            self._previous = signal.signal(signal.SIGTERM, self._handle)
        elif jax.process_count() > 1:
            self._together.enter_context(stepping())
        return self

    def __exit__(self, *error: Any) -> None:
        """Restores the handler that was there before."""
        self._together.__exit__(*error)
        if self._installed:
            signal.signal(signal.SIGTERM, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._event.set()
