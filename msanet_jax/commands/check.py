"""msanet check: what is in a data set, and what is wrong with it."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_pipeline.errors import ExitCode
from data_pipeline.text import printable

HELP = "check a data set: figures, problems, a page of thumbnails"
DESCRIPTION = (
    "Checks a folder made by `msanet import`. Prints each problem and what to do, and writes check.json and check.html "
    "into the folder. Exit codes: 0 no problem, 1 problems found, 2 the folder cannot be read."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="folder of `msanet import`")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of check.json and check.html (default: DATASET)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar; problems only")


def run(options: argparse.Namespace) -> int:
    """Checks; 1 if there is a problem."""
    from data_pipeline.intake.checking.check import check_data_set
    from data_pipeline.intake.checking.check_page import describe, write_check

    report = check_data_set(options.dataset, progress=not options.quiet)
    out = options.dataset if options.out is None else options.out
    write_check(report, out)
    for problem in report.problems:
        print(printable(problem.line()))
    if not options.quiet:
        print(describe(report))
        print(printable(f"{out / 'check.html'}, {out / 'check.json'}"))
    return ExitCode.SOME_FAILED if report.problems else ExitCode.DONE
