"""msanet_run.json: what a run of prediction did, for programs; no date, no path, nothing that names a patient."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from data_pipeline.files import write_json
from data_pipeline.reading import Count, Finite
from data_pipeline.text import printable
from msanet_jax.runtime.versions import versions

SCHEMA_VERSION: Final = 1
RUN_NAME, PREVIEW_NAME, TABLE_NAME = "msanet_run.json", "msanet_preview.png", "msanet_lesions.csv"
SCANS_NAME, INDEX_NAME = "msanet_scans.csv", "index.html"
RUN_FILES = (RUN_NAME, PREVIEW_NAME, TABLE_NAME, SCANS_NAME, INDEX_NAME)


@dataclasses.dataclass(frozen=True)
class Failure:
    """A file that gave no result.

    Attributes:
      path: as it was named or found.
      reason: one line without any name or path.
    """

    path: Path
    reason: str


@dataclasses.dataclass(frozen=True)
class Result:
    """A scan that was segmented.

    Attributes:
      stem: of its files.
      patient: pseudonym.
      view: which side.
      files: names in the output folder.
    """

    stem: str
    patient: str
    view: str
    files: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A file that gave no result, by its name without folders, and why; in an anonymous run it has a number."""

    file: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the scans were segmented."""

    threshold: float
    formats: tuple[str, ...]
    anonymous: bool
    compared: bool


@dataclasses.dataclass(frozen=True)
class Device:
    """What the model ran on."""

    platform: str
    kind: str
    count: Count


@dataclasses.dataclass(frozen=True)
class RunFile:
    """What msanet_run.json holds (docs/outputs.md has every key)."""

    schema_version: Literal[1]
    notice: str
    settings: Settings
    model: dict[str, Any]
    versions: dict[str, str | None]
    python: str
    system: str
    device: Device
    seconds: Finite
    scans: tuple[Result, ...]
    files: tuple[str, ...]
    failures: tuple[Skipped, ...]
    left_out: Count


def skipped(failures: Sequence[Failure], *, anonymous: bool) -> tuple[Skipped, ...]:
    """Failures as they are told to others."""
    return tuple(
        Skipped(f"file {number}" if anonymous else printable(failure.path.name), printable(failure.reason))
        for number, failure in enumerate(failures, 1)
    )


def write_run_file(
    out: Path,
    *,
    notice: str,
    settings: Settings,
    provenance: dict[str, Any],
    results: Sequence[Result],
    run_files: Sequence[str],
    failures: Sequence[Failure],
    left_out: int,
    seconds: float,
) -> None:
    """Writes msanet_run.json."""
    import jax

    device = jax.devices()[0]
    content = RunFile(
        schema_version=SCHEMA_VERSION,
        notice=notice,
        settings=settings,
        model=provenance,
        versions=versions(),
        python=platform.python_version(),
        system=platform.system(),
        device=Device(device.platform, device.device_kind, jax.device_count()),
        seconds=round(seconds, 2),
        scans=tuple(results),
        files=tuple(run_files),
        failures=skipped(failures, anonymous=settings.anonymous),
        left_out=left_out,
    )
    write_json(out / RUN_NAME, content)
