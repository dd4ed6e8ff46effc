"""However a training ends, main.py says it in one line and exits with the code that the README gives."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import main
from data_pipeline.errors import RequestError
from data_pipeline.files import WriteError
from msanet_jax.training import job

# The config library loads recipes in an old way.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

ROOT = Path(__file__).parents[2]
FULL = os.strerror(errno.ENOSPC)


def _storage_library() -> None:
    """As tensorstore says it, in an exception that orbax raises from another thread's."""
    try:
        raise ValueError(f"RESOURCE_EXHAUSTED: Error writing /runs/a/checkpoints/d/1 [OS error 28: {FULL}]")
    except ValueError as error:
        raise RuntimeError("checkpoint could not be finished") from error


def _raise(error: BaseException) -> Callable[[], None]:
    def ending() -> None:
        raise error

    return ending


MAKE_ROOM = (
    "no space left on the disk; make room and run the same command again, which continues from the last checkpoint"
)
ENDINGS = (
    (_raise(RequestError("no such set")), 2, "main.py: no such set\n"),
    (_raise(OSError(errno.ENOSPC, FULL, "/runs/a/history.jsonl")), 2, f"main.py: /runs/a/history.jsonl: {MAKE_ROOM}\n"),
    (_raise(WriteError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/a.png")), 2, f"main.py: /a.png: {MAKE_ROOM}\n"),
    (_storage_library, 2, f"main.py: a file: {MAKE_ROOM}\n"),
    (_raise(OSError(errno.ENAMETOOLONG, "x", "/runs/x")), 2, "main.py: /runs/x: too long a name for this disk\n"),
    (lambda: os.kill(os.getpid(), signal.SIGTERM), 75, "main.py: stopped by SIGTERM; run the same command again to "),
    (_raise(KeyboardInterrupt()), 130, "main.py: interrupted; run the same command again to continue"),
)


@pytest.mark.parametrize(("ending", "code", "said"), ENDINGS)
def test_one_line_and_the_code(
    ending: Callable[[], None],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(job, "train_and_evaluate", lambda config, *, workdir, data_dir: ending())
    with pytest.raises(SystemExit) as exit:
        main.run(["main.py", "--config=configs/msanet.py:smoke", "--workdir=unused"])
    assert exit.value.code == code
    said_so = capsys.readouterr().err
    assert said_so.startswith(said)
    assert said_so.count("\n") == 1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "train_and_evaluate", lambda config, *, workdir, data_dir: _raise(KeyError("x"))())
    with pytest.raises(KeyError):
        main.run(["main.py", "--config=configs/msanet.py:smoke", "--workdir=unused"])


def test_a_closed_pipe_is_silence() -> None:
    """The reader is gone before the first line; `msanet` and `main.py` end alike."""
    for command in (["-m", "msanet_jax", "--print-completion", "bash"], ["main.py", "--config=configs/msanet.py:help"]):
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "w") as pipe:
            ended = subprocess.run(
                [sys.executable, *command], cwd=ROOT, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False
            )
        assert ended.stderr == "", command
        assert ended.returncode == 141, command
