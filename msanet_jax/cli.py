"""The msanet command: finds the subcommand in `msanet_jax.commands` and turns its errors into one line.

`data_pipeline.errors.ExitCode` lists how it ends.
"""

from __future__ import annotations

import argparse
import importlib
import keyword
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipeline.errors import ExitCode, RequestError
from data_pipeline.files import too_long_name
from data_pipeline.text import as_line, show_undecodable_names
from msanet_jax.runtime.compile_cache import keep_compiled_programs
from msanet_jax.runtime.stopping import Stopped, say_no_more, stopping
from msanet_jax.runtime.unheard import ended_when_unheard
from msanet_jax.runtime.versions import VERSION

COMMANDS = ("import", "check", "predict", "serve", "evaluate", "compare", "report", "experiment", "export", "doctor")
"""In the order of the help; each is a module of `msanet_jax.commands` (`import_`, since Python keeps the word)."""

_DESCRIPTION = """\
MSA-Net: segments bone metastases in bone scintigrams.

Research software, not for diagnosis. Networks are trained on simulated scans unless you train your own.
Training is `python main.py --config=configs/msanet.py --workdir=RUN`.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code."""
    show_undecodable_names()
    try:
        try:
            return _carry_out(_parser().parse_args(arguments))
        finally:
            sys.stdout.flush()  # so that a closed pipe shows here, and not when Python ends
    except BrokenPipeError:
        say_no_more()
        return ExitCode.UNREAD


def _carry_out(options: argparse.Namespace) -> int:
    keep_compiled_programs()
    # Orbax reports every checkpoint through absl, for its developers; messages of this project do not go that way.
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        with stopping(), ended_when_unheard():
            return int(options.run(options))
    except (RequestError, OSError) as error:
        reason = str(error) if isinstance(error, RequestError) else too_long_name(error)
        if reason is None:
            raise
        print(f"msanet {options.command}: {as_line(reason)}", file=sys.stderr)
        return ExitCode.REFUSED
    except Stopped as stop:
        print(f"msanet {options.command}: stopped by {stop.name}", file=sys.stderr)
        return 128 + stop.number
    except KeyboardInterrupt:
        print(f"msanet {options.command}: interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED


class _PrintCompletion(argparse.Action):
    """Prints a shell's completion script, in which sources and folders complete to files."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        import shtab

        parsers = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        for command in parsers[0].values():
            for action in command._actions:
                if action.type is Path:
                    action.complete = shtab.FILE  # type: ignore[attr-defined]
        print(shtab.complete(parser, shell=values))
        parser.exit(ExitCode.DONE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="msanet", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--print-completion",
        choices=("bash", "zsh", "tcsh"),
        action=_PrintCompletion,
        help="print the shell's completion script (docs/getting_started.md)",
    )
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"msanet_jax.commands.{name}{'_' if keyword.iskeyword(name) else ''}")
        command = commands.add_parser(name, help=module.HELP, description=module.DESCRIPTION)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser
