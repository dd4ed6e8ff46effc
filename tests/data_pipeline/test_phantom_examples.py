"""Patients made by several processes are those made by one."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_pipeline import processes
from data_pipeline.phantom_examples import PatientStore, simulate_in_processes
from data_pipeline.scan import View

PLAN = {4: (View.ANTERIOR,), 5: (View.POSTERIOR,), 7: (View.ANTERIOR, View.POSTERIOR)}


def test_two_processes_make_the_same_patients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PATIENTS_PER_PROCESS", 1)
    together = PatientStore(tmp_path / "together", seed=11, field="thorax")
    simulate_in_processes(together, PLAN, title="simulating", processes=2)
    assert sorted(path.name for path in together.folder.iterdir()) == ["00004.npz", "00005.npz", "00007.npz"]
    alone = PatientStore(tmp_path / "alone", seed=11, field="thorax")
    for index, views in PLAN.items():
        for ours, theirs in zip(together.examples(index, views), alone.examples(index, views), strict=True):
            assert ours.keys() == theirs.keys()
            for key in ours:
                np.testing.assert_array_equal(ours[key], theirs[key])


def test_few_patients_and_finished_ones_start_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any, **options: Any) -> None:
        raise AssertionError(arguments)

    monkeypatch.setattr(processes, "ProcessPoolExecutor", refused)
    store = PatientStore(tmp_path, seed=11, field="thorax")
    simulate_in_processes(store, PLAN, title="simulating", processes=2)
    plan = {index: (View.ANTERIOR,) for index in range(40)}
    for index in range(25):
        store.path(index).write_bytes(b"")
    simulate_in_processes(store, plan, title="simulating", processes=2)  # 15 are left, one process's worth


def test_what_a_process_cannot_do_is_left_to_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PATIENTS_PER_PROCESS", 1)
    (tmp_path / "file").write_text("")
    store = PatientStore(tmp_path / "file" / "folder", seed=11, field="thorax")
    simulate_in_processes(store, PLAN, title="simulating", processes=2)
    with pytest.raises(OSError, match="Not a directory"):
        store.examples(4, PLAN[4])


def test_a_damaged_patient_is_made_again(tmp_path: Path) -> None:
    store = PatientStore(tmp_path, seed=11, field="thorax")
    made = store.examples(4, PLAN[4])
    content = store.path(4).read_bytes()
    no_array = io.BytesIO()
    with zipfile.ZipFile(no_array, "w") as archive:
        archive.writestr("anterior/counts.npy", b"text in its place")
    for damaged in (b"", content[:-40], no_array.getvalue()):
        store.path(4).write_bytes(damaged)
        again = store.examples(4, PLAN[4])
        np.testing.assert_array_equal(made[0]["counts"], again[0]["counts"])
        assert store.path(4).read_bytes() == content


STORE = """
import time
from data_pipeline.phantom_examples import PatientStore

class QuickStore(PatientStore):
    def examples(self, index, views):
        time.sleep(0.2)
        self.folder.mkdir(exist_ok=True)
        self.path(index).write_text(views[0])
"""
SCRIPT = """
from pathlib import Path
with Path("begun").open("a") as file:
    file.write("x")
from data_pipeline.phantom_examples import simulate_in_processes
from quick import QuickStore
store = QuickStore(Path("store"), seed=11, field="thorax")
simulate_in_processes(store, {index: ("anterior",) for index in range(100)}, title="simulating", processes=2)
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_build_keeps_patients_and_leaves_no_process(stop: signal.Signals, tmp_path: Path) -> None:
    """A script without a guard, which the workers do not run again. Ctrl-C reaches all processes of a terminal."""
    (tmp_path / "quick.py").write_text(STORE)
    (tmp_path / "script.py").write_text(SCRIPT)
    build = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("store/*.npz"))) < 6 and time.monotonic() < deadline and build.poll() is None:
        time.sleep(0.05)
    if stop == signal.SIGINT:
        os.killpg(build.pid, stop)
    else:
        build.send_signal(stop)
    said = build.communicate(timeout=60)[1]  # ends when the last process that holds the pipe has ended
    assert build.returncode == (128 + stop if stop == signal.SIGTERM else -stop)
    assert said.count("Traceback") == (stop == signal.SIGINT), said
    assert "leaked" not in said or stop == signal.SIGKILL, said
    assert (tmp_path / "begun").read_text() == "x"
    assert (
        stop == signal.SIGKILL
    ) or "simulating: less than a minute with 2 processes; stopped, it goes on later" in said
    kept = list(tmp_path.glob("store/*.npz"))
    assert 6 <= len(kept) < 100
    assert {path.read_text() for path in kept} == {"anterior"}
