"""Masks against masks: pairing by name, scores by hand, refusals in one line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msanet_jax import cli


def _save(folder: Path, name: str, mask: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    if name.endswith(".npy"):
        np.save(folder / name, mask)
    else:
        Image.fromarray(mask.astype(np.uint8)).save(folder / name)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """One image with 16 lesion pixels, of which 8 are found beside 8 others, and one whose only lesion is missed."""
    truth, other, found = (np.zeros((32, 32), np.uint8) for _ in range(3))
    truth[4:8, 4:8] = 255
    other[20:22, 20:22] = 3
    found[4:8, 6:10] = 255
    _save(tmp_path / "truth", "a.png", truth)
    _save(tmp_path / "truth", "b_lesions.npy", other)
    _save(tmp_path / "masks", "a_mask.png", found)
    _save(tmp_path / "masks", "b_mask.png", np.zeros((32, 32)))
    _save(tmp_path / "masks", "a_overlay.png", np.full((9, 9), 77))  # as among results of `predict`; belongs to none
    return tmp_path / "masks", tmp_path / "truth"


def _run(masks: Path, truth: Path, *options: str) -> int:
    return cli.main(["evaluate", str(masks), f"--truth={truth}", f"--out={masks.parent / 'scores'}", *options])


def test_scores_by_hand(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """8 hits, 8 false, 8 + 4 missed: DSC 16 / (16 + 8 + 12)."""
    assert _run(*folders, "--pixel-mm=2.5") == 0
    assert "2 masks: DSC 0.444, precision 0.500, recall 0.400; 0.500 of 2 lesions found" in capsys.readouterr().out
    out = folders[0].parent / "scores"
    scores = json.loads((out / "scores.json").read_text())
    assert scores["masks"]["dsc_pooled"] == pytest.approx(4 / 9)
    # The contours are two pixels of 2.5 mm apart where they are farthest.
    with (out / "images.csv").open() as file:
        rows = {row["image_id"]: row for row in csv.DictReader(file)}
    assert (rows["a"]["tp"], rows["a"]["fp"], rows["a"]["fn"], rows["a"]["hd95_mm"]) == ("8", "8", "8", "5.0")
    assert rows["b"]["fn"] == "4"
    assert [line.split(",")[2] for line in (out / "lesions.csv").read_text().splitlines()[1:]] == ["1", "3"]


def test_refusals(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    masks, truth = folders
    for options, said in (((), "say --pixel-mm too"), (("--pixel-mm=0",), "--pixel-mm=0: must be above 0")):
        assert _run(masks, truth, *options) == 2
        assert said in capsys.readouterr().err
    assert _run(masks, truth / "none", "--pixel-mm=2") == 2
    assert "none: no such folder" in capsys.readouterr().err
    _save(truth, "c.png", np.zeros((32, 32)))
    assert _run(masks, truth, "--pixel-mm=2") == 2
    assert "(1 of 3 missing)" in capsys.readouterr().err
    _save(masks, "c.png", np.zeros((16, 32)))
    assert _run(masks, truth, "--pixel-mm=2") == 2
    assert "(16, 32) pixels, the true mask has (32, 32)" in capsys.readouterr().err
    _save(masks, "c_seg.png", np.zeros((32, 32)))
    assert _run(masks, truth, "--pixel-mm=2") == 2
    assert "c_seg.png: has the name of c.png" in capsys.readouterr().err
