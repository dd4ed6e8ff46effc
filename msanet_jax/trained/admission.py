"""What must hold before a model file's program runs in this process: its signature and a trial elsewhere.

A model file is code. These checks refuse damaged files and programs that crash, hang or call other code; they do not
make the file of a stranger trustworthy (docs/outputs.md#trust).
"""

from __future__ import annotations

import functools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipeline.errors import RequestError
from msanet_jax.runtime.compiler_options import compiler_options
from msanet_jax.trained import trial

MAX_TRIAL_SECONDS = 300.0
MAX_TRIAL_BYTES = 4 << 30
"""Of the memory of the process that tries a program, and 8 times the program in addition."""
SECONDS_A_FURTHER_FIELD = 10.0
"""In addition, and `trial.MAX_BYTES_A_FIELD` of memory, for each field after the first."""

_POLL_SECONDS = 0.02


class UnreadableError(Exception):
    """A program that this JAX cannot run, sound or not; the text says why."""


def admitted(path: Path, program: bytes, takes: Sequence[int], gives: Sequence[int], *, trusted: bool) -> Any:
    """The program of a model file, fit to be run.

    Args:
      path: for messages.
      program: a jax.export artefact.
      takes: rows and columns that go in.
      gives: rows and columns that come out.
      trusted: made by this installation; not tried in another process. Others are tried with one field: before one
        runs with another number of them, call `try_elsewhere`.

    Returns:
      `jax.export.Exported`: one array float32 `[b, *takes]` -> one array float32 `[b, *gives]`.

    Raises:
      RequestError: another signature, an operation that no network needs, a crash, too much time or memory.
      UnreadableError: JAX does not understand it.
    """
    import jax
    import jax.export

    try:
        exported = jax.export.deserialize(bytearray(program))
    except Exception as error:  # flatbuffers and jaxlib raise many types
        raise UnreadableError(trial.unreadable(error)) from None
    if reason := _signature_problem(exported, takes, gives):
        raise RequestError(f"{path}: its program {reason}; export it again")
    if trusted:
        try:
            jax.jit(exported.call).lower(jax.ShapeDtypeStruct((1, *takes), "float32"))
        except Exception as error:
            raise UnreadableError(trial.unreadable(error)) from None
        return exported
    try_elsewhere(path, program, (1, *takes))
    return exported


def try_elsewhere(path: Path, program: bytes, shape: tuple[int, ...]) -> None:
    """Compiles and runs a program in another process; sizes and costs may be any function of the number of fields.

    Args:
      path: for messages.
      program: a jax.export artefact.
      shape: of what goes in, the number of fields first.

    Raises:
      RequestError: an operation that no network needs, a crash, too much time or memory.
      UnreadableError: JAX does not understand it.
    """
    told = _tried(program, shape)
    if told.get("unreadable"):
        raise UnreadableError(told["unreadable"])
    if told.get("problem"):
        at_once = f" with {shape[0]} fields at once" if shape[0] > 1 else ""
        raise RequestError(f"{path}: its program is not run{at_once}: {told['problem']}")


def _signature_problem(exported: Any, takes: Sequence[int], gives: Sequence[int]) -> str:
    import jax

    one_to_one = exported.in_tree == jax.tree.structure(((0,), {})) and exported.out_tree == jax.tree.structure(0)
    if not one_to_one or len(exported.in_avals) != 1 or len(exported.out_avals) != 1:
        return "does not turn one array into one"
    for word, aval, sides in (("takes", exported.in_avals[0], takes), ("gives", exported.out_avals[0], gives)):
        # The plain symbol in both: with `2*b` or `b*b` maps would go to other scans.
        first = str(exported.in_avals[0].shape[0]) if exported.in_avals[0].shape else ""
        batch_is_free = len(aval.shape) == 3 and first.isidentifier() and str(aval.shape[0]) == first
        if not batch_is_free or tuple(aval.shape[1:]) != tuple(sides) or aval.dtype.name != "float32":
            wanted = f"float32[b,{','.join(str(side) for side in sides)}]"
            return f"{word} {aval.str_short()}, not {wanted} as its manifest says"
    if exported.nr_devices != 1:
        return f"is for {exported.nr_devices} devices at once"
    if exported.ordered_effects or exported.unordered_effects:
        return "does something next to computing"
    if exported.disabled_safety_checks:
        named = ", ".join(str(check) for check in exported.disabled_safety_checks)
        return f"was exported without JAX's safety checks ({named[:80]})"
    return ""


@functools.lru_cache(maxsize=16)
def _tried(program: bytes, shape: tuple[int, ...]) -> dict[str, str]:
    """What `trial` says of a program in a process of its own; how that ended, where it says nothing."""
    # Without the current folder in the path, in which anything may lie; the caller's device stays free.
    options = compiler_options()
    further = shape[0] - 1
    seconds = MAX_TRIAL_SECONDS + further * SECONDS_A_FURTHER_FIELD
    alarm = str(math.ceil(seconds) + 1)
    command = [sys.executable, "-P", str(Path(trial.__file__)), alarm, json.dumps(options), *map(str, shape)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    if options:  # see `compiler_options.compiled`
        environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as answer:
        source.write(program)
        source.seek(0)
        process = subprocess.Popen(
            command, stdin=source, stdout=answer, stderr=subprocess.DEVNULL, env=environment, cwd=os.sep
        )
        try:
            limit = MAX_TRIAL_BYTES + 8 * len(program) + further * trial.MAX_BYTES_A_FIELD
            late = _watched(process, seconds=seconds, limit=limit)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        answer.seek(0)
        said = answer.read()
    if late:
        return {"problem": late}
    try:
        return {str(key): str(value) for key, value in json.loads(said).items()}
    except (ValueError, AttributeError):
        how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
        return {"problem": f"trying it ended the process that did so ({how}); the file is damaged or malicious"}


def _watched(process: subprocess.Popen[bytes], *, seconds: float, limit: int) -> str:
    """Waits for a process; why it was given up, or nothing."""
    begin, statistics = time.monotonic(), Path(f"/proc/{process.pid}/statm")
    page = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    while process.poll() is None:
        if time.monotonic() - begin > seconds:
            return f"trying it took more than {seconds:g} s"
        try:
            resident = int(statistics.read_text().split()[1]) * page
        except (OSError, IndexError, ValueError):  # no Linux, or it has just ended
            resident = 0
        if resident > limit:
            return f"trying it took more than {limit / 2**30:.1f} GiB"
        time.sleep(_POLL_SECONDS)
    return ""
