"""The TFDS builder, with a simulator that takes no time."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.msanet import get_config
from data_pipeline import datasets, phantom_examples
from data_pipeline.datasets import load_split
from data_pipeline.errors import RequestError
from data_pipeline.folds import load_splits
from data_pipeline.phantom.priors.lesions import LesionPriors
from data_pipeline.phantom.priors.stress import STRESSES
from data_pipeline.phantom.simulate import SimulatedPatient
from data_pipeline.scan import View
from data_pipeline.splits import SPLITS
from tests.fakes import quick_patient


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []

    def counted(*, seed: int, index: int, views: tuple[View, ...]) -> SimulatedPatient:
        seen.append(index)
        return quick_patient(seed=seed, index=index, views=views)

    monkeypatch.setattr(phantom_examples, "simulate_patient", counted)
    return seen


def test_builds_once_and_loads(calls: list[int], tmp_path: Path) -> None:
    splits = {name: load_split("phantom_bone/tiny", name, str(tmp_path)) for name in SPLITS}
    assert sorted(calls) == list(range(10))
    assert sum(len(split.rows) for split in splits.values()) == 16
    assert {split.version for split in splits.values()} == {"2.1.0"}
    patients = [{row.patient for row in split.rows} for split in splits.values()]
    assert [len(group) for group in patients] == [5, 2, 3]
    assert not patients[0] & patients[1] | patients[0] & patients[2] | patients[1] & patients[2]
    train = splits["train"]
    assert train.counts.shape[1:] == (256, 256)
    assert train.counts.dtype == np.int32
    assert (train.masks["lesions"] == 7).sum() == 36 * len(train.rows)
    assert [row.id for row in train.rows[0].lesion_rows] == [7]  # lesion 8 is not in the crop
    assert not list(tmp_path.glob(".phantom_bone*")), "finished patients are cleared away"


def test_interrupted_build_goes_on(calls: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = phantom_examples.simulate_patient

    def fails_late(*, seed: int, index: int, views: tuple[View, ...]) -> SimulatedPatient:
        if len(calls) == 6:
            raise KeyboardInterrupt
        return quick(seed=seed, index=index, views=views)

    monkeypatch.setattr(phantom_examples, "simulate_patient", fails_late)
    with pytest.raises(KeyboardInterrupt):
        load_split("phantom_bone/tiny", "train", str(tmp_path))
    assert len(calls) == 6
    monkeypatch.setattr(phantom_examples, "simulate_patient", quick)
    broken = load_split("phantom_bone/tiny", "train", str(tmp_path))
    assert sorted(calls) == list(range(10)), "no patient is simulated twice"
    whole = load_split("phantom_bone/tiny", "train", str(tmp_path / "other"))
    np.testing.assert_array_equal(broken.counts, whole.counts)
    assert broken.rows == whole.rows


def test_a_fold_trains_and_tests_on_the_patients_of_both_splits(calls: list[int], tmp_path: Path) -> None:
    data = get_config("smoke").data
    data.update({"dataset": "phantom_bone/tiny", "folds": 4, "fold": 2})
    splits = load_splits(data, str(tmp_path))
    own = {name: load_split("phantom_bone/tiny", name, str(tmp_path)) for name in SPLITS}
    images = {name: {row.image_id for row in split.rows} for name, split in splits.items()}
    assert images["train"] | images["test"] == {row.image_id for name in ("train", "test") for row in own[name].rows}
    assert images["validation"] == {row.image_id for row in own["validation"].rows}
    assert {row.patient for row in splits["test"].rows} != {row.patient for row in own["test"].rows}


def test_hosts_share_the_patients_and_one_builds(
    calls: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without processes: the test's patients are made in this one."""

    def in_this_process(work: Callable[..., None], patients: list[tuple[Any, ...]], **_: Any) -> None:
        for arguments in patients:
            work(*arguments)

    monkeypatch.setattr(phantom_examples, "in_processes", in_this_process)
    command = ["phantom_bone/tiny", f"--data_dir={tmp_path}"]
    for host, own in enumerate(([0, 3, 6, 9], [1, 4, 7], [2, 5, 8])):
        calls.clear()
        assert datasets.main([*command, "--hosts=3", f"--host={host}"]) == 0
        assert calls == own
        assert f"share {host} of 3: {len(own)} patients are there" in capsys.readouterr().out
    assert datasets.main([*command, "--hosts=3", "--host=3"]) == 2
    assert "--host=3 --hosts=3: shares 0 to N - 1 of a PhantomBone set" in capsys.readouterr().err
    calls.clear()
    assert datasets.main(command) == 0
    assert not calls and " is built" in capsys.readouterr().out
    assert datasets.main([*command, "--hosts=3"]) == 0
    assert not calls


def test_unknown_set_and_unwritable_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'phantom_bone/giant' must be one of phantom_bone/full"):
        load_split("phantom_bone/giant", "train", str(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        load_split("phantom_bone/tiny", "train", str(tmp_path / "file" / "data"))


def test_whole_bodies_of_the_same_patients(calls: list[int], tmp_path: Path) -> None:
    thorax = load_split("phantom_bone/tiny", "test", str(tmp_path))
    whole = load_split("phantom_bone/tiny", "test", str(tmp_path), "whole_body")
    assert [row.image_id for row in whole.rows] == [row.image_id for row in thorax.rows]
    assert whole.counts.shape[1:] == (1024, 256)
    assert [row.id for row in whole.rows[0].lesion_rows] == [7]
    assert {"tiny", "tiny_whole_body"} <= {path.name for path in (tmp_path / "phantom_bone").iterdir()}


def test_a_second_build_waits_for_the_first(
    calls: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The second begins while the first is half done; it waits, names the first, and builds nothing."""
    quick, waiting, seconds = phantom_examples.simulate_patient, threading.Event(), []
    monkeypatch.setattr(datasets, "_say_waiting", lambda holder: (seconds.append(holder), waiting.set()))
    second = threading.Thread(
        target=lambda: seconds.append(len(load_split("phantom_bone/tiny", "train", str(tmp_path)).rows))
    )

    def half_way(*, seed: int, index: int, views: tuple[View, ...]) -> SimulatedPatient:
        if len(calls) == 5:
            second.start()
            assert waiting.wait(60)
        return quick(seed=seed, index=index, views=views)

    monkeypatch.setattr(phantom_examples, "simulate_patient", half_way)
    first = load_split("phantom_bone/tiny", "train", str(tmp_path))
    second.join(60)
    assert seconds == [f"process {os.getpid()} on {platform.node()}", len(first.rows)]
    assert sorted(calls) == list(range(10)), "no patient is simulated twice"
    assert not list(tmp_path.glob(".phantom_bone*"))


def test_a_stress_set_shifts_the_population_and_has_test_patients_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shifts = []

    def shifted(*, seed: int, index: int, views: tuple[View, ...], **shift: object) -> SimulatedPatient:
        shifts.append(shift)
        return quick_patient(seed=seed, index=index, views=views)

    monkeypatch.setattr(phantom_examples, "simulate_patient", shifted)
    monkeypatch.setattr(datasets, "simulate_in_processes", lambda store, plan, *, title: None)
    assert len(load_split("phantom_bone/stress_posture", "test", str(tmp_path)).rows) == 30
    assert shifts == [{"priors": LesionPriors(), "changed": STRESSES["posture"].patient}] * 30
    with pytest.raises(RequestError, match=r"stress_posture has no train patients, only test; .*--on=stress"):
        load_split("phantom_bone/stress_posture", "train", str(tmp_path))
    with pytest.raises(RequestError, match=r"shows the thorax, not data\.field=whole_body"):
        load_split("phantom_bone/stress_posture", "test", str(tmp_path), "whole_body")


def test_a_built_set_is_as_it_was_built_or_refused(calls: list[int], tmp_path: Path) -> None:
    """A bit in every file, and a file that is missing; the patients of an unfinished build are made again."""
    whole = load_split("phantom_bone/tiny", "train", str(tmp_path))
    (folder,) = (tmp_path / "phantom_bone" / "tiny").iterdir()
    random = np.random.default_rng(0)
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[random.integers(len(content))] ^= 1 << int(random.integers(8))
        path.write_bytes(flipped)
        with pytest.raises(RequestError, match=r"(is not as it was built; delete|is damaged \(.*\); delete)"):
            load_split("phantom_bone/tiny", "train", str(tmp_path))
        path.write_bytes(content)
    (folder / "digests.json").unlink()  # as of an older version
    again = load_split("phantom_bone/tiny", "train", str(tmp_path))
    assert (folder / "digests.json").exists()
    np.testing.assert_array_equal(again.counts, whole.counts)
    (folder / "features.json").unlink()
    with pytest.raises(RequestError, match=r"features\.json: is not as it was built|is damaged"):
        load_split("phantom_bone/tiny", "train", str(tmp_path))


def test_a_damaged_patient_is_made_again(calls: list[int], tmp_path: Path) -> None:
    store = phantom_examples.PatientStore(tmp_path, seed=0, field="thorax")
    made = store.examples(3, (View.ANTERIOR,))
    for damage in (b"", b"PK\x03\x04", store.path(3).read_bytes()[:-50]):
        store.path(3).write_bytes(damage)
        (again,) = store.examples(3, (View.ANTERIOR,))
        np.testing.assert_array_equal(again["counts"], made[0]["counts"])
    assert calls == [3, 3, 3, 3]


def test_a_patient_of_other_views_is_made_again(calls: list[int], tmp_path: Path) -> None:
    """What an unfinished build left that planned the other view of the patient."""
    store = phantom_examples.PatientStore(tmp_path, seed=0, field="thorax")
    store.examples(3, (View.ANTERIOR,))
    (again,) = store.examples(3, (View.POSTERIOR,))
    assert again["view"] == "posterior" and calls == [3, 3]
    assert str(store.examples(3, (View.POSTERIOR,))[0]["view"]) == "posterior" and calls == [3, 3]
