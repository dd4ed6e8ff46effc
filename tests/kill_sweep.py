"""Kills trainings of a tiny recipe at named and random moments, starts them again, and compares the results bit by bit.

python -m tests.kill_sweep --kills 100

Every process is a fork of this one, which has loaded the libraries and has used none of them: a start takes a second
instead of ten. The simulator is replaced by one that takes no time; everything else is `main.py`.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

RECIPE = (
    "--config=configs/msanet.py:smoke",
    "--config.data.image_size_px=32",
    "--config.generator.depth=2",
    "--config.generator.cascade_dilations=(1,)",
    "--config.generator.multi_scale_dilations=(1,)",
    "--config.discriminator.depth=2",
    "--config.adversary.pyramid_levels=2",
    "--config.train.total_epochs=16.0",
)


@dataclasses.dataclass(frozen=True)
class Moment:
    """Where in a run a blow falls.

    Attributes:
      name: in the table.
      module: of the function; empty for a blow that waits for nothing.
      function: in whose n-th call the blow falls.
      calls: the largest n.
      delay_s: the longest time from that call to the blow.
    """

    name: str
    module: str
    function: str
    calls: int
    delay_s: float


@dataclasses.dataclass(frozen=True)
class Blow:
    """A signal at a moment."""

    moment: Moment
    number: signal.Signals
    call: int
    delay_s: float

    @property
    def code(self) -> int:
        """How the process has to end."""
        return -signal.SIGKILL if self.number is signal.SIGKILL else 75


# In the order of a run: one that is killed at a moment goes on to the next.
MOMENTS = (
    Moment("data build", "data_pipeline.phantom_examples", "PatientStore.examples", 8, 0.02),
    Moment("data set written", "data_pipeline.datasets", "_build", 1, 0.6),
    Moment("start and compile", "msanet_jax.training.loop", "create_state", 1, 2.0),
    Moment("step", "msanet_jax.training.telemetry", "Telemetry.record", 4, 0.02),
    Moment("history", "msanet_jax.runs.history", "History.append", 4, 0.001),
    Moment("checkpoint", "msanet_jax.training.checkpoints", "Checkpoints.save_latest", 2, 0.1),
    Moment("validation", "msanet_jax.training.loop", "score_validation", 1, 0.3),
    Moment("best checkpoint", "msanet_jax.training.checkpoints", "Checkpoints.save_best", 1, 0.1),
    Moment("any time", "", "", 1, 8.0),
    Moment("evaluation", "msanet_jax.training.outcome", "evaluate", 2, 0.5),
    Moment("scores", "msanet_jax.training.outcome", "write_metrics", 1, 0.02),
    Moment("cases", "msanet_jax.training.outcome", "write_cases", 1, 0.05),
    Moment("pictures", "msanet_jax.training.outcome", "write_pictures", 1, 1.5),
    Moment("curves", "msanet_jax.training.job", "write_curves", 1, 1.0),
)

NEVER_THE_SAME = {"images_per_second", "wall_seconds", "crc32"}


def main() -> int:
    """Runs the sweep; 0 if every process ended as it should and every run as the unbroken one."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill_sweep", description=__doc__)
    parser.add_argument("--kills", type=int, default=len(MOMENTS), help="in all (default: each moment once)")
    parser.add_argument("--seed", type=int, default=0, help="of moments, delays and signals")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill_sweep_") as folder:
        return _sweep(Path(folder), options.kills, random.Random(options.seed))


def _sweep(folder: Path, kills: int, chance: random.Random) -> int:
    # Programs run a few times: compiling them well takes longer than running them badly.
    os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    os.environ |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
    for module in ("main", "msanet_jax.training.job", "tests.fakes"):
        importlib.import_module(module)
    findings = _last_life(folder / "whole")
    endings: Counter[tuple[str, str]] = Counter()
    runs = 0
    while not findings and _killed(endings) < kills:
        run, runs = folder / f"run {runs}", runs + 1
        for moment in MOMENTS:
            if _killed(endings) == kills:
                break
            number = signal.SIGTERM if chance.random() < 0.3 else signal.SIGKILL
            blow = Blow(moment, number, chance.randint(1, moment.calls), chance.uniform(0.0, moment.delay_s))
            code = _life(run, blow)
            ending = {blow.code: number.name, 0: "ended before"}.get(code, f"code {code}")
            endings[moment.name, ending] += 1
            print(f"{run.name}, {moment.name}, call {blow.call} + {blow.delay_s:.3f} s: {ending}", file=sys.stderr)
            if code not in (blow.code, 0):
                findings.append(f"{run.name}, {moment.name}, {number.name}: code {code}\n{_end_of_output(run)}")
        findings += _last_life(run) + [f"{run.name}: {line}" for line in _differences(run, folder / "whole")]
        shutil.rmtree(run)
    _print_table(endings, findings, runs)
    return 1 if findings else 0


def _killed(endings: Counter[tuple[str, str]]) -> int:
    return sum(count for (_, ending), count in endings.items() if ending.startswith("SIG"))


def _print_table(endings: Counter[tuple[str, str]], findings: list[str], runs: int) -> None:
    columns = sorted({ending for _, ending in endings})
    print(f"| moment | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for moment in MOMENTS:
        print(f"| {moment.name} | {' | '.join(str(endings[moment.name, ending]) for ending in columns)} |")
    totals = (sum(count for (_, end), count in endings.items() if end == ending) for ending in columns)
    print(f"| all | {' | '.join(map(str, totals))} |")
    print(f"\n{runs} runs after {_killed(endings)} kills against an unbroken one: {len(findings)} findings")
    print("\n".join(findings))


def _end_of_output(run: Path) -> str:
    return (run / "output").read_text()[-2000:]


def _last_life(run: Path) -> list[str]:
    """The start after which a run has to be finished."""
    code = _life(run, None)
    return [] if code == 0 else [f"{run.name}: the last start ended with code {code}\n{_end_of_output(run)}"]


def _life(run: Path, blow: Blow | None) -> int:
    """One start of main.py in a fork; its exit code, or minus the signal that ended it."""
    run.mkdir(exist_ok=True)
    sys.stderr.flush()
    if (process := os.fork()) == 0:
        code = 1
        try:
            with (run / "output").open("a") as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
            code = _be_main(run, blow)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _be_main(run: Path, blow: Blow | None) -> int:
    from data_pipeline import phantom_examples
    from tests.fakes import quick_patient

    phantom_examples.simulate_patient = quick_patient
    if blow is not None:
        _prepare(blow)
    # The config library looks for changed keys in sys.argv.
    sys.argv = ["main.py", *RECIPE, f"--workdir={run / 'run'}", f"--data_dir={run / 'data'}"]
    try:
        importlib.import_module("main").run(sys.argv)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _prepare(blow: Blow) -> None:
    """Puts the blow into the function, or lets it come by itself."""
    if not blow.moment.module:
        _strike(blow)
        return
    owner: Any = importlib.import_module(blow.moment.module)
    *parts, last = blow.moment.function.split(".")
    for part in parts:
        owner = getattr(owner, part)
    function, calls = getattr(owner, last), itertools.count(1)

    def struck(*args: Any, **options: Any) -> Any:
        if next(calls) == blow.call:
            _strike(blow)
        return function(*args, **options)

    setattr(owner, last, struck)


def _strike(blow: Blow) -> None:
    timer = threading.Timer(blow.delay_s, os.kill, (os.getpid(), blow.number))
    timer.daemon = True
    timer.start()


def _differences(folder: Path, whole: Path) -> list[str]:
    """Files that a run lacks, has too many, or has with another content than the unbroken one."""
    found, expected = (_contents(place) for place in (folder, whole))
    return [
        f"{name}: {'missing' if name not in found else 'too many' if name not in expected else 'differs'}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]


def _contents(folder: Path) -> dict[str, Any]:
    """What has to be the same, by file; of checkpoints the digest of their arrays, which a start has checked."""
    contents: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if name == "output" or path.name.startswith("events.out.tfevents"):
            continue
        if "/checkpoints/" in name:
            if path.match("notes/metadata"):
                notes = json.loads(path.read_text())
                contents[name] = (notes["arrays"], notes.get("dsc_pooled"))
            elif "tmp" in name:
                contents[name] = "left over"
        elif path.suffix in (".json", ".jsonl"):
            contents[name] = [_same_parts(json.loads(line)) for line in _documents(path)]
        else:
            contents[name] = path.read_bytes()
    return contents


def _documents(path: Path) -> list[str]:
    text = path.read_text()
    return text.splitlines() if path.suffix == ".jsonl" else [text]


def _same_parts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _same_parts(entry) for key, entry in value.items() if key not in NEVER_THE_SAME}
    return [_same_parts(entry) for entry in value] if isinstance(value, list) else value


if __name__ == "__main__":
    sys.exit(main())
