"""Work in other processes, started and stopped in order; many patients, a process on each core."""

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
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

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
    with _sigterm_exits(), contextlib.suppress(BrokenProcessPool), workers(processes, _compute_on_cpu) as submit:
        futures = [submit(work, *arguments) for arguments in patients]
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


@contextlib.contextmanager
def workers(processes: int, begin: Callable[[], None] | None = None) -> Iterator[Callable[..., Future[Any]]]:
    """Yields `submit(work, *arguments)`, which does work in one of several processes and returns its future.

    They end with this process, however that ends, and Ctrl-C is for this process alone. At the end, work that has begun
    is finished, and other work is dropped.

    Args:
      processes: at most; each starts when there is work for it.
      begin: function of a module that each calls first.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start_worker, initargs=(begin,))

    def submit(work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        with _for_workers():
            return pool.submit(work, *arguments)

    try:
        yield submit
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


def _compute_on_cpu() -> None:
    import jax  # not every worker needs it

    jax.config.update("jax_platforms", "cpu")


def _start_worker(begin: Callable[[], None] | None) -> None:
    if begin is not None:
        begin()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _cores() -> int:
    """Cores that this process may use; where the system does not say (macOS), those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
