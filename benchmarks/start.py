"""Seconds from the command to the first training step, with and without kept compiled programs.

python -m benchmarks.start --config=configs/msanet.py:cpu [--repeats=3] [--data_dir=data] [--out=FOLDER]

Starts the real command and stops it as soon as its history holds step 1. The first start, unmeasured, builds the data
set; then every repetition starts once with an empty folder of compiled programs and once more with what that start left
there. `help_s` is `msanet --help`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.tables import markdown_table, write_results
from msanet_jax.runtime.compile_cache import VARIABLE

POLL_S = 0.02
ROOT = Path(__file__).parents[1]


def main() -> None:
    """Measures and writes JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/msanet.py:cpu", help="recipe and variants")
    parser.add_argument("--repeats", type=int, default=3, help="starts of either kind (default: 3)")
    parser.add_argument("--data_dir", default="data", help="folder of the built data sets")
    parser.add_argument("--out", type=Path, default=Path("benchmark_results"), help="folder of the results")
    options = parser.parse_args()
    command = [sys.executable, str(ROOT / "main.py"), f"--config={options.config}", f"--data_dir={options.data_dir}"]
    times: dict[str, list[float]] = {"empty": [], "kept": []}
    with tempfile.TemporaryDirectory() as folder:
        first_step_s(command, Path(folder, "unmeasured"), programs=Path(folder, "programs"))
        for repetition in range(options.repeats):
            for kind in times:
                workdir, programs = Path(folder, f"{kind}_{repetition}"), Path(folder, f"programs_{repetition}")
                times[kind].append(first_step_s(command, workdir, programs=programs))
    rows = [
        {
            "compiled programs": kind,
            "first step, s": float(np.median(taken)),
            "fastest": min(taken),
            "slowest": max(taken),
        }
        for kind, taken in times.items()
    ]
    result = {"config": options.config, "first_step_s": times, "help_s": [help_s() for _ in range(5)]}
    page = f"{options.config}\n\n{markdown_table(rows)}\n`msanet --help`: {np.median(result['help_s']):.2f} s\n"
    print(page)
    write_results(options.out, "start", data=result, page=page)


def first_step_s(command: list[str], workdir: Path, *, programs: Path) -> float:
    """Seconds from the start of the process to the first line of its history.

    Args:
      command: of the training, without its folder.
      workdir: a new folder.
      programs: where compiled programs are kept.

    Raises:
      RuntimeError: the command ended before its first step; its own message stands above.
    """
    environment = os.environ | {VARIABLE: str(programs)}
    history = workdir / "history.jsonl"
    begin = time.perf_counter()
    process = subprocess.Popen(
        [*command, f"--workdir={workdir}", "--config.train.log_every_steps=1"],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    try:
        while not (history.exists() and history.read_text().count("\n")):
            if process.poll() is not None:
                raise RuntimeError(f"the command ended with {process.returncode} before its first step")
            time.sleep(POLL_S)
        return time.perf_counter() - begin
    finally:
        process.kill()
        process.wait()


def help_s() -> float:
    """Seconds of `msanet --help`."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "msanet_jax", "--help"], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
