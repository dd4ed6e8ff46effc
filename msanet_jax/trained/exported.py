"""The exported model, ready to use; running one needs JAX and NumPy, neither Flax, Optax and Orbax nor TensorFlow."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from data_pipeline.fields import FIELDS
from msanet_jax.evaluation.field_maps import Probability, resample
from msanet_jax.evaluation.results import Calibration
from msanet_jax.runs.model_file import (
    DEFAULT_MODEL,
    MAX_PROGRAM_BYTES,
    PROGRAM,
    has_weights,
    read_calibrations,
    read_manifest,
    read_member,
    read_member_recipe,
)
from msanet_jax.runtime.compiler_options import compiled, compiler_options
from msanet_jax.runtime.cores import images_a_piece, over_cores, usable_cores
from msanet_jax.runtime.unheard import computing
from msanet_jax.trained.admission import UnreadableError, admitted, try_elsewhere
from msanet_jax.trained.model import Model
from msanet_jax.trained.trial import one_line, too_large

LOG = logging.getLogger(__name__)

PLATFORMS = ("cpu", "cuda", "tpu")
_NAMES = {"gpu": "cuda"}
_ROUNDING = 1e-5


def load_exported(path: Path, *, trusted: bool = False) -> Model:
    """An exported model, ready to use on this machine's first device.

    The program of a file that is not `trusted` is first tried in another process (`admission`), which takes about two
    seconds, and again before it runs with another number of fields. If this JAX cannot run it, the function is built
    anew from the file's weights and recipe, with a warning.

    Args:
      path: of the file; `DEFAULT_MODEL` is trusted.
      trusted: written by this process.

    Raises:
      RequestError: as `read_manifest`; the program is not fit to be run; it is refused, and the file has no weights.
    """
    manifest = read_manifest(path)
    field, takes, gives = manifest["input"]["field"], manifest["input"]["shape"][1:], manifest["output"]["shape"][1:]
    if list(FIELDS.get(field, ())) != takes:
        raise RequestError(f"{path}: takes {field!r}, a field that this version does not know")
    if takes != gives and manifest["output"].get("grid", "network") != "network":
        raise RequestError(f"{path}: its probability is on a grid that this version does not know; update it")
    config = read_member_recipe(path)
    size = config.get("data", {}).get("image_size_px") if isinstance(config.get("data", {}), ConfigDict) else None
    if not isinstance(size, int) or size < 1 or takes[1] % size:
        raise RequestError(f"{path}: data.image_size_px={size} in its recipe is no side of {field}; export it again")
    calibrations = read_calibrations(path, manifest)
    return Model(
        probability=_probability(path, manifest, calibrations, trusted=trusted or path == DEFAULT_MODEL),
        field=field,
        image_size_px=size,
        threshold=float(manifest["threshold"]),
        batch_size=manifest["batch_size"],
        provenance={**manifest["provenance"], "file": path.name},
        config=config,
        calibration=calibrations[0] if len(calibrations) == 1 else None,
    )


def _probability(
    path: Path, manifest: dict[str, Any], calibrations: Sequence[Calibration | None], *, trusted: bool
) -> Probability:
    try:
        return _program(path, manifest, trusted=trusted)
    except UnreadableError as refusal:
        if not has_weights(path):
            raise RequestError(f"{path}: {refusal}; export it again") from None
        LOG.warning("%s: %s; it is built anew from the file's weights and recipe", path, refusal)
    from msanet_jax.trained.rebuilt import rebuilt  # Flax and Optax take seconds to load

    return rebuilt(path, calibrations)


def _program(path: Path, manifest: dict[str, Any], *, trusted: bool) -> Probability:
    """The file's program; what earlier versions left on the network's grid is enlarged to the field's."""
    import jax

    platform = jax.default_backend()
    if _NAMES.get(platform, platform) not in manifest["platforms"]:
        named = ", ".join(manifest["platforms"])
        raise UnreadableError(f"its program is for {named}, this machine's JAX runs on {platform}")
    program = read_member(path, PROGRAM, limit=MAX_PROGRAM_BYTES)
    takes, gives = manifest["input"]["shape"][1:], manifest["output"]["shape"][1:]
    exported = admitted(path, program, takes, gives, trusted=trusted)
    cores = usable_cores() if platform == "cpu" else 1
    function, lock = jax.jit(exported.call), threading.Lock()
    refused: list[str] = []

    @functools.cache
    def program_for(shape: tuple[int, ...]) -> Any:
        if not trusted and shape[0] > 1:  # with one field it has been tried
            try:
                try_elsewhere(path, program, shape)
            except (RequestError, UnreadableError) as error:
                # Not with fewer fields either: it may be made to do harm.
                refused.append(str(error) if isinstance(error, RequestError) else f"{path}: {error}; export it again")
                raise RequestError(refused[0]) from None
        with computing():
            made = compiled(function.lower(jax.ShapeDtypeStruct(shape, np.float32)), compiler_options())
        if reason := too_large(made, shape[0]):
            raise RequestError(f"{path}: its program is not run: {reason}")
        return made

    def run(fields: np.ndarray) -> np.ndarray:
        with lock:  # calls with one shape wait for one compilation
            if refused:
                raise RequestError(refused[0])
            call = program_for((images_a_piece(len(fields), cores), *fields.shape[1:]))
        with computing():
            return over_cores(lambda piece: np.asarray(call(piece)), fields, cores=cores)

    def probability(fields: np.ndarray) -> np.ndarray:
        try:
            maps = run(np.asarray(fields, np.float32))
        except RequestError:
            raise
        except Exception as error:
            raise RequestError(f"{path}: its program failed ({one_line(error)}); export it again") from error
        # Not a number is neither.
        if not bool(((maps >= -_ROUNDING) & (maps <= 1.0 + _ROUNDING)).all()):
            raise RequestError(f"{path}: its program gives values that are no probabilities; take another model")
        return np.asarray(resample(maps, tuple(takes)))

    return probability
