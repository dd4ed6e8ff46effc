"""The tests of one fault, in a process of their own in which third-party packages are imported already."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def run_tests(tests: tuple[str, ...], copy: Path) -> None:
    """Runs tests of a copy in silence and exits with pytest's code."""
    os.setsid()  # what the tests start ends with them
    os.chdir(copy)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    # Programs that no fault has changed are compiled once in each copy. No bytecode: a fault may keep a file's size and
    # second.
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": f"{copy}-compiled",
        "PYTHONPATH": str(copy),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(copy))
    for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
        del sys.modules[name]  # of the working tree, not of the copy

    import pytest

    sys.exit(pytest.main(["-n0", "-x", "-q", "-p", "no:cacheprovider", *tests]))
