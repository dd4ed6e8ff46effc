"""Signals end a command wherever they arrive."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable

import pytest

from msanet_jax.runtime.stopping import Stopped, stopping


class _Finalized:
    """Receives a signal while Python frees it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self.number)


def _in_finalizer(number: int) -> None:
    _Finalized(number)


def _in_collection(number: int) -> None:
    def callback(phase: str, info: dict[str, int]) -> None:
        gc.callbacks.remove(callback)
        os.kill(os.getpid(), number)

    gc.callbacks.append(callback)
    gc.collect()


@pytest.mark.parametrize("arrive", [_in_finalizer, _in_collection])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_python_would_drop_arrives(number: int, arrive: Callable[[int], None]) -> None:
    hook = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else Stopped) as ended, stopping():
        arrive(number)
        time.sleep(20)
    assert number == signal.SIGINT or ended.value.number == number
    assert sys.unraisablehook is hook


def test_other_faults_of_finalizers_are_reported_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[type] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: told.append(dropped.exc_type))

    class Faulty:
        def __del__(self) -> None:
            raise ValueError

    with stopping():
        Faulty()
    assert told == [ValueError]


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_end_the_cleaning_up(first: int, second: int) -> None:
    cleaned: list[int] = []
    with pytest.raises(KeyboardInterrupt if first == signal.SIGINT else Stopped), stopping():
        try:
            os.kill(os.getpid(), first)
        finally:
            for number in range(3):
                os.kill(os.getpid(), second)
                cleaned.append(number)
    assert cleaned == [0, 1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_cleaning_up_that_hangs_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msanet_jax.runtime.stopping.CLEANING_SECONDS", 0.05)
    with pytest.raises(KeyboardInterrupt), stopping():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(20)
