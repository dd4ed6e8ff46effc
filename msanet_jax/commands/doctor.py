"""msanet doctor: versions, devices and what is wrong with them."""

from __future__ import annotations

import argparse

HELP = "print versions, devices and what is wrong with them"
DESCRIPTION = HELP


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(options: argparse.Namespace) -> int:
    """Prints the report; 1 if it names a problem."""
    from msanet_jax.runtime.doctor import examine

    report = examine()
    print("\n".join(report.facts))
    for problem in report.problems:
        print(f"problem: {problem}")
    print(f"{len(report.problems)} problem(s)" if report.problems else "no problem found")
    return 1 if report.problems else 0
