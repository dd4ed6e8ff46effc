"""The one kind of error whose text is meant for the person who typed the command."""

from __future__ import annotations


class RequestError(ValueError):
    """A request that cannot be carried out: one line with what is wrong, where, and what to do.

    The commands print it and exit with 2; every other exception is a fault of the program and keeps its traceback.
    """
