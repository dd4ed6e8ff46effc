"""msanet serve: a page on this machine on which scans are dropped."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

HELP = "open a page on this machine to drop scans on"
DESCRIPTION = (
    "Prints an address of this machine and opens it. Drop scans, a folder or a zip on the page. It shows "
    "both views with the lesions, recounts them at any threshold, and gives PNG, CSV, DICOM SEG and NIfTI. Nothing "
    "leaves the machine. Scans are removed when the command ends. Research software, not for diagnosis."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "models",
        nargs="*",
        type=Path,
        metavar="MODEL",
        help="folders of trainings or files of msanet export to choose from (default: the packaged model)",
    )
    parser.add_argument("--port", type=int, default=0, help="of 127.0.0.1 (default: a free one)")
    parser.add_argument("--no-browser", action="store_true", help="print the address, do not open it")
    parser.add_argument(
        "--forget-after",
        type=float,
        default=60.0,
        metavar="MINUTES",
        help="forget the scans when no page has been open for so long (default: 60)",
    )
    parser.add_argument("--debug", action="store_true", help="print where the program failed; may quote headers")


def run(options: argparse.Namespace) -> int:
    """Serves until it is stopped."""
    from data_pipeline.errors import ExitCode, RequestError

    if options.debug:
        logging.basicConfig(format="%(levelname)s %(message)s")
        logging.getLogger("msanet").setLevel(logging.DEBUG)
    if not 0 <= options.port < 65536 or not options.forget_after > 0:
        raise RequestError("--port must lie between 0 and 65535, and --forget-after above 0")
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise RequestError("the page needs FastAPI and uvicorn: pip install 'msanet-jax[web]'") from None
    from msanet_jax.web.server import serve

    serve(
        options.models,
        port=options.port,
        open_page=not options.no_browser,
        forget_after_s=60.0 * options.forget_after,
    )
    return ExitCode.DONE
