"""msanet experiment: trains and scores the models of a study, then writes its table."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

from data_pipeline.errors import ExitCode, RequestError

HELP = "train and compare the models of an experiment file"
DESCRIPTION = (
    "Trains and scores the models of an experiment file such as experiments/paper_table.py, one after the other or one "
    "on each device. Writes results.md, results.csv and results.json. Run the same command again to continue an "
    "interrupted study. Finished runs are kept; failed runs are tried again. Exit codes: 1 some runs failed, 75 "
    "stopped by a signal and saved."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="experiment file, e.g. experiments/paper_table.py")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--workdir", type=Path, metavar="DIR", help="folder of the study")
    where.add_argument("--plan", action="store_true", help="only print the plan of a study of pairs, with its power")
    parser.add_argument("--data_dir", default=Path("data"), type=Path, metavar="DIR", help="folder of the data sets")
    parser.add_argument(
        "--devices", default="", metavar="A,B", help="a process on each: numbers of GPUs, or cpu0,cpu1,... for cores"
    )
    parser.add_argument("--table", action="store_true", help="only write the table of the finished runs")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    """Trains what is missing and writes the table; 1 if runs failed, 75 if stopped."""
    from msanet_jax.experiment.pairs import plan_text, write_pair_results
    from msanet_jax.experiment.runner import StudyInterrupted, alone, carry_out, environment
    from msanet_jax.experiment.study import Journal, read_study
    from msanet_jax.experiment.table import write_results

    study = read_study(options.file)
    if options.plan:
        if not study.pairs:
            raise RequestError(f"{options.file}: --plan is for studies of pairs; this one has folds and seeds")
        print(plan_text(study))
        return ExitCode.DONE
    devices = options.devices.split(",")
    for device in devices:
        environment(device)
    failed, code = [], ExitCode.DONE
    with contextlib.nullcontext() if options.table else alone(options.workdir):
        journal = Journal(options.workdir, study)
        try:
            if not options.table:
                failed = carry_out(
                    study,
                    journal,
                    workdir=options.workdir,
                    data_dir=options.data_dir,
                    devices=devices,
                    progress=not options.quiet,
                )
        except StudyInterrupted as event:
            print(f"msanet experiment: {event}", file=sys.stderr)
            code = ExitCode.PREEMPTED
    content = (write_pair_results if study.pairs else write_results)(study, journal, workdir=options.workdir)
    print((options.workdir / "results.md").read_text(encoding="utf-8"))
    unfinished = sum(model["runs_planned"] - model["runs_finished"] for model in content["models"])
    if unfinished:
        print(f"{unfinished} run(s) of the table are missing", file=sys.stderr)
    return code or (ExitCode.SOME_FAILED if failed else ExitCode.DONE)
