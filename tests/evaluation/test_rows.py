"""Rows that lie on disk are those that lie in memory."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
from msgspec import UNSET

from msanet_jax.evaluation import rows
from msanet_jax.evaluation.rows import Rows


@pytest.mark.parametrize("memory", [1 << 20, 10])
def test_rows_come_back(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MEMORY_BYTES", memory)
    written = [{"number": number, "text": "é" * number, "none": None, "unset": UNSET} for number in range(50)]
    kept: Rows[object] = Rows()
    for row in written:
        kept.append(row)
        assert kept[0] == written[0]  # reading between writing moves nothing
    assert len(kept) == 50
    assert list(kept) == written == kept[:]
    assert (kept[-1], kept[7], kept[3:9:2]) == (written[-1], written[7], written[3:9:2])
    assert kept[-1]["unset"] is UNSET  # type: ignore[index]
    assert list(zip(kept, kept, strict=True))[20] == (written[20], written[20])
    assert repr(kept) == repr(written)
    with pytest.raises(IndexError):
        kept[50]


def test_arrays_come_back_and_the_file_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(rows, "MEMORY_BYTES", 10)
    kept: Rows[np.ndarray] = Rows()
    for number in range(5):
        kept.append(np.full((2, 3), number, np.uint32))
    assert np.array(kept[1:4]).sum(axis=(1, 2)).tolist() == [6, 12, 18]
    assert list(tmp_path.iterdir()) == []  # nobody else can open it
    del kept
    gc.collect()
