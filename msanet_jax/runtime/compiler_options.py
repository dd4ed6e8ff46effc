"""What XLA is asked when it compiles a network for a CPU, by version of jaxlib.

jaxlib 0.12 can give convolutions and matrix products to oneDNN (docs/performance.md has the gain). It cannot write such
a program to JAX's cache of compiled programs, so that each start compiles again, which takes longer than a few scans
gain: the user asks for it. The options go with
the programs of the networks, not into XLA_FLAGS: nothing else in the process changes, a GPU or TPU never sees them, an
option that a jaxlib does not know is an exception and not the end of the process, and JAX keeps compiled programs under
a key that the options are part of. An exported model does not hold them: it is compiled where it runs.
"""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Mapping
from typing import Any

VARIABLE = "MSANET_ONEDNN"
"""Set to 1, the options are given."""

Options = dict[str, bool | str]

ONEDNN: Options = {"xla_cpu_experimental_onednn_custom_call": True, "xla_cpu_experimental_ynn_fusion_type": ""}
"""Calls of oneDNN, and no fusions of YNNPACK, which would take the convolutions first."""

BY_VERSION: Mapping[str, Options] = {"0.12": ONEDNN}
"""By the first two numbers of jaxlib's version. Only those that were measured: the options are experimental."""

PROCESSORS = ("x86_64", "AMD64")


def chosen(*, jaxlib: str, backend: str, processor: str, environment: Mapping[str, str]) -> Options:
    """The options for these versions; none where the user did not ask for them, or set one of them in XLA_FLAGS.

    Example:
      >>> chosen(jaxlib="0.12.0.1", backend="cpu", processor="x86_64", environment={})
      {}
    """
    options = BY_VERSION.get(".".join(jaxlib.split(".")[:2]), {})
    theirs = any(name in environment.get("XLA_FLAGS", "") for name in options)
    if backend != "cpu" or processor not in PROCESSORS or environment.get(VARIABLE) != "1" or theirs:
        return {}
    return dict(options)


def compiler_options() -> Options:
    """Those of this process; the first call starts JAX."""
    import jax  # `msanet --help` does without

    return chosen(
        jaxlib=jax.lib.__version__,
        backend=jax.default_backend(),
        processor=platform.machine(),
        environment=os.environ,
    )


def compiled(lowered: Any, options: Options) -> Any:
    """`lowered.compile` with options; with any, the program is not written to JAX's cache.

    jaxlib fails at writing a program that calls oneDNN (std::bad_alloc), and JAX warns of that.
    """
    import jax

    if not options:
        return lowered.compile()
    name = "jax_persistent_cache_min_compile_time_secs"
    kept_from = getattr(jax.config, name)
    jax.config.update(name, float("inf"))
    try:
        return lowered.compile(compiler_options=options)
    finally:
        jax.config.update(name, kept_from)


def compiled_with_options(function: Any) -> Callable[..., Any]:
    """`function`, jitted or mapped, compiled with `compiler_options`; itself where that gives nothing.

    Args:
      function: its first argument is a state of one shape; it is compiled once for every shape of the last argument.
    """
    import jax

    options = compiler_options()
    # Not tried with several processes, of which each has a part of every array.
    if not options or jax.process_count() > 1:
        return function  # type: ignore[no-any-return]
    programs: dict[Any, Any] = {}
    lock = threading.Lock()

    def call(*arguments: Any) -> Any:
        state, *_, last = map(jax.tree.leaves, arguments)
        key = (getattr(state[0], "sharding", None), *((leaf.shape, str(leaf.dtype)) for leaf in last))
        with lock:  # pieces of one shape wait for one compilation
            if key not in programs:
                # A mapped function takes no options; `compile` does.
                programs[key] = compiled(function.lower(*arguments), options)
        return programs[key](*arguments)

    return call
