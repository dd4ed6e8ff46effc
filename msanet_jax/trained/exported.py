"""The exported model, ready to use; running one needs JAX and NumPy, neither Flax, Optax and Orbax nor TensorFlow."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from data_pipeline.errors import RequestError
from data_pipeline.fields import FIELDS
from msanet_jax.evaluation.field_maps import Probability, resample
from msanet_jax.runs.model_file import MAX_PROGRAM_BYTES, PROGRAM, has_weights, read_manifest, read_member, read_recipe
from msanet_jax.runtime.cores import over_cores, usable_cores
from msanet_jax.trained.model import Model

LOG = logging.getLogger(__name__)

PLATFORMS = ("cpu", "cuda", "tpu")
_NAMES = {"gpu": "cuda"}


def load_exported(path: Path) -> Model:
    """An exported model, ready to use on this machine's first device.

    Where this JAX refuses its program, the function is built anew from the file's weights and recipe, with a warning.

    Raises:
      RequestError: as `read_manifest`; or the program is refused, and the file has no weights.
    """
    manifest = read_manifest(path)
    try:
        platforms, sides = manifest["platforms"], (manifest["input"], manifest["output"])
        if list(FIELDS.get(sides[0]["field"], ())) != sides[0]["shape"][1:]:
            raise RequestError(f"{path}: takes {sides[0]['field']!r}, a field that this version does not know")
        shape = FIELDS[sides[0]["field"]]
        if list(shape) != sides[1]["shape"][1:] and sides[1].get("grid", "network") != "network":
            raise RequestError(f"{path}: its probability is on a grid that this version does not know; update it")
        config = read_recipe(path)
        return Model(
            probability=_probability(path, platforms, shape, members=len(manifest["parameters"])),
            field=sides[0]["field"],
            image_size_px=int(config.data.image_size_px),
            threshold=float(manifest["threshold"]),
            batch_size=int(manifest["batch_size"]),
            provenance={**manifest["provenance"], "file": path.name},
            config=config,
        )
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise RequestError(f"{path}: its manifest lacks {error}; export it again") from None


class _RefusedError(Exception):
    """A program that this JAX cannot run; the text says why."""


def _probability(path: Path, platforms: list[str], shape: tuple[int, int], *, members: int) -> Probability:
    try:
        return _program(path, platforms, shape)
    except _RefusedError as refusal:
        if not has_weights(path):
            raise RequestError(f"{path}: {refusal}; export it again") from None
        LOG.warning("%s: %s; it is built anew from the file's weights and recipe", path, refusal)
    from msanet_jax.trained.rebuilt import rebuilt  # Flax and Optax take seconds to load

    return rebuilt(path, members)


def _program(path: Path, platforms: list[str], shape: tuple[int, int]) -> Probability:
    """The file's program; what earlier versions left on the network's grid is enlarged to the field's."""
    import jax
    import jax.export

    platform = jax.default_backend()
    if _NAMES.get(platform, platform) not in platforms:
        raise _RefusedError(f"its program is for {', '.join(platforms)}, this machine's JAX runs on {platform}")
    program = bytearray(read_member(path, PROGRAM, limit=MAX_PROGRAM_BYTES))
    try:
        call = jax.jit(jax.export.deserialize(program).call)
        call.lower(jax.ShapeDtypeStruct((1, *shape), np.float32))  # a refusal comes here at the latest
    except Exception as error:  # flatbuffers and jaxlib raise many types
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise _RefusedError(f"its program cannot be read by JAX {jax.__version__} ({reason})") from None

    cores = usable_cores() if platform == "cpu" else 1

    def probability(fields: np.ndarray) -> np.ndarray:
        maps = over_cores(lambda piece: np.asarray(call(piece)), np.asarray(fields, np.float32), cores=cores)
        return np.asarray(resample(maps, shape))

    return probability
