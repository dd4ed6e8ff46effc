"""The benchmarks' measuring functions at tiny sizes: what they report, and what they reckon from it by hand."""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from benchmarks import growth, larger_than_memory, pipeline
from benchmarks.extras import require
from benchmarks.measure_step import measure as measure_step
from benchmarks.opponents.process import Opponent
from benchmarks.streaming import Template, as_model, load, stream, write_scans
from data_pipeline.batches import train_batches
from data_pipeline.phantom_examples import SET_MASKS
from data_pipeline.scan import Scan, View
from tests.fakes import fake_scans, fake_split, stored_scans

SIDE = 16
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def quick_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The opponents' processes compile as quickly and badly as the tests do."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")


@pytest.fixture
def config(small_config: ConfigDict) -> ConfigDict:
    small_config.generator.width = small_config.discriminator.width = 2
    small_config.generator.depth = small_config.discriminator.depth = small_config.adversary.pyramid_levels = 1
    small_config.train.batch_size = small_config.evaluate.batch_size = 4
    return small_config


@pytest.fixture
def templates() -> list[Template]:
    """Two views of a body with a hot disc, 256 x 256."""
    row, column = np.indices((256, 256))
    expected = np.where((row - 128) ** 2 + (column - 128) ** 2 <= 144, 600.0, 20.0).astype(np.float32)
    counts = expected.astype(np.int32)
    return [
        Template(
            Scan(counts, (2.26, 2.26), view, "phantom-0", "fake"),
            expected,
            {"sex": "female", "height_mm": 1650.0, "camera": "ge"},
        )
        for view in (View.ANTERIOR, View.POSTERIOR)
    ]


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_comparison_with_torch(config: ConfigDict) -> None:
    pytest.importorskip("torch")
    from benchmarks.against_torch import measure_setting

    row = measure_setting(config, repeats=2, with_compiled=False, peak_gflops=100.0)
    low, high = row["train_ratio_spread"]
    assert 0.0 < low <= row["train_ratio"] <= high
    assert row["inference_ratio"] > 0.0
    assert row["train_opponent"] == row["inference_opponent"] == "torch"
    assert set(row["train_ms"]) == {"jax", "torch", "jax, generator only"}
    assert row["train_gflop"] > row["inference_gflop"] > 0.0
    for side in ("jax", "torch"):  # the count over the time over the peak
        expected = row["train_gflop"] / (row["train_ms"][side] / 1000.0) / 100.0
        assert row["train_share_of_gemm"][side] == pytest.approx(expected)


def test_help_does_without_what_is_not_installed(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(prog="against_torch")
    require(parser, "json", extra="bench")
    with pytest.raises(SystemExit, match="2"):
        require(parser, "json", "nowhere_to_be_found", extra="bench")
    assert "not installed: nowhere_to_be_found; pip install -e '.[bench]'" in capsys.readouterr().err
    code = "import sys, benchmarks.against_torch, benchmarks.predict; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("configs/absent.py", "no such recipe"),
        ("README.md", "not a Python file"),
        ("configs/msanet.py:npu", "unknown variant npu"),
    ],
)
def test_a_recipe_that_does_not_exist(recipe: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        pipeline.load_recipe(recipe)
    assert f"--config={recipe}: " in (error := capsys.readouterr().err)
    assert said in error


def test_an_opponent_that_fails_is_not_waited_for() -> None:
    with Opponent(dict) as opponent, pytest.raises(RuntimeError, match="ended in step 'train'"):
        opponent.step("train")  # it has no steps at all


def test_operations_of_a_matrix_product() -> None:
    pytest.importorskip("torch")
    from benchmarks.peak import compiled_gflop, gemm_gflops, share_of_peak

    matrix = np.ones((64, 64), np.float32)
    assert compiled_gflop(lambda a: a @ a, matrix) == pytest.approx(2 * 64**3 / 1e9)
    assert share_of_peak(2.0, 10.0, 400.0) == pytest.approx(0.5)
    assert gemm_gflops(64) > 0.0


def test_comparison_with_monai() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("monai")
    from benchmarks.opponents import monai_unet

    row = monai_unet.measure(repeats=1, side_px=32, batch=4, width=2)
    assert row["setting"] == "U-Net, width 2, 32 px, batch 4"
    assert row["train_ratio"] > 0.0
    assert row["inference_ratio"] > 0.0
    assert row["our_parameters"] > 0 < row["monai_parameters"]


def test_a_set_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images written five times over, in files of two; every image has its own name, two are a patient."""
    monkeypatch.setattr(larger_than_memory, "IMAGES_PER_FILE", 2)
    scans = fake_scans(2)
    masks = {name: scans.masks["lesions"] for name in SET_MASKS}
    records = stored_scans(dataclasses.replace(scans, masks=masks)).records
    written = larger_than_memory.write_set(tmp_path, records, 5)
    assert written["gib_on_disk"] == sum(path.stat().st_size for path in tmp_path.iterdir()) / 2**30
    assert len(list(tmp_path.iterdir())) == 3
    stored = larger_than_memory.open_set(tmp_path, 16)
    assert [row.image_id for row in map(stored.row, range(5))] == [f"image-{number}" for number in range(5)]
    assert stored.patients() == ["patient-0", "patient-0", "patient-1", "patient-1", "patient-2"]
    for number in range(5):
        np.testing.assert_array_equal(stored.pixels(number), scans.counts[number % 2])
    result = larger_than_memory.measure("configs/msanet.py:smoke", tmp_path, 16, steps=0, scored=3)
    assert (result["scored"], result["scored_from"]) == (3, "memory")
    assert result["score_peak_mib"] >= result["opened_peak_mib"] > 0.0
    larger_than_memory.draw([{"images": 5, **result}], tmp_path / "memory.png")
    found = larger_than_memory.measure_import(3, records, 16, tmp_path)
    assert (found["scans"], found["files"]) == (3, 6)
    assert found["peak_mib"] > 10.0
    assert _size(tmp_path / "memory.png")[0] > 500


def test_pipeline(config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "STRETCH_STEPS", 2)
    monkeypatch.setattr(pipeline, "WARMUP_STEPS", 1)
    config.adversary.enabled = False
    split, started, ended = fake_split(8, side=SIDE, size_px=config.data.image_size_px), [], []

    def batches(number: int) -> Generator[pipeline.Batch, None, None]:
        started.append(number)
        try:
            yield from train_batches(
                split,
                augment=config.augment,
                image_size_px=split.counts.shape[2],
                batch_size=4,
                seed=0,
                first_batch=number,
            )
        finally:
            ended.append(number)

    result = pipeline.measure(config, batches, steps=20, pairs=2)
    # The cached batch, the rate, two fed stretches on new batches each, the memory; none is left running.
    assert started == ended == [0, 0, 0, 3, 0]
    rates = result["pipeline_batches_per_second"], result["iterations_per_second"]
    assert result["pipeline_headroom"] == pytest.approx(rates[0] / rates[1])
    low, high = result["pipeline_cost_spread"]
    assert -1.0 < low <= result["pipeline_cost"] <= high
    assert result["memory_steps"] == [0, 10, 20]
    assert len(result["memory_mib"]) == 3
    assert min(result["memory_mib"]) > 100.0
    pipeline.draw(result, tmp_path / "memory.png")
    assert _size(tmp_path / "memory.png") == (700, 360)


def test_growth_of_memory_by_hand() -> None:
    assert pipeline.growth([0.0, 10.0, 12.0, 15.0, 17.0]) == 5.0  # (15 + 17) / 2 - (10 + 12) / 2; the start is left out
    assert pipeline.growth([3.0, 4.0]) == 0.0


def test_growth_at_one_point(config: ConfigDict) -> None:
    config.adversary.enabled = False
    row = growth.measure(config, side_px=SIDE, batch=2, width=2)
    assert row["pixels"] == 512
    assert row["train_ms"] > 0.0 < row["inference_ms"]
    assert row["train_memory_mib"] > row["inference_memory_mib"] > 0.0


def _sweep(monkeypatch: pytest.MonkeyPatch, offset: float) -> list[dict[str, Any]]:
    """Rows of a machine that takes a millisecond and a MiB per 1000 pixels, and `offset` more of each a call."""

    def found(config: ConfigDict, *, side_px: int, batch: int, width: int) -> dict[str, Any]:
        cost = batch * side_px**2 / 1000.0 + offset
        return {"pixels": batch * side_px**2} | {growth._key(name): cost for name in growth.FIGURES}

    monkeypatch.setattr(growth, "measure", found)
    return growth.sweep("configs/msanet.py:smoke", divisor=1)


def test_verdicts_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    scans = [
        {"seconds_per_scan": relative, "memory_peak_relative": memory}
        for relative, memory in ((1.05, 0.97), (1.0, 1.0), (0.99, 1.2))
    ]
    linear = growth.verdicts(_sweep(monkeypatch, 0.0), scans)
    assert linear["side_px, train"] == {"deviation_max": pytest.approx(0.0), "within_10_percent": True}
    assert linear["scans, seconds"] == {"deviation_max": pytest.approx(0.05), "within_10_percent": True}
    assert linear["scans, memory (flat)"] == {"deviation_max": pytest.approx(0.2), "within_10_percent": False}
    # 4 x 256^2 pixels cost 262.144 ms and 100 more; half of them in a batch of 2 cost 131.072 and 100 more.
    shifted = growth.verdicts(_sweep(monkeypatch, 100.0), scans)["batch, inference"]
    assert shifted["deviation_max"] == pytest.approx(231.072 / 362.144 * 2 - 1)
    assert not shifted["within_10_percent"]


def test_growth_with_scans(
    config: ConfigDict, templates: list[Template], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = growth.sweep_scans(as_model(*load(config, None)), templates, [2, 4])
    assert [row["scans"] for row in rows] == [2, 4]
    assert rows[0]["seconds_per_scan"] == pytest.approx(2 * rows[0]["seconds"] / rows[1]["seconds"])
    assert rows[1]["memory_peak_relative"] == 1.0
    growth.draw(_sweep(monkeypatch, 1.0), rows, tmp_path / "growth.png")
    assert _size(tmp_path / "growth.png") == (1200, 600)


def test_streamed_prediction(config: ConfigDict, templates: list[Template], tmp_path: Path) -> None:
    write_scans(tmp_path / "scans", templates, 5)
    found = stream(as_model(*load(config, None)), tmp_path / "scans", tmp_path / "results")
    assert found["scans"] == 5
    assert found["scans_per_second"] == pytest.approx(5 / found["seconds"])
    assert found["memory_peak_mib"] == max(found["memory_mib"]) > 100.0
    assert found["memory_s"] == sorted(found["memory_s"])
    records = [path for path in (tmp_path / "results").glob("0*.json")]
    assert len(records) == 5
    assert len({path.read_bytes() for path in (tmp_path / "scans").iterdir()}) == 5  # noise is drawn anew


def test_network_beside_its_twin(config: ConfigDict, templates: list[Template]) -> None:
    pytest.importorskip("torch")
    from benchmarks.predict import measure_network

    found = measure_network(*load(config, None), templates, repeats=1)
    assert (found["batch"], found["image_px"]) == (4, [SIDE, SIDE])
    assert found["difference_max"] < 1e-5
    assert found["ratio"] > 0.0
    assert found["jax_scans_per_second"] > 0.0 < found["torch_scans_per_second"]


def test_one_step_on_a_device(config: ConfigDict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.measure_step.REPEATS", 1)
    row = measure_step(config, devices=jax.devices()[:1], form="shard_map", global_batch=4, steps=1, scaling="weak")
    assert row["images_per_s"] == pytest.approx(4 / row["median_s"])
    assert row["collectives_share"] == 0.0  # nothing to compare with on one device
    # The plan holds at least the images: 4 x 16 x 16 pixels, image and mask, 4 bytes each.
    assert row["memory_bytes"] > 4 * SIDE * SIDE * 2 * 4
