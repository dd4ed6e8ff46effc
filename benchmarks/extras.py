"""What a benchmark needs beyond the package, asked for after `--help` and before any work."""

from __future__ import annotations

import argparse
import importlib.util


def require(parser: argparse.ArgumentParser, *modules: str, extra: str) -> None:
    """Ends the program with code 2 and one line where one of the modules is not installed.

    Args:
      parser: names the program.
      modules: top-level modules.
      extra: the extra of setup.py that brings them.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        parser.error(f"not installed: {', '.join(missing)}; pip install -e '.[{extra}]'")
