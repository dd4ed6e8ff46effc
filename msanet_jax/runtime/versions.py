"""Versions of the packages and of the source code."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path

PACKAGES = ("msanet-jax", "jax", "flax", "numpy", "pydicom")
"""Versions written into every record."""


def versions() -> dict[str, str | None]:
    """Installed versions of `PACKAGES`; None for what is not installed."""

    def version(package: str) -> str | None:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a source tree that is not installed
            return None

    return {package: version(package) for package in PACKAGES}


def source_commit() -> str | None:
    """Commit of the checkout this code runs from, `-dirty` where tracked files differ; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
