"""The file of an exported model: a zip with a compiled-for-anywhere program and all that should travel with it.

manifest.json          what goes in and out, threshold, versions, where it comes from
program.jax            jax.export artefact (StableHLO) for cpu, cuda and tpu, weights included
config_N.json          recipe of member N
weights_N.safetensors  its weights and running statistics by name; files of earlier versions lack them
metrics_N.json         its scores, where the run has any
data_card.md           the data it was trained on
model_card.md          what it is, its scores and limits
"""

from __future__ import annotations

import dataclasses
import errno
import zipfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from ml_collections import ConfigDict
from msgspec import Meta

from data_pipeline.errors import RequestError
from data_pipeline.reading import as_record, is_bomb, parse_json
from msanet_jax.evaluation.results import Calibration
from msanet_jax.runs.recipe import recipe_from_text

FORMAT_VERSION = 1
MANIFEST, PROGRAM = "manifest.json", "program.jax"
MAX_PROGRAM_BYTES = 1 << 30
"""Of the program and of the weights."""
MAX_TEXT_BYTES = 1 << 20
"""Of the manifest and of a recipe, which are 100 times smaller; parsed, JSON can take 50 times its size."""
MAX_BATCH = 4096

_Side = Annotated[int, Meta(gt=0, le=1 << 16)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Array:
    shape: tuple[Literal["b"], _Side, _Side]
    dtype: Literal["float32"] = "float32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Input(_Array):
    field: str


@dataclasses.dataclass(frozen=True)
class _Provenance:
    step: int = 0


@dataclasses.dataclass(frozen=True)
class _Manifest:
    """What a manifest must hold to be used; what else it says is told and not needed."""

    platforms: list[str]
    input: _Input
    output: _Array
    threshold: Annotated[float, Meta(gt=0, lt=1)]
    batch_size: Annotated[int, Meta(gt=0, le=MAX_BATCH)]
    parameters: list[Annotated[int, Meta(gt=0)]]
    provenance: _Provenance
    calibrations: list[Calibration | None] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        if self.calibrations and len(self.calibrations) != len(self.parameters):
            raise ValueError("`calibrations` has not one entry a network")


DEFAULT = "default"
"""Names the model that came with this installation."""
DEFAULT_MODEL = Path(__file__).parents[1] / "trained" / "default.msanet"
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


def model_path(source: str | Path) -> Path:
    """The file of `default` or of a path; raises as `default_model`."""
    return default_model() if str(source) == DEFAULT else Path(source)


def read_manifest(path: Path) -> dict[str, Any]:
    """manifest.json of an exported model.

    Raises:
      RequestError: no such file, no exported model, damaged, or of a newer format.
    """
    text, where = read_member(path, MANIFEST, limit=MAX_TEXT_BYTES).decode("utf-8", "replace"), f"{path}: {MANIFEST}"
    manifest: Any = parse_json(text, Any, where=where, remedy="the file is damaged: copy it again")
    ours = isinstance(manifest, dict) and manifest.get("format") == "msanet"
    if not ours or not isinstance(manifest.get("format_version"), int):
        raise RequestError(f"{path}: is not an exported model; make one with msanet export")
    if manifest["format_version"] > FORMAT_VERSION:
        raise RequestError(
            f"{path}: format {manifest['format_version']} is newer than this version of msanet-jax; update it"
        )
    as_record(manifest, _Manifest, where=where, remedy="export it again")
    return dict(manifest)


def read_calibrations(path: Path, manifest: dict[str, Any]) -> list[Calibration | None]:
    """The calibration of each of a model's networks, which its program contains; earlier versions have none.

    Args:
      path: for messages.
      manifest: of `read_manifest`.
    """
    found = manifest.get("calibrations") or [None] * len(manifest["parameters"])
    where = f"{path}: {MANIFEST}: calibrations"
    checked: list[Calibration | None] = as_record(
        found, list[Calibration | None], where=where, remedy="export it again"
    )
    return checked


def read_member(path: Path, name: str, *, limit: int) -> bytes:
    """A member of the zip.

    Raises:
      RequestError: the file cannot be read, is not a zip, lacks the member, or the member exceeds `limit` bytes.
    """
    try:
        if path.is_dir():
            raise RequestError(f"{path}: is a folder; a run's folder goes to --checkpoint")
        if path.exists() and not path.is_file():
            raise RequestError(f"{path}: a device, pipe or socket, no file; name a file")
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(name)
            if member.file_size > limit or is_bomb([member]):
                raise RequestError(f"{path}: {name} is larger than any model; the file is not used")
            return archive.read(name)
    except RequestError:
        raise
    except FileNotFoundError:
        raise RequestError(f"{path}: no such file") from None
    except Exception as error:  # every method of packing has its own faults
        # EINVAL is not the disk's: a damaged directory points to before the file's begin.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise RequestError(f"{path}: cannot be read ({error.strerror or type(error).__name__})") from None
        raise RequestError(f"{path}: is not an exported model, or damaged; make one with msanet export") from None


def read_member_recipe(path: Path, member: int = 0) -> ConfigDict:
    """The recipe of one of an exported model's members; raises as `read_member`."""
    text = read_member(path, f"config_{member}.json", limit=MAX_TEXT_BYTES)
    return recipe_from_text(text.decode("utf-8", "replace"), where=f"{path}: config_{member}.json")


def weights_name(member: int) -> str:
    """Name in the zip of a member's weights."""
    return f"weights_{member}.safetensors"


def has_weights(path: Path) -> bool:
    """Whether a readable model carries weights next to its program; those of earlier versions do not."""
    with zipfile.ZipFile(path) as archive:
        return weights_name(0) in archive.namelist()


def read_weights(path: Path, member: int = 0) -> dict[str, np.ndarray]:
    """Weights of one of an exported model's members by name; raises as `read_member`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(read_member(path, weights_name(member), limit=MAX_PROGRAM_BYTES))
    except RequestError:
        raise
    except (SafetensorError, ValueError, KeyError) as error:
        raise RequestError(f"{path}: {weights_name(member)} is damaged ({error}); take another copy") from None
