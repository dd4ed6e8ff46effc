"""msanet doctor: versions, devices and what is wrong with them."""

from __future__ import annotations

import argparse

from data_pipeline.errors import ExitCode

HELP = "print versions, devices and what is wrong with them"
DESCRIPTION = HELP


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(options: argparse.Namespace) -> int:
    """Prints the findings; 1 if it names a problem."""
    from msanet_jax.runtime.doctor import examine

    findings = examine()
    print("\n".join(findings.facts))
    for problem in findings.problems:
        print(f"problem: {problem}")
    print(f"{len(findings.problems)} problem(s)" if findings.problems else "no problem found")
    return ExitCode.SOME_FAILED if findings.problems else ExitCode.DONE
