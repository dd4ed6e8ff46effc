"""Results as JSON and Markdown files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.files import write_json, write_text


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table with the keys of the first row as its head; floats in three significant digits."""
    if not rows:
        return ""
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(row.get(key, "")) for key in head) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def write_results(folder: Path, name: str, *, data: Any, page: str) -> tuple[Path, Path]:
    """Writes `name`.json and `name`.md and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"{name}.json", folder / f"{name}.md"
    write_json(paths[0], data)
    write_text(paths[1], page)
    return paths


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
