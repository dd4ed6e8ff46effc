"""msanet_run.json: what a run of prediction did, for programs; no date, no path, nothing that names a patient."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipeline.files import write_json
from msanet_jax.runtime.versions import versions

SCHEMA_VERSION = 1
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


def named_failures(failures: Sequence[Failure], *, anonymous: bool) -> list[dict[str, str]]:
    """`file` and `reason` of every failure, without folders; with `anonymous` files have numbers for names."""
    return [
        {"file": f"file {number}" if anonymous else failure.path.name, "reason": failure.reason}
        for number, failure in enumerate(failures, 1)
    ]


def write_run_file(
    out: Path,
    *,
    notice: str,
    settings: dict[str, Any],
    provenance: dict[str, Any],
    results: Sequence[Result],
    run_files: Sequence[str],
    failures: Sequence[Failure],
    left_out: int,
    seconds: float,
    anonymous: bool,
) -> None:
    """Writes msanet_run.json (docs/outputs.md has every key); with `anonymous`, failed files have numbers for names."""
    import jax

    device = jax.devices()[0]
    content = {
        "schema_version": SCHEMA_VERSION,
        "notice": notice,
        "settings": settings,
        "model": provenance,
        "versions": versions(),
        "python": platform.python_version(),
        "system": platform.system(),
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "seconds": round(seconds, 2),
        "scans": [dataclasses.asdict(result) for result in results],
        "files": list(run_files),
        "failures": named_failures(failures, anonymous=anonymous),
        "left_out": left_out,
    }
    write_json(out / RUN_NAME, content)
