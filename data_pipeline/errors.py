"""The one kind of error whose text is meant for the person who typed the command, and the commands' exit codes."""

from __future__ import annotations

import enum


class RequestError(ValueError):
    """A request that cannot be carried out: one line with what is wrong, where, and what to do.

    The commands print it and exit with `ExitCode.REFUSED`; every other exception is a fault of the program and keeps
    its traceback.
    """


class ExitCode(enum.IntEnum):
    """How a command ended."""

    DONE = 0
    SOME_FAILED = 1
    """Problems were found, or some files or runs failed; the rest is done."""
    REFUSED = 2
    """Nothing was done; one line says why."""
    LOST_PEER = 69
    """Another process of a distributed run is gone."""
    PREEMPTED = 75
    """Stopped by SIGTERM; the same command continues."""
    INTERRUPTED = 130
    """Ctrl-C."""
    UNREAD = 141
    """Nobody reads the output any more: a closed pipe."""
