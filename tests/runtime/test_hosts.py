"""Several processes as one run, on this machine: what they share, how they stop, and that they train as one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from configs.msanet import get_config
from data_pipeline.errors import RequestError
from data_pipeline.folds import load_splits
from msanet_jax.runs.folder import prepare
from msanet_jax.runs.history import read_history
from msanet_jax.runtime import hosts, preemption
from msanet_jax.runtime.stopping import Stopped
from msanet_jax.training.loop import train

ROOT = Path(__file__).parents[2]
VARIANTS = "smoke,no_cdc,no_msm"
SMALL = {
    "data.image_size_px": 32,
    "generator.depth": 1,
    "discriminator.depth": 2,
    "adversary.pyramid_levels": 2,
    "train.total_epochs": 30.0,  # 60 iterations: long enough to be caught in the middle
    "train.validate_every_epochs": 15.0,
}

# What two processes see of each other, without data or networks; the second is sent SIGTERM in its loop.
TALK = """
import json, sys, time
import numpy as np
from data_pipeline.errors import RequestError
from msanet_jax.runtime import hosts

number = int(sys.argv[1])
hosts.join(distributed=None, coordinator_address=sys.argv[2], num_processes=2, process_id=number)

def refuse():
    raise RequestError("no such folder")

seen = {"primary": hosts.is_primary()}
seen["answer"] = hosts.from_primary(lambda: {"asked": number, "long": "x" * 5000})
seen["shared"] = hosts.share({"a": np.full(3, number + 7)})["a"].tolist()
seen["gathered"] = hosts.gather(np.array([[number], [10 + number]])).tolist()
order = []
seen["result"] = hosts.agreed(lambda: order.append(time.time()) or number, lambda _: {"recipe": "same"})
seen["order"] = order

def refuse_here():
    if number == 1:
        raise RequestError("no such file here")
    return {}

for ask in (lambda: {"seed": str(number), "width": "4", f"only {number}": "x"}, refuse_here):
    try:
        hosts.agreed(ask, dict)
    except RequestError as error:
        seen.setdefault("disagreed", []).append(str(error))
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


# main.py whose work is a wait: `python` sees signals meanwhile, `blocked` does not, as when XLA compiles.
WAIT = """
import sys, threading, time, types
number, address, way = int(sys.argv[1]), *sys.argv[2:]

def train_and_evaluate(config, *, workdir, data_dir):
    print("ready", flush=True)
    if way == "blocked":
        preemption.GRACE_S = 0.5
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
    hosts.from_primary(lambda: [time.sleep(0.02) for _ in range(10**6)])

sys.modules["msanet_jax.training.job"] = types.SimpleNamespace(train_and_evaluate=train_and_evaluate)
import main
from msanet_jax.runtime import hosts, preemption
main.run(["main.py", "--config=configs/msanet.py:smoke", "--workdir=unused", "--num_processes=2",
          f"--coordinator_address={address}", f"--process_id={number}"])
"""


def _address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def _no_process_stays() -> Iterator[None]:
    yield
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.communicate()


def _start(command: list[str], *, devices: int, cache: Path) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"} | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # as in this process (conftest.py): what is compared is compiled alike
        "PYTHONPATH": str(ROOT),
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    STARTED.append(subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, **pipes))
    return STARTED[-1]


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
        assert seen["disagreed"] == [
            "the processes of this run do not agree: only 0: x on process 0, absent on process 1; "
            "only 1: absent on process 0, x on process 1; seed: 0 on process 0, 1 on process 1",
            "process 1: no such file here",
        ]
    assert (first["result"], second["result"]) == (0, 1)
    assert first["order"][0] < second["order"][0]
    assert first["stopped"] == second["stopped"] > 0


def test_the_loop_stops_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupts, over = [], threading.Event()
    monkeypatch.setattr(preemption, "POLL_S", 0.01)
    monkeypatch.setattr(preemption, "_NOTICED", threading.Event())
    monkeypatch.setattr("_thread.interrupt_main", lambda number: (interrupts.append(number), over.set()))
    told = SimpleNamespace(key_value_try_get=lambda key: "now")
    with preemption.stepping():
        watch = threading.Thread(target=preemption._watch, args=(told, over))
        watch.start()
        watch.join(0.2)
        preemption.raise_if_stopping()
        assert interrupts == []
    watch.join(10)
    assert interrupts == [signal.SIGTERM]
    with pytest.raises(Stopped, match="15"):
        preemption.raise_if_stopping()


@pytest.mark.parametrize(("way", "told"), [("python", 1), ("blocked", 0)])
def test_sigterm_outside_the_loop_ends_all(way: str, told: int, tmp_path: Path) -> None:
    address = _address()
    pair = [_start(["-c", WAIT, str(number), address, way], devices=1, cache=tmp_path) for number in range(2)]
    for process in pair:
        assert "ready\n" in iter(process.stdout.readline, "")
    pair[told].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=60) for process in pair]
    assert [process.returncode for process in pair] == [75, 75], outputs
    for _, said in outputs:
        assert said.count("main.py: stopped by SIGTERM; run the same command again to continue\n") == 1
        assert "Traceback" not in said


def _command(run: Path, data_dir: Path, *more: str) -> list[str]:
    recipe = [f"--config=configs/msanet.py:{VARIANTS}", *(f"--config.{key}={value}" for key, value in SMALL.items())]
    return ["main.py", *recipe, f"--workdir={run}", f"--data_dir={data_dir}", *more]


def _unbroken(run: Path, data_dir: Path) -> None:
    """The same training in this process, whose four devices are one host's."""
    config = get_config(VARIANTS)
    config.update_from_flattened_dict(SMALL)
    splits = load_splits(config.data, str(data_dir))
    prepare(run, config)
    train(config, run=run, training=splits["train"], validation=splits["validation"])


def _rows(run: Path) -> dict[tuple[int, str], dict[str, float]]:
    return {(row.step, row.kind): dict(row.values) for row in read_history(run / "history.jsonl")}


def test_two_processes_train_as_one(tmp_path: Path, data_dir: Path) -> None:
    """2 x 2 devices until one process is killed, then 1 x 4 to the end, against 1 x 4 throughout."""
    run, address = tmp_path / "run", _address()
    ways = [f"--coordinator_address={address}", "--num_processes=2"]
    pair = [
        _start(_command(run, data_dir, *ways, f"--process_id={number}"), devices=2, cache=tmp_path)
        for number in range(2)
    ]
    deadline = time.monotonic() + 300
    while not (run / "checkpoints/latest/4").exists() and time.monotonic() < deadline and pair[0].poll() is None:
        time.sleep(0.05)
    pair[1].kill()
    said = pair[0].communicate(timeout=150)[1]
    pair[1].communicate()
    # A failed all-reduce tells at once; on a slow machine JAX's own watch may end the process before it has closed.
    assert pair[0].returncode in (69, -signal.SIGABRT), said[-3000:]
    assert "another process of this run is gone" in said or "another task died" in said
    assert "Traceback" not in said
    by_two = _rows(run)
    assert 4 <= max(step for step, _ in by_two) < 60
    rest = _start(_command(run, data_dir), devices=4, cache=tmp_path)
    output = rest.communicate(timeout=300)
    assert rest.returncode == 0, output
    assert "resumed from step" in output[1]
    _unbroken(tmp_path / "whole", data_dir)
    expected, found = _rows(tmp_path / "whole"), _rows(run)
    assert expected.keys() == found.keys() >= {(60, "train"), (30, "validation"), (60, "validation")}
    for rows in (by_two, found):
        for place, row in rows.items():
            for key, value in row.items():
                if isinstance(value, float) and key != "images_per_second":
                    assert value == pytest.approx(expected[place][key], abs=1e-5), (place, key)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"]["images"] == len({image["image_id"] for image in metrics["images"]}) == 5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"num_processes": 2}, r"--num_processes without --coordinator_address --process_id"),
        ({"coordinator_address": "node1", "num_processes": 2, "process_id": 0}, r"has no port, e.g. node1:12355"),
        ({"coordinator_address": "node1:99999", "num_processes": 2, "process_id": 0}, r"no port, e.g. node1:12355"),
    ],
)
def test_half_a_request_is_refused(given: dict[str, object], said: str) -> None:
    nothing = {"distributed": None, "coordinator_address": None, "num_processes": None, "process_id": None}
    with pytest.raises(ValueError, match=said):
        hosts.join(**nothing | given)


def test_a_port_that_is_taken_is_named() -> None:
    """JAX's own coordinator would crash."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            RequestError, match=rf"port {port} cannot be used on this machine \(Address already in use\)"
        ):
            hosts.join(distributed=None, coordinator_address=f"127.0.0.1:{port}", num_processes=2, process_id=0)


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
    assert (
        hosts.from_primary(lambda: "x")
        == hosts.agreed(lambda: "x", lambda _: pytest.fail("computed for nobody"))
        == "x"
    )
    assert not hosts.stop_agreed(1)
