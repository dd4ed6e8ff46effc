"""A signal during a computation that Python cannot interrupt, in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

_SCRIPT = """
import hashlib, pathlib, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from msanet_jax.runtime import unheard
from msanet_jax.runtime.stopping import Stopped, stopping

def long():  # in C, without a look at signals
    with unheard.computing():
        hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)

def in_threads():
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: long(), range(2)))

def short():
    with unheard.computing():
        hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 10)
    try:
        time.sleep(60)
    finally:
        time.sleep(1)  # cleans for longer than a computation may take

unheard.GRACE_SECONDS = 0.3
try:
    with stopping(), unheard.ended_when_unheard(), tempfile.TemporaryDirectory(dir=sys.argv[2]):
        print("begins", flush=True)
        globals()[sys.argv[1]]()
except (Stopped, KeyboardInterrupt) as stop:
    print("in order", flush=True)
    sys.exit(3)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("work", ["long", "in_threads", "short"])
def test_a_signal_ends_a_computation(work: str, number: signal.Signals, tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, work, str(tmp_path)], stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        time.sleep(0.3)
        process.send_signal(number)
        try:
            said, told = process.communicate(timeout=30)
        finally:
            process.kill()
    if work == "short":
        assert (process.returncode, said, told) == (3, "in order\n", "")
    else:
        assert process.returncode == 128 + number
        assert told == f"msanet: stopped by {number.name} in the middle of a computation\n"
    assert not list(tmp_path.iterdir())
