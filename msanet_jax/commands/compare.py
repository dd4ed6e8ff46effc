"""msanet compare: paired differences of runs scored on the same patients."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_pipeline.text import printable

HELP = "compare runs patient by patient"
DESCRIPTION = (
    "Prints the paired differences of the runs to the first one, with 95 % intervals over patients and p values, "
    "Holm-corrected where several runs are compared (docs/metrics.md)."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folder with a metrics.json; first: reference"
    )
    parser.add_argument("--format", default="markdown", choices=("markdown", "json"), help="default: markdown")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table there instead of printing it")
    parser.add_argument("--scores", metavar="A,B", help="names of scores from metrics.json (default: the main ones)")


def run(options: argparse.Namespace) -> int:
    """Compares and prints."""
    from data_pipeline.files import write_text
    from msanet_jax.report.comparison_table import compare_folders

    scores = options.scores.split(",") if options.scores else None
    text = compare_folders(options.runs, scores=scores, style=options.format)
    if options.out is None:
        print(text)
    else:
        write_text(options.out, f"{text}\n")
        print(printable(str(options.out)))
    return 0
