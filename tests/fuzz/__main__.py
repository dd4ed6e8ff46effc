"""Feeds damaged inputs to everything that reads files of others, and prints what must not happen by kind.

Each target runs in processes of its own, which may crash or fill their memory: that is a finding like any other.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz import READ, REFUSED, Tally, Target
from tests.fuzz.processes import in_processes
from tests.fuzz.targets import BY_NAME, TARGETS

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
        for target, outcomes in pool.map(lambda piece: (piece[0], in_processes(*piece, options.seed)), pieces):
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
