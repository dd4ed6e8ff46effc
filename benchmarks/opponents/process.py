"""An opponent in a process of its own, which takes one step when it is told to.

Opponents take turns, so that a machine that slows down slows all of them, but they must not share a process: each step
takes hundreds of megabytes and gives them back, and what the allocator then keeps depends on whose step came before.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

Steps = Mapping[str, Callable[[], object]]
"""Name of a step, such as `train`: a function that does it and waits for its end."""


class Opponent:
    """Starts `make` in a new process; every opponent has its own allocator, threads and compiled programs.

    Args:
      make: builds the steps there; picklable, as is a `functools.partial` of a function of a module.
    """

    def __init__(self, make: Callable[[], Steps]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(other_end, make), daemon=True)
        self._process.start()
        other_end.close()

    def step(self, name: str) -> None:
        """Lets it take one step and waits for its end; the first also waits for the process to be ready.

        Raises:
          RuntimeError: the process has ended; its own message stands above.
        """
        try:
            self._pipe.send(name)
            self._pipe.recv()
        except (EOFError, OSError):
            raise RuntimeError(f"the opponent's process ended in step {name!r}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()


def _serve(pipe: Connection, make: Callable[[], Steps]) -> None:
    steps = make()
    while True:
        try:
            name = pipe.recv()
        except EOFError:
            return
        steps[name]()
        pipe.send(name)
