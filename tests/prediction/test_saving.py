"""Drawing and writing in other processes: the same files in the same order, and no scan lost to any process."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import data_store
import numpy as np
import pydicom
import pytest

from data_pipeline.files import whole_files
from data_pipeline.scan import Scan, View
from data_pipeline.windows import ThoraxBox, Window
from msanet_jax.prediction import saving
from msanet_jax.prediction.files import file_names
from msanet_jax.prediction.predict import Outcome, Request, predict_with
from msanet_jax.prediction.saving import FILES_MIN, Job, Saved, save_scans, worth_it
from msanet_jax.prediction.segmentation import Segmentation
from msanet_jax.trained.model import Model
from tests.fakes import scan_record

FORMATS = ("png", "npy", "overlay", "csv", "seg", "sheet")
REAL_SCAN = Path(data_store.__file__).parent / "data" / "JPEG-LL.dcm"


def _job(folder: Path, number: int, **options: Any) -> Job:
    counts = np.full((64, 64), 20, np.int32)
    scan = Scan(counts, (2.26, 2.26), View.ANTERIOR, f"patient-{number}", f"{number}.npy")
    probability = np.zeros((64, 64), np.float32)
    box, window = ThoraxBox(0, 0, 64), Window(0, 0, 64, 64)
    result = Segmentation(scan, box, window, probability, probability > 0.5, scan_record())
    return Job(folder, f"{number}", result, ("png", "csv"), **options)


class _Deadly:
    """Ends the process that unpacks it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (3,)


def _predicted(sources: list[Path], out: Path, processes: int, key: Path) -> Outcome:
    model = Model(
        probability=lambda fields: np.where(fields > 100, 0.9, 0.1).astype(np.float32),
        field="thorax",
        image_size_px=256,
        threshold=0.5,
        batch_size=2,
        provenance={"checkpoint": "fake", "step": 7, "dataset": "phantom_bone/tiny", "config_sha256": "0"},
    )
    request = Request(
        formats=FORMATS, anonymous=True, key_file=key, patient_from="file", progress=False, processes=processes
    )
    return predict_with(model, sources, out=out, request=request)


def test_the_files_are_the_same_from_one_and_from_two_processes(tmp_path: Path) -> None:
    """Also what depends on the key of the pseudonyms, which only this process was told."""
    (key := tmp_path / "key").write_text("a secret of this site")
    random, sources = np.random.default_rng(0), [REAL_SCAN]
    for number in range(3):
        sources.append(tmp_path / f"{number}.npy")
        np.save(sources[-1], random.poisson(np.where(random.random((256, 256)) < 0.01, 200, 20)))
    (bad := tmp_path / "letter.dcm").write_text("not a scan")
    sources.insert(3, bad)
    outcomes = [_predicted(sources, tmp_path / f"{processes}", processes, key) for processes in (1, 2)]
    assert [len(outcome.written) for outcome in outcomes] == [4, 4]
    assert dataclasses.replace(outcomes[1], index=outcomes[0].index) == outcomes[0]
    assert outcomes[0].failed == (bad,)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "12")
    runs = [json.loads(files.pop("msanet_run.json")) for files in (one, two)]
    assert runs[0].pop("seconds") > 0 < runs[1].pop("seconds")
    assert runs[0] == runs[1]
    (name,) = {name for name in one if name.endswith("_seg.dcm")}
    segmented = [pydicom.dcmread(io.BytesIO(files.pop(name))) for files in (one, two)]
    assert segmented[0].SOPInstanceUID == segmented[1].SOPInstanceUID  # keyed; the files also hold the time
    assert segmented[0].PixelData == segmented[1].PixelData
    assert one == two


def test_what_becomes_of_scans_is_told_in_their_order(tmp_path: Path) -> None:
    """One cannot be written, one ends the processes: this process writes it, and those after it."""
    drawn: list[int] = []

    def jobs() -> Iterator[Job]:
        for number in range(12):
            drawn.append(number)
            folder = tmp_path / "absent" if number == 1 else tmp_path
            yield _job(folder, number, header=_Deadly() if number == 9 else None)

    told = []
    for number, saved in enumerate(save_scans(jobs(), lambda: 2)):
        assert len(drawn) - number <= 3 * 2 + 1
        told.append(saved)
    assert len(told) == 12
    assert isinstance(failed := told.pop(1), OSError)
    assert failed.errno == errno.ENOENT
    written = [saved.files for saved in told if isinstance(saved, Saved)]
    stems = [str(number) for number in range(12) if number != 1]
    assert written == [tuple(file_names(stem, ("png", "csv"))) for stem in stems]
    assert {path.name for path in tmp_path.iterdir()} == {name for names in written for name in names}


def test_a_process_that_is_told_to_stop_ends_when_its_scan_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(job: Job) -> Saved:
        with whole_files(job.folder, ["a"]) as beside:
            signal.raise_signal(signal.SIGTERM)
            (beside / "a").write_text("whole")
        return Saved(("a",), (), None)

    def ended(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(saving, "save_scan", interrupted)
    monkeypatch.setattr(os, "_exit", ended)
    with pytest.raises(SystemExit) as end:
        saving._save_in_worker(None, _job(tmp_path, 0))
    assert end.value.code == 1
    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_few_files_are_not_worth_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "usable_cores", lambda: 4)
    assert [worth_it(files) for files in (1, FILES_MIN - 1, FILES_MIN, 10_000)] == [1, 1, 4, 4]
    monkeypatch.setattr(saving, "usable_cores", lambda: 64)
    assert worth_it(10_000) == 8
