"""Many patients, a process on each core: started and stopped in order."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import jax

from data_pipeline.terminal.progress import progress
from data_pipeline.text import duration

PATIENTS_PER_PROCESS = 10
"""Fewer are not worth the start of a process."""


def in_processes(
    work: Callable[..., None],
    patients: Sequence[tuple[Any, ...]],
    *,
    title: str,
    there: int = 0,
    processes: int | None = None,
) -> None:
    """Does some work for every patient, with a process on each core, while a bar shows the time left.

    Too few patients for two processes are left to the caller, and so is what fails. Stopped early, it ends when the
    patients at work are done. When there are two patients for each process a line says how long all will take.

    Args:
      work: function of a module.
      patients: its arguments for each.
      title: of the bar.
      there: patients that were done before.
      processes: default as many as this process may use cores.
    """
    processes = min(processes or _cores(), len(patients) // PATIENTS_PER_PROCESS)
    if processes < 2:
        return
    context = multiprocessing.get_context("spawn")
    with _sigterm_exits():
        pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start_worker)
        try:
            with _for_workers():
                futures = [pool.submit(work, *arguments) for arguments in patients]
            with progress(title=title, unit="patient", total=there + len(patients), initial=there) as bar:
                warm = 0.0
                for done, _ in enumerate(as_completed(futures), start=1):
                    bar.update()
                    if done == processes:  # the first ones also start and compile
                        warm = time.monotonic()
                    if done == 2 * processes:
                        left = (time.monotonic() - warm) / processes * (len(patients) - done)
                        said = f"{title}: {duration(left)} with {processes} processes; stopped, it goes on later"
                        bar.write(said, file=sys.stderr)
        except BrokenProcessPool:
            return
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _for_workers() -> Iterator[None]:
    """What processes that start here inherit: Ctrl-C is for their parent, and its program is not run again.

    That program may be a script without a guard.
    """
    main, mask = sys.modules["__main__"], signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextlib.contextmanager
def _sigterm_exits() -> Iterator[None]:
    """SIGTERM, where nobody handles it, ends this process in order, with the status that shells give it."""
    handled = signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    if handled or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _start_worker() -> None:
    """A worker computes on the CPU and ends with its parent, however that ends."""
    jax.config.update("jax_platforms", "cpu")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _cores() -> int:
    """Cores that this process may use; where the system does not say (macOS), those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
