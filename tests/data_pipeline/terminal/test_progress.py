"""Progress on a terminal of 60 columns and in a log file."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import sys
import termios

import pytest

from data_pipeline.terminal import progress as module
from data_pipeline.terminal.progress import progress


def test_a_log_of_less_than_a_minute_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    assert list(progress(range(200), title="training", unit="step")) == list(range(200))
    assert log.getvalue() == ""


def test_a_log_gets_a_line_whenever_the_interval_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(module, "LOG_SECONDS", 0.0)
    with progress(total=5, title="simulating", unit="patient", initial=1) as bar:
        for number in range(4):
            bar.set_postfix({"loss": number}, refresh=False)
            bar.update()
    assert "\r" not in log.getvalue()
    counts = [int(re.search(r"(\d) of 5 patients", line)[1]) for line in log.getvalue().splitlines()]
    assert counts[0] == 1
    assert counts[-1] == 5
    assert set(counts) == {1, 2, 3, 4, 5}


def test_a_terminal_of_60_columns_holds_the_bar_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 60))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress(total=21200, title="training", unit="step") as bar:
            bar.set_postfix({"loss": "0.612", "val DSC": "0.503", "img/s": "12.1"})
            bar.update(21000)
            bar.refresh()
        terminal.flush()
        shown = ""
        while select.select([ours], [], [], 0.2)[0]:  # the terminal passes on a part at a time
            shown += os.read(ours, 1 << 16).decode()
    os.close(ours)
    frames = [frame for frame in re.split(r"[\r\n]", shown) if frame.strip()]
    assert len(frames) >= 2
    assert max(map(len, frames)) <= 60
    assert "left" in frames[-1]
    assert "loss=0.612" in frames[-1]


def test_quiet_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    list(progress(range(3), title="x", unit="y", quiet=True))
    assert log.getvalue() == ""
