"""Where compiled programs outlive a process: compiling takes minutes on a CPU, finding a program a second."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def keep_compiled_programs() -> None:
    """Names JAX's folder of compiled programs, `~/.cache/msanet_jax`, unless the user named one; call it before JAX."""
    os.environ.setdefault(VARIABLE, str(Path.home() / ".cache" / "msanet_jax"))
