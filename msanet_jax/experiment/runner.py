"""Carries out the runs of a study: their data sets first, then a process each, one at a time on every device."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from data_pipeline.errors import ExitCode, RequestError
from data_pipeline.files import resolved
from msanet_jax.experiment.study import EVALUATE, FAILED, FINISHED, STARTED, Journal, Run, Study, command

POLL_SECONDS = 0.5
LOCK = ".lock"
"""File of a study's folder that a working `msanet experiment` holds locked."""


class StudyInterrupted(Exception):  # noqa: N818 - an event, not an error
    """A signal arrived; every run is saved; the same command continues the study."""


@dataclasses.dataclass
class _Active:
    run: Run
    process: subprocess.Popen[bytes]
    begin: float


@contextlib.contextmanager
def alone(workdir: Path) -> Iterator[None]:
    """Keeps a second `msanet experiment` out of the folder until this one ends, however it ends.

    Raises:
      RequestError: another one is at work in it, or the folder cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = (workdir / LOCK).open("w")
    except OSError as error:
        raise RequestError(f"--workdir={workdir}: cannot be used ({error}); choose another folder") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RequestError(
                f"--workdir={workdir}: another msanet experiment is at work in it; wait for it, or stop it first"
            ) from error
        yield


def carry_out(
    study: Study,
    journal: Journal,
    *,
    workdir: Path,
    data_dir: Path,
    devices: Sequence[str] = ("",),
    progress: bool = True,
) -> list[Run]:
    """Trains what has no scores yet; a run that fails is reported in one line and skipped.

    Args:
      study: what to do.
      journal: what was done.
      workdir: of the study; a run's output is in its folder's `log.txt`.
      data_dir: of the data sets.
      devices: a process at a time on each, see `environment`.
      progress: whether to show a bar.

    Returns:
      The runs that failed now.

    Raises:
      RequestError: the data sets could not be prepared.
      StudyInterrupted: SIGTERM, SIGINT, or a run that was stopped from outside.
    """
    waiting = [run for run in study.runs if not journal.finished(run)]
    if waiting:
        _prepare_data(study, waiting, data_dir=data_dir, progress=progress)
    active: dict[str, _Active] = {}
    failed: list[Run] = []
    bar = tqdm(
        total=len(study.runs),
        initial=len(study.runs) - len(waiting),
        disable=not progress,
        file=sys.stderr,
        desc="experiment",
        bar_format="{desc}: {n_fmt}/{total_fmt} runs |{bar}| {elapsed}{postfix}",
        dynamic_ncols=True,
    )
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while waiting or active:
            for device in devices:
                run = None if device in active else _next(waiting, active)
                if run is not None:
                    waiting.remove(run)
                    journal.begin(run)
                    process = _start(study, run, device, workdir=workdir, data_dir=data_dir)
                    active[device] = _Active(run, process, time.monotonic())
            bar.set_postfix_str(_status(study, journal, waiting, active, len(devices)))
            time.sleep(POLL_SECONDS)
            for device in [name for name, entry in active.items() if entry.process.poll() is not None]:
                entry = active.pop(device)
                if _settle(entry, journal, workdir):
                    bar.update()
                else:
                    failed.append(entry.run)
                    reason = journal.outcomes[entry.run.name].reason
                    bar.write(f"{entry.run.name} failed, skipped: {reason}", file=sys.stderr)
    except KeyboardInterrupt as error:
        raise StudyInterrupted("stopped; run the same command again to continue") from error
    finally:
        _stop(active, journal)
        signal.signal(signal.SIGTERM, former)
        bar.close()
    return failed


def _next(waiting: Sequence[Run], active: Mapping[str, _Active]) -> Run | None:
    """The first run that scores no model which is still to be trained."""
    unfinished = {run.name for run in waiting} | {entry.run.name for entry in active.values()}
    return next((run for run in waiting if run.scored not in unfinished), None)


def _prepare_data(study: Study, runs: Sequence[Run], *, data_dir: Path, progress: bool) -> None:
    """Builds the runs' data sets in a process of its own: two runs starting at once would both build a missing one."""
    packages = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    quiet = {} if progress else {"TQDM_DISABLE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "msanet_jax.experiment.prepare", f"--data_dir={resolved(data_dir)}"],
        cwd=study.root,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(packages)} | quiet,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=None if progress else subprocess.DEVNULL,
        # As for a run: a signal reaches this process alone.
        start_new_session=True,
    )
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        recipes = [run.arguments for run in runs if run.arguments[0] != EVALUATE]  # a scoring builds its own set
        process.communicate(json.dumps(recipes).encode())
    except KeyboardInterrupt as error:
        raise StudyInterrupted("stopped; run the same command again to continue") from error
    finally:
        process.terminate()
        process.wait()
        signal.signal(signal.SIGTERM, former)
    if process.returncode:
        raise RequestError(
            f"--data_dir={data_dir}: the data sets could not be prepared (exit code {process.returncode}); "
            "train one of the recipes with main.py to see why"
        )


def environment(device: str) -> dict[str, str]:
    """The process's environment on a device: `` as it is, a number for that GPU or TPU chip, `cpuN` for core N."""
    if not device:
        return dict(os.environ)
    if device.isdecimal():
        return os.environ | {"CUDA_VISIBLE_DEVICES": device, "TPU_VISIBLE_CHIPS": device}
    if device.startswith("cpu") and device[3:].isdecimal():
        if int(device[3:]) not in _cores():
            raise RequestError(f"--devices: {device} must be one of this machine's cores {sorted(_cores())}")
        return os.environ | {"JAX_PLATFORMS": "cpu"}
    raise RequestError(f"--devices: {device!r} is neither a number nor cpuN")


def _cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _start(study: Study, run: Run, device: str, *, workdir: Path, data_dir: Path) -> subprocess.Popen[bytes]:
    folder = workdir / run.name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            command(study, run, workdir=workdir, data_dir=data_dir),
            cwd=study.root,
            env=environment(device),
            stdout=log,
            stderr=subprocess.STDOUT,
            # A group of its own: Ctrl-C reaches this process alone, which passes SIGTERM on, so that the run is saved.
            start_new_session=True,
        )
    if device.startswith("cpu") and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, {int(device[3:])})
    return process


def _settle(entry: _Active, journal: Journal, workdir: Path) -> bool:
    """Notes how a process ended; whether it left its scores."""
    code, seconds = entry.process.returncode, time.monotonic() - entry.begin
    if code == ExitCode.PREEMPTED:
        journal.end(entry.run, state=STARTED, seconds=seconds)
        raise StudyInterrupted(f"{entry.run.name} was stopped from outside; run the same command again to continue")
    folder = workdir / entry.run.name
    if code == 0 and (folder / "metrics.json").is_file():
        journal.end(entry.run, state=FINISHED, seconds=seconds)
        return True
    reason = f"exit code {code}: {_last_line(folder / 'log.txt')} (see {entry.run.name}/log.txt)"
    journal.end(entry.run, state=FAILED, seconds=seconds, reason=reason)
    return False


def _stop(active: dict[str, _Active], journal: Journal) -> None:
    """Lets running processes save themselves."""
    for entry in active.values():
        entry.process.send_signal(signal.SIGTERM)
    for entry in active.values():
        entry.process.wait()
        journal.end(entry.run, state=STARTED, seconds=time.monotonic() - entry.begin)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no output"


def _status(study: Study, journal: Journal, waiting: Sequence[Run], active: dict[str, _Active], devices: int) -> str:
    names = ", ".join(entry.run.name for entry in active.values())
    expected = {run.name: expected_seconds(study, journal, run) for run in study.runs}
    left = sum(expected[run.name] for run in waiting)
    left += sum(max(0.0, expected[entry.run.name] - (time.monotonic() - entry.begin)) for entry in active.values())
    if left == 0.0:
        return f" {names}"
    minutes = left / devices / 60
    text = f"about {minutes / 60:.1f} h" if minutes > 90 else f"about {minutes:.0f} min"
    return f" {names}; {text if minutes >= 1 else 'less than 1 min'} left"


def expected_seconds(study: Study, journal: Journal, run: Run) -> float:
    """Median duration of the finished runs of the same model, else of all finished runs, else 0 (unknown)."""
    done = [other for other in study.runs if journal.finished(other)]
    like = [other for other in done if other.model == run.model] or done
    return statistics.median(journal.outcomes[other.name].seconds for other in like) if like else 0.0
