"""A short run of the fuzzer over every target, and proofs that it sees what it is for."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data_pipeline.errors import RequestError
from tests.fuzz import READ, Finding, Target, fuzz, tally_of
from tests.fuzz.mutators import mutate_bytes
from tests.fuzz.targets import BY_NAME

INPUTS = 40


@pytest.mark.parametrize("name", [name for name in BY_NAME if name != "program"])
def test_damaged_inputs_are_read_or_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    tally = tally_of(fuzz(BY_NAME[name], tmp_path / "in", range(INPUTS // BY_NAME[name].cost), seed=1))
    assert list(tally.findings) == []
    assert sum(tally.outcomes.values()) == INPUTS // BY_NAME[name].cost


def _target(run: Callable[[bytes], bool]) -> Target:
    def make(folder: Path) -> list[Path]:
        (folder / "a").write_bytes(b"sound")
        return [folder / "a"]

    def only_damaged(folder: Path) -> bool:
        content = (folder / "a").read_bytes()
        return content == b"sound" or run(content)

    return Target("own", make, only_damaged, mutate_bytes)


def _raise(error: BaseException) -> bool:
    raise error


def _sleep() -> bool:
    while True:
        pass


@pytest.mark.parametrize(
    ("run", "kind"),
    [
        (lambda content: _raise(KeyError("x")), r"KeyError at test_fuzz.py:\d+"),
        (lambda content: _raise(SystemExit(1)), r"SystemExit at test_fuzz.py:\d+"),
        (lambda content: _raise(RequestError("Traceback (most recent")), "a traceback in a refusal"),
        (lambda content: _raise(RequestError("a: damaged (MemoryError)")), "fills the memory"),
        (lambda content: _raise(RequestError("")), "a refusal without words"),
        (lambda content: _raise(Finding("an empty mask without a line")), "an empty mask without a line"),
        (lambda content: _sleep(), "takes more than 0.2 s"),
    ],
)
def test_what_is_found(run: Callable[[bytes], bool], kind: str, tmp_path: Path) -> None:
    tally = tally_of(fuzz(_target(run), tmp_path, range(3), seconds=0.2))
    ((found, (count, content)),) = tally.findings.items()
    assert re.fullmatch(kind, found)
    assert 1 <= count <= 3 and content != b"sound"


def test_the_same_numbers_are_the_same_inputs(tmp_path: Path) -> None:
    target = _target(lambda content: True)
    all_five, last_two = (list(fuzz(target, tmp_path, numbers)) for numbers in (range(5), range(3, 5)))
    assert all_five[6:] == last_two and [kind for *_, kind in last_two] == ["", READ, "", READ]
    assert len({content for _, content, _ in all_five}) > 1
    assert mutate_bytes(b"sound", random.Random(1)) == mutate_bytes(b"sound", random.Random(1))


CRASHES = """
import os, sys
from tests.fuzz import Target, __main__ as tool
from tests.fuzz.mutators import mutate_bytes

def make(folder):
    (folder / "a").write_bytes(b"sound")
    return [folder / "a"]

def run(folder):
    if len((folder / "a").read_bytes()) != 5:
        os.kill(os.getpid(), 11)
    return True

tool.BY_NAME["crash"] = Target("crash", make, run, mutate_bytes)
if __name__ == "__main__":
    sys.exit(tool.main())
"""


def test_the_command_prints_a_table_and_survives_crashes(tmp_path: Path) -> None:
    (tmp_path / "crashes.py").write_text(CRASHES)
    root = Path(__file__).parents[1]
    command = [
        sys.executable,
        str(tmp_path / "crashes.py"),
        "npy",
        "crash",
        "--inputs=12",
        f"--keep={tmp_path / 'kept'}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment)
    assert done.returncode == 1, done.stdout + done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert rows["npy"][0] == rows["crash"][0] == "6" and rows["npy"][3] == "0"
    assert int(rows["crash"][3]) == 6 - int(rows["crash"][1]) > 0
    assert "x crash: the process ends (exit code -11)" in done.stdout
    assert len((tmp_path / "kept").glob("crash_????????").__next__().read_bytes()) != 5


def test_the_command_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "npy", "--inputs=3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 inputs in" in done.stdout and done.stdout.splitlines()[1].split()[:2] == ["npy", "3"]
