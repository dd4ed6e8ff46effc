"""Where compiled programs outlive a process: compiling takes minutes on a CPU, finding a program a second."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def keep_compiled_programs() -> None:
    """Names JAX's folder of compiled programs, `~/.cache/msanet_jax`, unless the user named one; call it before JAX.

    A user without a home, as in some containers, has none.
    """
    if VARIABLE not in os.environ:
        with contextlib.suppress(RuntimeError):
            os.environ[VARIABLE] = str(Path.home() / ".cache" / "msanet_jax")
