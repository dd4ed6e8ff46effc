"""Scans are read when they are needed and not before: memory never holds more than a batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.readers.stated import Stated
from data_pipeline.scan import Scan, View
from msanet_jax.prediction import sources
from msanet_jax.prediction.files import OutputNames
from msanet_jax.prediction.predict import segment_scans
from msanet_jax.prediction.sources import NamedScan, Naming, Tally, read_sources
from msanet_jax.prediction.summary import Collector
from msanet_jax.trained.model import Model

BATCH = 3


def _model() -> Model:
    return Model(
        probability=lambda fields: np.full(fields.shape, 0.1, np.float32),
        field="thorax",
        image_size_px=64,
        threshold=0.5,
        batch_size=BATCH,
        provenance={},
    )


def _scan(number: int) -> Scan:
    return Scan(np.full((256, 256), 20, np.int32), (2.26, 2.26), View.ANTERIOR, f"patient-{number}", f"{number}")


def test_no_more_than_a_batch_is_drawn_ahead() -> None:
    drawn: list[int] = []

    def endless() -> Iterator[NamedScan]:
        while True:
            drawn.append(len(drawn))
            yield NamedScan(Path(f"{drawn[-1]}.npy"), f"{drawn[-1]}", _scan(drawn[-1]), None)

    results = segment_scans(_model(), endless(), 0.5)
    assert drawn == []
    ahead = []
    for taken in range(1, 3 * BATCH + 1):
        item, _ = next(results)
        assert item.stem == str(taken - 1)
        ahead.append(len(drawn) - taken)
    assert ahead == 3 * [2, 1, 0]  # a batch is drawn for its first scan, then used up


def test_a_file_is_read_when_its_turn_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = sources.read_scans

    def counted(path: Path, stated: Stated | None) -> object:
        read.append(path.name)
        return original(path, stated)

    monkeypatch.setattr(sources, "read_scans", counted)
    for number in range(4):
        np.save(tmp_path / f"{number}.npy", np.random.default_rng(number).poisson(20, (64, 64)))
    scans = read_sources([tmp_path], pytest.fail, naming=Naming(OutputNames()), tally=Tally())
    assert read == []
    for number in range(4):
        assert next(scans).stem == f"{number}"
        assert len(read) == number + 1


def test_pictures_that_are_kept_aside_are_private_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They lie in a folder that the next process removes if this one is killed."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "msanet-999999999-abc").mkdir()
    (tmp_path / "tmp" / "msanet-999999999-abc" / ".lock").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    with Collector(tmp_path, ("sheet",)):
        (kept,) = (tmp_path / "tmp").iterdir()
        assert kept.name.startswith(f"msanet-{os.getpid()}-")
    assert list((tmp_path / "tmp").iterdir()) == []
