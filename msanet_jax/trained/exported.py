"""The exported model: a zip with a compiled-for-anywhere program and all that should travel with it.

Running one needs JAX, NumPy and this module; neither Flax, Optax and Orbax nor TensorFlow.

    manifest.json     what goes in and out, threshold, versions, where it comes from
    program.jax       jax.export artefact (StableHLO) for cpu, cuda and tpu, weights included
    config_N.json     recipe of member N
    metrics_N.json    its scores, where the run has any
    data_card.md      the data it was trained on
    model_card.md     what it is, its scores and limits
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from data_pipeline.fields import FIELDS
from msanet_jax.evaluation.field_maps import Probability, resample
from msanet_jax.runs.recipe import recipe_from_text
from msanet_jax.runtime.cores import over_cores, usable_cores
from msanet_jax.trained.model import Model

FORMAT_VERSION = 1
PLATFORMS = ("cpu", "cuda", "tpu")
MANIFEST, PROGRAM = "manifest.json", "program.jax"
MAX_PROGRAM_BYTES = 4 << 30
MAX_TEXT_BYTES = 64 << 20
_NAMES = {"gpu": "cuda"}

DEFAULT_MODEL = Path(__file__).with_name("default.msanet")
"""Shipped with the package where it was released with one."""


def default_model() -> Path:
    """The model that came with this installation.

    Raises:
      RequestError: it came without one.
    """
    if not DEFAULT_MODEL.is_file():
        raise RequestError(
            "this installation has no model of its own; name one: --checkpoint=RUN (train it: python main.py "
            "--config=configs/msanet.py:cpu --workdir=RUN) or --model=FILE.msanet (msanet export)"
        )
    return DEFAULT_MODEL


def read_manifest(path: Path) -> dict[str, Any]:
    """manifest.json of an exported model.

    Raises:
      RequestError: no such file, no exported model, damaged, or of a newer format.
    """
    manifest = json.loads(read_member(path, MANIFEST, limit=MAX_TEXT_BYTES))
    if manifest.get("format") != "msanet" or not isinstance(manifest.get("format_version"), int):
        raise RequestError(f"{path}: is not an exported model; make one with msanet export")
    if manifest["format_version"] > FORMAT_VERSION:
        raise RequestError(
            f"{path}: format {manifest['format_version']} is newer than this version of msanet-jax; update it"
        )
    return manifest


def read_member(path: Path, name: str, *, limit: int) -> bytes:
    """A member of the zip.

    Raises:
      RequestError: the file cannot be read, is not a zip, lacks the member, or the member exceeds `limit` bytes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(name).file_size > limit:
                raise RequestError(f"{path}: {name} is larger than any model; the file is not used")
            return archive.read(name)
    except FileNotFoundError:
        raise RequestError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise RequestError(f"{path}: is a folder; a run's folder goes to --checkpoint") from None
    except (zipfile.BadZipFile, EOFError, KeyError):
        raise RequestError(f"{path}: is not an exported model, or damaged; make one with msanet export") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror})") from None


def read_recipe(path: Path) -> ConfigDict:
    """The recipe of an exported model's first member; raises as `read_member`."""
    return recipe_from_text(read_member(path, "config_0.json", limit=MAX_TEXT_BYTES).decode("utf-8"))


def load_exported(path: Path) -> Model:
    """An exported model, ready to use on this machine's first device.

    Raises:
      RequestError: as `read_manifest`; or the model is not for this kind of device.
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
            probability=_program(path, platforms, shape),
            field=sides[0]["field"],
            image_size_px=int(config.data.image_size_px),
            threshold=float(manifest["threshold"]),
            batch_size=int(manifest["batch_size"]),
            provenance={**manifest["provenance"], "file": path.name},
            config=config,
        )
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise RequestError(f"{path}: its manifest lacks {error}; export it again") from None


def _program(path: Path, platforms: list[str], shape: tuple[int, int]) -> Probability:
    """The file's program; what earlier versions left on the network's grid is enlarged to the field's."""
    import jax
    import jax.export

    platform = jax.default_backend()
    if _NAMES.get(platform, platform) not in platforms:
        raise RequestError(f"{path}: is for {', '.join(platforms)}, this machine's JAX runs on {platform}")
    program = bytearray(read_member(path, PROGRAM, limit=MAX_PROGRAM_BYTES))
    try:
        call = jax.jit(jax.export.deserialize(program).call)
    except Exception as error:  # flatbuffers and jaxlib raise many types
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise RequestError(
            f"{path}: its program cannot be read by JAX {jax.__version__} ({reason}); export it again"
        ) from None

    cores = usable_cores() if platform == "cpu" else 1

    def probability(fields: np.ndarray) -> np.ndarray:
        maps = over_cores(lambda piece: np.asarray(call(piece)), np.asarray(fields, np.float32), cores=cores)
        return np.asarray(resample(maps, shape))

    return probability
