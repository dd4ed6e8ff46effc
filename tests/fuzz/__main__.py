"""Feeds damaged inputs to everything that reads files of others, and prints what must not happen by kind.

Each target runs in processes of its own, which may crash or fill their memory: that is a finding like any other.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import logging
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

from tests.fuzz import READ, REFUSED, Tally, Target, fuzz
from tests.fuzz.targets import BY_NAME, TARGETS

MEMORY_BYTES = 2 << 30
"""That inputs may take on top of what a process has when it starts."""

_CHUNK = 2000
"""Inputs of one process: what leaks is seen as memory, and a crash costs little."""


def main() -> int:
    """Runs the chosen targets; 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(BY_NAME)} (default: all)")
    parser.add_argument("--inputs", type=int, default=2000, help="over all targets (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="other seeds give other inputs (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once (default: 1)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write the first input of every kind here")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(BY_NAME):
        parser.error(f"no target is called {', '.join(sorted(unknown))}")
    chosen = [BY_NAME[name] for name in options.targets] or list(TARGETS)
    begin = time.monotonic()
    pieces = [
        (target, range(start, min(start + _CHUNK, inputs)))
        for target, inputs in _shares(chosen, options.inputs).items()
        for start in range(0, inputs, _CHUNK)
    ]
    tallies = {target: Tally() for target in chosen}
    with ThreadPoolExecutor(options.jobs) as pool:
        for target, outcomes in pool.map(lambda piece: (piece[0], _in_processes(*piece, options.seed)), pieces):
            for kind, content in outcomes:
                tallies[target].add(kind, content)
    found = _print(tallies, time.monotonic() - begin)
    if options.keep is not None:
        _keep(tallies, options.keep)
    return int(found > 0)


def _shares(targets: Sequence[Target], inputs: int) -> dict[Target, int]:
    """Inputs of each target, by its cost; one at least."""
    whole = sum(1 / target.cost for target in targets)
    return {target: max(round(inputs / target.cost / whole), 1) for target in targets}


def _in_processes(target: Target, numbers: range, seed: int) -> list[tuple[str, bytes]]:
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


def _print(tallies: dict[Target, Tally], seconds: float) -> int:
    """A row for each target, and the kinds of findings; how many there are."""
    print(f"{'target':18}{'inputs':>9}{'read':>9}{'refused':>9}{'findings':>9}")
    for target, tally in tallies.items():
        outcomes = [tally.outcomes[READ], tally.outcomes[REFUSED], tally.found]
        print(f"{target.name:18}{sum(outcomes):9}" + "".join(f"{number:9}" for number in outcomes))
    total = sum(sum(tally.outcomes.values()) + tally.found for tally in tallies.values())
    kinds = [(t.name, kind, count) for t, tally in tallies.items() for kind, (count, _) in tally.findings.items()]
    for name, kind, count in sorted(kinds, key=lambda row: -row[2]):
        print(f"{count:6} x {name}: {kind}")
    print(f"{total} inputs in {seconds:.0f} s, {len(kinds)} kind(s) of findings")
    return len(kinds)


def _keep(tallies: dict[Target, Tally], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for target, tally in tallies.items():
        for kind, (_, content) in tally.findings.items():
            name = f"{target.name}_{hashlib.sha256(kind.encode()).hexdigest()[:8]}"
            (folder / name).write_bytes(content)
            (folder / f"{name}.txt").write_text(f"{kind}\n")


if __name__ == "__main__":
    sys.exit(main())
