"""Patients made by several processes are those made by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_pipeline import phantom_examples
from data_pipeline.phantom_examples import PatientStore, simulate_in_processes
from data_pipeline.scan import View

PLAN = {4: (View.ANTERIOR,), 5: (View.POSTERIOR,), 7: (View.ANTERIOR, View.POSTERIOR)}


def test_two_processes_make_the_same_patients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phantom_examples, "PATIENTS_PER_PROCESS", 1)
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
    def refused(task: str) -> None:
        raise AssertionError(task)

    monkeypatch.setattr(phantom_examples, "_started", refused)
    store = PatientStore(tmp_path, seed=11, field="thorax")
    simulate_in_processes(store, PLAN, title="simulating", processes=2)
    plan = {index: (View.ANTERIOR,) for index in range(40)}
    for index in range(25):
        store.path(index).write_bytes(b"")
    simulate_in_processes(store, plan, title="simulating", processes=2)  # 15 are left, one process's worth


def test_what_a_process_cannot_do_is_left_to_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phantom_examples, "PATIENTS_PER_PROCESS", 1)
    (tmp_path / "file").write_text("")
    store = PatientStore(tmp_path / "file" / "folder", seed=11, field="thorax")
    simulate_in_processes(store, PLAN, title="simulating", processes=2)
    with pytest.raises(OSError, match="Not a directory"):
        store.examples(4, PLAN[4])
