"""The msanet command: finds the subcommand in `msanet_jax.commands` and turns its errors into one line.

Exit codes: 0 everything done; 1 some files could not be used, the rest is done; 2 nothing done, one line says why.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import keyword
import sys
from collections.abc import Sequence

from data_pipeline.errors import RequestError
from msanet_jax.runtime.compile_cache import keep_compiled_programs

EXIT_USAGE = 2

COMMANDS = ("import", "check", "predict", "evaluate", "compare", "report", "experiment", "export", "doctor")
"""In the order of the help; each is a module of `msanet_jax.commands` (`import_`, since Python keeps the word)."""

_DESCRIPTION = """\
MSA-Net: segments bone metastases in bone scintigrams.

Research software, not for diagnosis. Networks are trained on simulated scans unless you train your own.
Training is `python main.py --config=configs/msanet.py --workdir=RUN`.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carries out a command line and returns its exit code."""
    options = _parser().parse_args(arguments)
    keep_compiled_programs()
    try:
        return int(options.run(options))
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
    for name in COMMANDS:
        module = importlib.import_module(f"msanet_jax.commands.{name}{'_' if keyword.iskeyword(name) else ''}")
        command = commands.add_parser(name, help=module.HELP, description=module.DESCRIPTION)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def _version() -> str:
    try:
        return importlib.metadata.version("msanet-jax")
    except importlib.metadata.PackageNotFoundError:
        return "unknown (not installed)"
