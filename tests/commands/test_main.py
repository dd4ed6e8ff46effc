"""The command line as a user types it, in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The smallest networks that still have every part: these tests are about the whole, not about the score.
SMALL = [
    "--config=configs/msanet.py:smoke",
    "--config.data.image_size_px=32",
    "--config.generator.depth=2",
    "--config.generator.cascade_dilations=(1,)",
    "--config.generator.multi_scale_dilations=(1,)",
    "--config.discriminator.depth=2",
    "--config.adversary.pyramid_levels=2",
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    cache = tmp_path_factory.mktemp("compiled")
    return os.environ | {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONUNBUFFERED": "1"}


def _command(workdir: Path, data_dir: Path, *more: str) -> list[str]:
    return [sys.executable, "main.py", *SMALL, f"--workdir={workdir}", f"--data_dir={data_dir}", *more]


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data_dir: Path, environment: dict[str, str]) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    result = _run(_command(workdir, data_dir), environment)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "not comparable with the 0.6671 that the paper reports" in result.stdout
    assert "no accelerator found" in result.stderr + result.stdout
    return workdir


def test_one_command_leaves_everything(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert {
        "config.json",
        "checkpoints",
        "metrics.json",
        "images.csv",
        "lesions.csv",
        "cases.npz",
        "history.jsonl",
        "pictures",
    } <= names
    assert list(finished.glob("events.out.tfevents.*"))
    pictures = {path.name for path in (finished / "pictures").iterdir()}
    assert {"overview.png", "curves.png"} <= pictures
    metrics = json.loads((finished / "metrics.json").read_text())
    for key in ("test", "threshold_baseline"):
        assert {"dsc_pooled", "precision_pooled", "recall_pooled", "dsc_mean", "lesion_recall", "images"} <= set(
            metrics[key]
        )
        assert metrics[key]["images"] == len(metrics["images"])
    assert metrics["provenance"]["seed"] == 0
    assert 0.0 <= metrics["zero_input_dsc_pooled"] < 0.1  # blank images tell nothing


@pytest.mark.parametrize(("blow", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 75)])
def test_stopped_run_ends_as_the_unbroken_one(
    finished: Path, tmp_path: Path, data_dir: Path, environment: dict[str, str], blow: signal.Signals, code: int
) -> None:
    workdir = tmp_path / "stopped"
    process = subprocess.Popen(
        _command(workdir, data_dir),
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    first = workdir / "checkpoints" / "latest" / "2"
    deadline = time.monotonic() + 500
    while not first.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(blow)
    _, said = process.communicate()
    assert process.returncode == code, said[-3000:]
    if blow is signal.SIGTERM:
        assert "saved; run the same command again to continue" in said
        assert "Traceback" not in said
    assert not (workdir / "metrics.json").exists()
    result = _run(_command(workdir, data_dir), environment)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "resumed from step" in result.stderr
    stopped, whole = (json.loads((run / "metrics.json").read_text()) for run in (workdir, finished))
    assert stopped["test"] == whole["test"]
    assert stopped["images"] == whole["images"]
    assert stopped["provenance"]["checkpoint_step"] == whole["provenance"]["checkpoint_step"]


def test_devices_that_are_not_there(data_dir: Path, environment: dict[str, str], tmp_path: Path) -> None:
    result = _run(_command(tmp_path / "run", data_dir), environment | {"JAX_PLATFORMS": "rocm"})
    assert result.returncode == 2
    assert "Unable to initialize backend 'rocm'" in result.stderr
    assert "Traceback" not in result.stderr


def test_another_config_is_refused(finished: Path, data_dir: Path, environment: dict[str, str]) -> None:
    result = _run(_command(finished, data_dir, "--config.train.batch_size=8"), environment)
    assert result.returncode == 2
    assert "train.batch_size: 4 -> 8" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--config=configs/msanet.py:help"], 0, "no_deep_supervision"),
        (["--config=configs/msanet.py:npu", "--workdir=x"], 2, "unknown variant npu"),
        (["--config=configs/msanet.py:cpu", "--workdir=x", "--config.train.epochs=3"], 2, "no such key: 'epochs'"),
        (["--config=configs/msanet.py:cpu", "--workdir=x", "--config.train.batch_size=2.5"], 2, "batch_size"),
        (["--config=configs/msanet.py:cpu"], 2, "--workdir is missing"),
        ([], 2, "--config is missing"),
        (["--config=configs/absent.py", "--workdir=x"], 2, "absent.py"),
        (["--config=configs/msanet.py:cpu", "--workdir=x", "--config.generator.width=0"], 2, "generator.width=0 must"),
    ],
)
def test_wrong_words_get_one_clear_line(
    arguments: list[str], code: int, said: str, environment: dict[str, str], tmp_path: Path
) -> None:
    result = _run([sys.executable, "main.py", *arguments], environment)
    assert result.returncode == code
    assert said in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    # The list of variants alone takes a line each.
    assert code == 0 or "variant" in said or result.stderr.count("\n") == 1, result.stderr
    assert not (ROOT / "x").exists()
