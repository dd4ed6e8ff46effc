"""What an earlier run of prediction left in a folder: nothing old may stay beside new results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_pipeline.errors import RequestError
from msanet_jax.prediction.run_file import INDEX_NAME, RUN_FILES, RUN_NAME

_RECORD_BYTES_MAX = 16 << 20
_HEAD_BYTES = 1024
_OUR_MARK = b'name="generator" content="msanet-jax"'


def earlier_files(folder: Path) -> list[Path]:
    """Files of earlier results, by the records that list them; a run that was cut short leaves records too."""
    found: set[Path] = {folder / name for name in RUN_FILES if name != INDEX_NAME or _is_our_index(folder / name)}
    for path in folder.glob("*.json"):
        content = _record(path)
        if path.name == RUN_NAME and "schema_version" in content:
            found |= {folder / name for name in _names(content.get("files"))}
        elif {"patient_pseudonym", "thorax_box_px", "files"} <= content.keys():
            found |= {path, *(folder / name for name in _names(content["files"]))}
        elif {"patient_pseudonym", "view_pairs", "view_rule"} <= content.keys():
            found |= {path, path.with_suffix(".html")}
    return sorted(path for path in found if path.is_file())


def clear_earlier(folder: Path, *, overwrite: bool) -> None:
    """Removes the results of an earlier run, if that is allowed.

    Raises:
      RequestError: there are some and `overwrite` is not said, or they cannot be removed; or the folder has an
        index.html of somebody else's.
    """
    if (folder / INDEX_NAME).exists() and not _is_our_index(folder / INDEX_NAME):
        raise RequestError(f"--out={folder}: has an {INDEX_NAME} of another program; choose another folder")
    if not (files := earlier_files(folder)):
        return
    if not overwrite:
        raise RequestError(
            f"--out={folder}: holds results of an earlier run ({files[0].name}...); choose another folder, or say "
            "--overwrite to replace them"
        )
    for file in files:
        try:
            file.unlink()
        except OSError as error:
            raise RequestError(f"{file}: cannot be removed ({error.strerror}); choose another --out") from None


def _is_our_index(path: Path) -> bool:
    """An index.html is no name of this program's alone: only one with its mark may be replaced."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return _OUR_MARK in file.read(_HEAD_BYTES)
    except OSError:
        return False


def _record(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > _RECORD_BYTES_MAX:
            return {}
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _names(listed: object) -> list[str]:
    """File names without a folder: a record may name nothing outside its own."""
    names = listed if isinstance(listed, list) else []
    return [name for name in names if isinstance(name, str) and name and Path(name).name == name]
