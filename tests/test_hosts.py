"""Several processes as one run, on this machine: what they share, how they stop, and that they train as one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from msanet_jax import hosts
from msanet_jax.history import read_history

ROOT = Path(__file__).parents[1]
RECIPE = [
    "--config=configs/msanet.py:smoke",
    "--config.data.image_size_px=32",
    "--config.generator.depth=2",
    "--config.generator.cascade_dilations=(1,)",
    "--config.generator.multi_scale_dilations=(1,)",
    "--config.discriminator.depth=2",
    "--config.adversary.pyramid_levels=2",
    "--config.train.total_epochs=40.0",  # 80 iterations: long enough to be caught in the middle
    "--config.train.validate_every_epochs=20.0",
]

# What two processes see of each other, without data or networks; the second is sent SIGTERM in its loop.
TALK = """
import json, sys, time
import numpy as np
from data_pipeline.errors import RequestError
from msanet_jax import hosts

number = int(sys.argv[1])
hosts.join(distributed=None, coordinator_address=sys.argv[2], num_processes=2, process_id=number)

def refuse():
    raise RequestError("no such folder")

seen = {"primary": hosts.is_primary()}
seen["answer"] = hosts.from_primary(lambda: {"asked": number, "long": "x" * 5000})
seen["shared"] = hosts.share({"a": np.full(3, number + 7)})["a"].tolist()
seen["gathered"] = hosts.gather(np.array([[number], [10 + number]])).tolist()
order = []
hosts.primary_first(lambda: order.append(time.time()))
seen["order"] = order
try:
    hosts.from_primary(refuse)
except RequestError as error:
    seen["refused"] = str(error)
hosts.wait_for_all("loop")
print("ready", flush=True)
step = 0
while not hosts.stop_agreed(step):
    step += 1
    time.sleep(0.02 + 0.01 * number)
seen["stopped"] = step
print(json.dumps(seen), flush=True)
"""


def _address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _start(command: list[str], *, devices: int, cache: Path) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"} | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "PYTHONPATH": str(ROOT),
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, **pipes)


def test_two_processes_agree(tmp_path: Path) -> None:
    address = _address()
    pair = [_start(["-c", TALK, str(number), address], devices=1, cache=tmp_path) for number in range(2)]
    assert "ready\n" in iter(pair[1].stdout.readline, "")  # gloo writes there too
    time.sleep(0.3)
    pair[1].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=60) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    first, second = (json.loads(out.splitlines()[-1]) for out, _ in outputs)
    assert (first["primary"], second["primary"]) == (True, False)
    for seen in (first, second):
        assert seen["answer"] == {"asked": 0, "long": "x" * 5000}
        assert seen["shared"] == [7, 7, 7]
        assert seen["gathered"] == [[0], [10], [1], [11]]
        assert seen["refused"] == "no such folder"
    assert first["order"][0] < second["order"][0]
    assert first["stopped"] == second["stopped"] > 0


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


def _train(run: Path, data_dir: Path, *more: str) -> list[str]:
    return ["main.py", *RECIPE, f"--workdir={run}", f"--data_dir={data_dir}", *more]


def _rows(run: Path) -> dict[tuple[int, str], dict[str, float]]:
    rows = read_history(run / "history.jsonl")
    return {(row["step"], row["kind"]): row for row in rows}


def test_two_processes_train_as_one(tmp_path: Path, data_dir: Path, cache: Path) -> None:
    """2 x 2 devices until one process is killed, then 1 x 4 to the end, against 1 x 4 throughout."""
    whole = _start(_train(tmp_path / "whole", data_dir), devices=4, cache=cache)
    output = whole.communicate(timeout=300)
    assert whole.returncode == 0, output
    run, address = tmp_path / "run", _address()
    pair = [
        _start(
            _train(run, data_dir, f"--coordinator_address={address}", "--num_processes=2", f"--process_id={number}"),
            devices=2,
            cache=cache,
        )
        for number in range(2)
    ]
    deadline = time.monotonic() + 200
    while not list(run.glob("checkpoints/latest/[1-9]*")) and time.monotonic() < deadline and pair[0].poll() is None:
        time.sleep(0.05)
    pair[1].kill()
    said = pair[0].communicate(timeout=150)[1]
    pair[1].communicate()
    assert pair[0].returncode == 69, said[-3000:]
    assert "another process of this run is gone" in said
    assert "Traceback" not in said
    broken = _rows(run)
    assert max(step for step, _ in broken) < 80
    rest = _start(_train(run, data_dir), devices=4, cache=cache)
    output = rest.communicate(timeout=300)
    assert rest.returncode == 0, output
    assert "resumed from step" in output[1]
    expected, found = _rows(tmp_path / "whole"), _rows(run)
    assert expected.keys() == found.keys()
    assert {(80, "train"), (40, "validation"), (80, "validation")} <= found.keys()
    for rows in (broken, found):
        for place, row in rows.items():
            for key in row.keys() - {"images_per_second"}:
                if isinstance(row[key], float):
                    assert row[key] == pytest.approx(expected[place][key], abs=1e-5), (place, key)
    files = [[path.name for path in sorted(folder.glob("*.csv"))] for folder in (run, tmp_path / "whole")]
    assert files[0] == files[1] == ["images.csv", "lesions.csv"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"num_processes": 2}, r"--num_processes without --coordinator_address --process_id"),
        ({"coordinator_address": "node1", "num_processes": 2, "process_id": 0}, r"has no port, e.g. node1:12355"),
    ],
)
def test_half_a_request_is_refused(given: dict[str, object], said: str) -> None:
    nothing = {"distributed": None, "coordinator_address": None, "num_processes": None, "process_id": None}
    with pytest.raises(ValueError, match=said):
        hosts.join(**nothing | given)


def test_a_launcher_without_the_flag_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = {"coordinator_address": None, "num_processes": None, "process_id": None}
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    with pytest.raises(ValueError, match=r"started as one of 4 processes .* add --distributed"):
        hosts.join(distributed=None, **nothing)
    hosts.join(distributed=False, **nothing)


def test_one_process_is_the_identity() -> None:
    rows = np.arange(3)
    assert hosts.is_primary()
    assert hosts.share(rows) is rows
    assert hosts.gather(rows) is rows
    assert hosts.from_primary(lambda: "x") == hosts.primary_first(lambda: "x") == "x"
    assert not hosts.stop_agreed(1)
