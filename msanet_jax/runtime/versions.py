"""Versions of the packages and of the source code."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

IN_RECORDS = ("msanet-jax", "jax", "flax", "numpy", "pydicom")
"""Packages whose versions are written into every record of a prediction."""


@functools.cache
def version(package: str) -> str | None:
    """Installed version of a package; None where it is not installed, as in a source tree."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


VERSION = version("msanet-jax") or "unknown (not installed)"
"""Of this package."""


def versions(packages: Sequence[str] = IN_RECORDS) -> dict[str, str | None]:
    """Installed versions by package."""
    return {package: version(package) for package in packages}


def source_commit() -> str | None:
    """Commit of the checkout this code runs from, `-dirty` where tracked files differ; None outside a checkout."""
    import subprocess  # rarely needed, and every import of this package comes by here

    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
