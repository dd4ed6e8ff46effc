"""Inputs in processes of their own: one that crashes or fills its memory is a finding like any other."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import resource
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

from tests.fuzz import READ, REFUSED, Target, fuzz
from tests.fuzz.targets import BY_NAME

MEMORY_BYTES = 2 << 30
"""That inputs may take on top of what a process has when it starts."""


def in_processes(target: Target, numbers: range, seed: int) -> list[tuple[str, bytes]]:
    """Outcomes of inputs; a process that dies is a finding, and the next goes on behind its input."""
    context = multiprocessing.get_context("spawn")
    outcomes: list[tuple[str, bytes]] = []
    start = numbers.start
    while start < numbers.stop:
        here, there = context.Pipe(duplex=False)
        worker = context.Process(target=_work, args=(target.name, range(start, numbers.stop), seed, there))
        worker.start()
        there.close()
        running = b""
        with contextlib.suppress(EOFError):
            while True:
                number, running, kind = here.recv()
                if kind:
                    outcomes.append((kind, b"" if kind in (READ, REFUSED) else running))
                    start, running = number + 1, b""
        worker.join()
        if worker.exitcode:
            outcomes.append((f"the process ends (exit code {worker.exitcode})", running))
            start += 1
    return outcomes


def _work(name: str, numbers: range, seed: int, pipe: Connection) -> None:
    logging.disable(logging.WARNING)
    with contextlib.suppress(OSError, ValueError):
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY_BYTES,) * 2)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        folder = Path(scratch) / "in"
        folder.mkdir()
        (Path(scratch) / "tmp").mkdir()
        tempfile.tempdir = str(Path(scratch) / "tmp")
        for event in fuzz(BY_NAME[name], folder, numbers, seed=seed):
            pipe.send(event)
