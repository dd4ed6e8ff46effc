"""Damaged inputs in large numbers: every one is read, or refused in one line, within its time and memory.

`python -m tests.fuzz` runs it; `targets.py` lists what is fuzzed, `mutators.py` how inputs are damaged.
"""

from __future__ import annotations

import dataclasses
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType

from data_pipeline.errors import RequestError

READ, REFUSED = "read", "refused"
MAX_SECONDS = 10.0
"""Of one input of a few kilobytes; sound ones take milliseconds."""


class Finding(Exception):  # noqa: N818 - what was found is no error of the fuzzer
    """Something that must not happen; the text is its kind."""


@dataclasses.dataclass(frozen=True)
class Target:
    """Something that takes files of strangers.

    Attributes:
      name: for the command line.
      make: writes the sound files into an empty folder and gives those that are damaged, one at a time.
      run: takes the folder; returns whether everything was read, raises RequestError or `Finding`.
      mutate: damages the bytes of a file.
      cost: of an input, relative to others: its share of the inputs is divided by it.
    """

    name: str
    make: Callable[[Path], list[Path]]
    run: Callable[[Path], bool]
    mutate: Callable[[bytes, random.Random], bytes]
    cost: int = 1


@dataclasses.dataclass
class Tally:
    """Outcomes of a target: how many inputs had each, and by kind of finding the first input that showed it."""

    outcomes: Counter[str] = dataclasses.field(default_factory=Counter)
    findings: dict[str, tuple[int, bytes]] = dataclasses.field(default_factory=dict)

    def add(self, kind: str, content: bytes) -> None:
        """Counts an outcome."""
        if kind in (READ, REFUSED):
            self.outcomes[kind] += 1
        else:
            count, first = self.findings.get(kind, (0, content))
            self.findings[kind] = (count + 1, first)

    @property
    def found(self) -> int:
        """Number of inputs with a finding."""
        return sum(count for count, _ in self.findings.values())


def fuzz(
    target: Target, folder: Path, numbers: range, *, seed: int = 0, seconds: float = MAX_SECONDS
) -> Iterator[tuple[int, bytes, str]]:
    """Runs a target on damaged inputs; input n depends on seed, target and n alone.

    Args:
      target: what to fuzz.
      folder: empty; the files are written there.
      numbers: of the inputs.
      seed: of them all.
      seconds: one input may take.

    Yields:
      Each input twice, with its number: before it runs with an empty kind, afterwards with its outcome.
    """
    victims = target.make(folder)
    sound = {victim: victim.read_bytes() for victim in victims}
    assert target.run(folder), f"{target.name}: the sound input is refused"
    for number in numbers:
        draw = random.Random(f"{seed} {target.name} {number}")
        victim = draw.choice(victims)
        content = target.mutate(sound[victim], draw)
        yield number, content, ""
        victim.write_bytes(content)
        kind = _outcome(target, folder, seconds)
        victim.write_bytes(sound[victim])
        yield number, content, kind


def tally_of(events: Iterable[tuple[int, bytes, str]]) -> Tally:
    """What `fuzz` yields, counted."""
    tally = Tally()
    for _, content, kind in events:
        if kind:
            tally.add(kind, content)
    return tally


class _Late(BaseException):
    """An input took too long."""


def _outcome(target: Target, folder: Path, seconds: float) -> str:
    """`READ`, `REFUSED`, or the kind of a finding."""

    def late(number: int, frame: FrameType | None) -> None:
        raise _Late

    handler = signal.signal(signal.SIGVTALRM, late)  # readers use the alarm of wall time themselves
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, 1.0)
    begin = time.process_time()
    try:
        result = READ if target.run(folder) else REFUSED
    except RequestError as error:
        result = check_line(str(error)) or REFUSED
    except Finding as finding:
        result = str(finding)
    except _Late:
        result = f"takes more than {seconds:g} s"
    except BaseException as error:  # whatever it is, it is a finding
        result = f"{type(error).__name__} at {_place(error)}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, handler)
    if time.process_time() - begin > seconds and result in (READ, REFUSED):
        return f"takes more than {seconds:g} s"
    return result


def check_line(line: str) -> str:
    """The kind of finding that a line of a refusal is; empty if it is a good line.

    Commands print a refusal by `text.as_line`: what it quotes stays in the line, whatever its length.
    """
    if "Traceback (most" in line:
        return "a traceback in a refusal"
    if "MemoryError" in line:
        return "fills the memory"
    return "" if line.strip() else "a refusal without words"


def _place(error: BaseException) -> str:
    """File and line of the project that an exception passed last."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/data_pipeline/" in frame.filename or "/msanet_jax/" in frame.filename]
    last = (own or frames)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"
