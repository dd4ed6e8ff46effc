"""Tries an exported program in a process of its own, which may die, hang or fill its memory without harm to the caller.

Run as a file, with JAX alone, for some seconds at most: the program comes on stdin; `{}`, `{"problem": ...}` or
`{"unreadable": ...}` leaves on stdout. JAX parses, compiles and runs programs in C++, where damaged or malicious bytes
can end the process; so none of that is done anywhere else first.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from typing import Any

_OPERATIONS = """
abs add and cbrt ceil clamp compare convert cosine divide exponential exponential_minus_one floor is_finite log
log_plus_one logistic maximum minimum multiply negate not or power remainder round_nearest_afz round_nearest_even
rsqrt select sign sine sqrt subtract tan tanh xor
constant iota dynamic_iota broadcast_in_dim dynamic_broadcast_in_dim concatenate reshape dynamic_reshape transpose
reverse slice real_dynamic_slice dynamic_slice dynamic_update_slice pad dynamic_pad gather dynamic_gather
get_dimension_size optimization_barrier
convolution dynamic_conv dot_general reduce reduce_window case if return custom_call
"""
OPERATIONS = frozenset(_OPERATIONS.split())
"""What a network is made of. Nothing in it loops, draws, communicates or writes, so every program ends."""

CUSTOM_CALLS = frozenset({"shape_assertion"})
"""Of the calls into other code: those that jax.export itself writes, and resolves before anything runs."""

_DIALECTS = {"builtin": {"module"}, "func": {"func", "call", "return"}, "stablehlo": OPERATIONS}
MAX_BYTES_A_FIELD = 512 << 20
"""Of temporary memory; the full recipe takes a tenth."""


def objection(serialized: bytes) -> str:
    """Why a StableHLO module is not to be run; nothing if it may be."""
    from jax.extend import mlir
    from jax.extend.mlir import ir

    found: list[str] = []

    def look(operation: Any) -> Any:
        dialect, _, name = str(operation.name).partition(".")
        if name not in _DIALECTS.get(dialect, ()):
            found.append(f"it uses {operation.name}, which no network needs")
        elif name == "custom_call":
            target = ir.StringAttr(operation.attributes["call_target_name"]).value
            if target not in CUSTOM_CALLS:
                found.append(f"it calls {target}, code outside of the program")
        return ir.WalkResult.INTERRUPT if found else ir.WalkResult.ADVANCE

    with ir.Context():
        mlir.deserialize_portable_artifact(serialized).operation.walk(look)
    return found[0] if found else ""


def too_large(compiled: Any, fields: int) -> str:
    """Why a compiled program is not to be run for its memory; nothing if it may be, or if the device does not tell."""
    needed = getattr(compiled.memory_analysis(), "temp_size_in_bytes", 0)
    if needed <= fields * MAX_BYTES_A_FIELD:
        return ""
    return f"it needs {needed / 2**20:.0f} MiB for {fields} field(s); {MAX_BYTES_A_FIELD >> 20} MiB each are allowed"


def tried(program: bytes, options: dict[str, bool | str], shape: Sequence[int]) -> dict[str, str]:
    """Parses, compiles (with the options of the caller) and runs a program; what is wrong, or nothing.

    Args:
      program: a jax.export artefact.
      options: of XLA.
      shape: of what goes in, the number of fields first.
    """
    import jax
    import jax.export
    import numpy as np

    try:
        exported = jax.export.deserialize(bytearray(program))
        if reason := objection(exported.mlir_module_serialized):
            return {"problem": reason}
        if "cpu" not in exported.platforms:
            return {}
        field = (np.arange(np.prod(shape[1:])) % 31).reshape(shape[1:]).astype(np.float32)
        counts = np.repeat(field[None], shape[0], axis=0)
        lowered = jax.jit(exported.call).lower(counts)
    except Exception as error:  # flatbuffers and jaxlib raise many types
        return {"unreadable": unreadable(error)}
    try:
        compiled = lowered.compile(compiler_options=options)
        if reason := too_large(compiled, shape[0]):
            return {"problem": reason}
        np.asarray(compiled(counts))
    except Exception as error:
        return {"problem": f"it fails ({one_line(error)})"}
    return {}


def unreadable(error: BaseException) -> str:
    """The words for a program that JAX refuses."""
    import jax

    return f"its program cannot be read by JAX {jax.__version__} ({one_line(error)})"


def one_line(error: BaseException) -> str:
    """The first line of an error, shortened; libraries quote whole modules."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


if __name__ == "__main__":
    signal.alarm(int(sys.argv[1]))  # also where the caller is killed and no longer watches
    print(json.dumps(tried(sys.stdin.buffer.read(), json.loads(sys.argv[2]), [int(side) for side in sys.argv[3:]])))
