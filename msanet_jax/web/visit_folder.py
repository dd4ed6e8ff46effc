"""A private folder for the time of a visit: gone at its end, and after a crash, too."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.files import private_folder

_REMOVER = "import shutil, sys; sys.stdin.read(); shutil.rmtree(sys.argv[1], ignore_errors=True)"


@contextlib.contextmanager
def visit_folder() -> Iterator[Path]:
    """Yields a new folder that only this user can read.

    A small process waits for the end of this one, however it ends (SIGKILL, no memory), and removes the folder then.
    """
    with private_folder(prefix="msanet-serve-") as folder:
        command = [sys.executable, "-I", "-c", _REMOVER, str(folder)]
        remover = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        try:
            yield folder
        finally:
            remover.communicate()  # closes its input
