"""The msanet command. Each subcommand is one function pair: its arguments and its work, imported when it runs.

Exit codes: 0 everything done; 1 some files could not be used, the rest is done; 2 nothing done, one line says why.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from data_pipeline.errors import RequestError

EXIT_SOME_FAILED = 1
EXIT_USAGE = 2

_DESCRIPTION = """\
MSA-Net: segments bone metastases in bone scintigrams.

Research software, not for diagnosis. Networks are trained on simulated scans unless you train your own.
Training is `python main.py --config=configs/msanet.py --workdir=RUN`.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carries out a command line and returns its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    work: Callable[[argparse.Namespace], int] = options.work
    try:
        return work(options)
    except RequestError as error:
        print(f"msanet {options.command}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print(f"msanet {options.command}: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="msanet", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_predict(commands)
    _add_doctor(commands)
    return parser


def _add_predict(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "predict",
        help="segment scans with a trained network",
        description="Writes STEM_mask.png, STEM_probability.npy, STEM_overlay.png and STEM.json for every scan. "
        "Files of the same stem become STEM, STEM-2, ... in the order given; a file with two views becomes "
        "STEM_anterior and STEM_posterior.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="DICOM (NM), PNG, JPEG, TIFF or NPY")
    parser.add_argument("--checkpoint", required=True, type=Path, metavar="RUN", help="folder of a training")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the results")
    parser.add_argument("--threshold", type=float, help="probability above which a pixel is lesion (default: recipe's)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    parser.set_defaults(work=_predict)


def _predict(options: argparse.Namespace) -> int:
    # What orbax tells its developers is no news for users; what this project says goes through.
    logging.getLogger("absl").setLevel(logging.ERROR)
    from msanet_jax.predict import predict_files

    outcome = predict_files(
        options.files,
        checkpoint=options.checkpoint,
        out=options.out,
        threshold=options.threshold,
        progress=not options.quiet,
    )
    if not options.quiet:
        failed = f", {len(outcome.failed)} file(s) passed over" if outcome.failed else ""
        print(f"{len(outcome.written)} scan(s) segmented into {options.out}{failed}. Not for diagnosis.")
    return EXIT_SOME_FAILED if outcome.failed else 0


def _add_doctor(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("doctor", help="print versions, devices and what is wrong with them")
    parser.set_defaults(work=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from msanet_jax.doctor import examine

    report = examine()
    print("\n".join(report.facts))
    for problem in report.problems:
        print(f"problem: {problem}")
    print(f"{len(report.problems)} problem(s)" if report.problems else "no problem found")
    return EXIT_SOME_FAILED if report.problems else 0


def _version() -> str:
    try:
        return importlib.metadata.version("msanet-jax")
    except importlib.metadata.PackageNotFoundError:
        return "unknown (not installed)"
