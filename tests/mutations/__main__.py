"""Puts the faults in, one at a time, in copies of the working tree, and says which the tests see."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.mutations import REPOSITORY, Mutation, read_mutations
from tests.mutations.tested import run_tests

CAUGHT, SURVIVED, EXPLAINED = "caught", "SURVIVED", "survived as explained"
STALE, WRONG, LATE = "CAUGHT THOUGH EXPLAINED", "WRONG ENTRY", "TIMED OUT"
PASSED, FAILED, NOT_COLLECTED = 0, 1, 2  # pytest's exit codes; the others say that the entry's tests do not exist

# Imported once, by the process from which each fault's process is forked: they take longer than most tests.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["pytest", "orbax.checkpoint", "optax", "flax.linen", "tensorflow", "tensorflow_datasets", "highdicom"]
)


def main() -> int:
    """Runs the chosen faults; 0 if each is caught or explained."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--only", action="append", help="begin of a name, file, module or area; may be repeated")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="copies at work at once (default: cores)")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one fault's tests (default: 600)")
    parser.add_argument("--no-check", action="store_true", help="do not run the tests without a fault first")
    parser.add_argument("--list", action="store_true", help="print the chosen faults and stop")
    options = parser.parse_args()
    mutations = [m for m in read_mutations() if not options.only or any(map(m.is_named_by, options.only))]
    if not mutations:
        parser.error(f"no fault is named by {options.only}")
    if options.list:
        print("\n".join(f"{m.area:10} {m.name:45} {m.file}: {', '.join(m.tests)}" for m in mutations))
        return 0

    worker = threading.local()

    def run(mutation: Mutation) -> str:
        return _outcome(mutation, worker.copy, options.timeout)

    def passes(tests: tuple[str, ...]) -> bool:
        return _pytest(tests, worker.copy, options.timeout) == PASSED

    with tempfile.TemporaryDirectory() as folder:
        pool = ThreadPoolExecutor(options.jobs, initializer=lambda: setattr(worker, "copy", _copy(folder)))
        lists = [] if options.no_check else list(dict.fromkeys(m.tests for m in mutations))
        if failing := [tests for tests, good in zip(lists, pool.map(passes, lists), strict=True) if not good]:
            print("These fail without a fault:\n" + "\n".join(" ".join(tests) for tests in failing))
            return 1
        start, outcomes = time.monotonic(), {}
        futures = {pool.submit(run, mutation): mutation for mutation in mutations}
        for done, future in enumerate(as_completed(futures), 1):
            mutation, outcomes[mutation] = futures[future], future.result()
            left = (time.monotonic() - start) / done * (len(mutations) - done) / 60
            print(f"{done}/{len(mutations)}  {mutation.name}: {outcomes[mutation]}  ({left:.0f} min left)", flush=True)
    return _report(mutations, outcomes)


def _copy(folder: str) -> Path:
    """Copies the files that git tracks, or would, as they are in the working tree, into a new folder in `folder`."""
    copy = Path(tempfile.mkdtemp(dir=folder))
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (REPOSITORY / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, copy / name)
    return copy


def _outcome(mutation: Mutation, copy: Path, timeout: float) -> str:
    """Puts the fault in, runs its tests, and takes it out again."""
    path = copy / mutation.file
    try:
        text = path.read_text()
        faulty = mutation.mutated(text)
    except (ValueError, OSError) as error:
        return f"{WRONG}: {error}"
    try:
        path.write_text(faulty)
        code = _pytest(mutation.tests, copy, timeout)
    except TimeoutError:
        return LATE
    finally:
        path.write_text(text)
    if code == PASSED:
        return EXPLAINED if mutation.survives else SURVIVED
    if code not in (FAILED, NOT_COLLECTED):
        return f"{WRONG}: pytest ends with {code}"
    return STALE if mutation.survives else CAUGHT


def _pytest(tests: tuple[str, ...], copy: Path, timeout: float) -> int:
    """The exit code; a run that is late leaves no process."""
    run = PROCESSES.Process(target=run_tests, args=(tests, copy))
    run.start()
    run.join(timeout)
    if run.exitcode is None:
        os.killpg(run.pid, signal.SIGKILL)
        run.join()
        raise TimeoutError
    return run.exitcode


def _report(mutations: list[Mutation], outcomes: dict[Mutation, str]) -> int:
    """Prints what was not caught and the counts of each area; 1 if a fault survived without a reason."""
    print()
    for mutation in mutations:
        if outcomes[mutation] != CAUGHT:
            print(f"{mutation.area}: {mutation.name}: {outcomes[mutation]} {mutation.survives}")
    for area in dict.fromkeys(m.area for m in mutations):
        counts = Counter(outcomes[m].split(":")[0] for m in mutations if m.area == area)
        print(f"{area}: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()))
    caught = sum(outcome in (CAUGHT, STALE) for outcome in outcomes.values())
    print(f"{caught} of {len(mutations)} caught ({caught / len(mutations):.1%})")
    return int(not set(outcomes.values()) <= {CAUGHT, EXPLAINED})


if __name__ == "__main__":
    sys.exit(main())
