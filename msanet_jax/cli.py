"""The msanet command: finds the subcommand in `msanet_jax.commands` and turns its errors into one line.

Exit codes: 0 everything done; 1 some files could not be used, the rest is done; 2 nothing done, one line says why.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import keyword
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType

from data_pipeline.errors import RequestError
from data_pipeline.text import printable
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
        with _stopping():
            return int(options.run(options))
    except RequestError as error:
        print(f"msanet {options.command}: {printable(str(error))}", file=sys.stderr)
        return EXIT_USAGE
    except Stopped as stop:
        print(f"msanet {options.command}: stopped by {stop.name}", file=sys.stderr)
        return 128 + stop.number
    except KeyboardInterrupt:
        print(f"msanet {options.command}: interrupted", file=sys.stderr)
        return 130


class Stopped(BaseException):
    """The process was told to end; what was unpacked or half-written is removed on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number, self.name = number, signal.Signals(number).name


@contextlib.contextmanager
def _stopping() -> Iterator[None]:
    """Turns SIGTERM and SIGHUP into `Stopped`, unless somebody handles them already or asked for them to be ignored."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    own = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        own = []
    for number in own:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in own:
            signal.signal(number, signal.SIG_DFL)


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
