"""msanet report: scored runs as one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_pipeline.text import printable

HELP = "write scored runs as one HTML page"
DESCRIPTION = (
    "Writes one HTML page: scores with 95 % intervals, learning curves, FROC, precision-recall, calibration, "
    "DSC by lesion size, paired differences of several runs, and a gallery of cases with a threshold to try. Research "
    "software, not for diagnosis; scores on simulated scans are not comparable with scores on clinical ones."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folder with a metrics.json; first: headline and reference"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("report.html"), metavar="FILE", help="the page (default: report.html)"
    )


def run(options: argparse.Namespace) -> int:
    """Writes the page and prints its name."""
    from msanet_jax.report.page import write_report

    write_report(options.runs, options.out)
    print(printable(str(options.out)))
    return 0
