"""Programs without the places of the code that made them: JAX notes the file names of the machine in every program."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

_VERSION = re.compile(rb"StableHLO_v(\d+\.\d+\.\d+)")


def without_places(exported: Any) -> bytes:
    """A `jax.export.Exported` as bytes, without source locations; it computes the same.

    The program keeps its version of StableHLO, so that the same versions of JAX read it.
    """
    from jax.extend import mlir
    from jax.extend.mlir import ir, passmanager

    module = bytes(exported.mlir_module_serialized)
    version = _VERSION.search(module[:64])
    assert version is not None
    with ir.Context():
        parsed = mlir.deserialize_portable_artifact(module)
        passmanager.PassManager.parse("builtin.module(strip-debuginfo)").run(parsed.operation)
        stripped = mlir.serialize_portable_artifact(parsed, version[1].decode())
    return bytes(dataclasses.replace(exported, mlir_module_serialized=stripped).serialize())
