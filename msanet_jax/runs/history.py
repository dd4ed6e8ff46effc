"""history.jsonl: what training measured, one JSON object a line."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_pipeline.files import write_text

LOG = logging.getLogger(__name__)


class History:
    """history.jsonl: one JSON object a line, `kind` train or validation; rows behind a resumed step are dropped."""

    def __init__(self, path: Path, *, resumed_step: int) -> None:
        self._path = path
        rows = [row for row in read_history(path) if row["step"] <= resumed_step] if path.exists() else []
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds a line; NaN becomes null."""
        clean = {k: (None if isinstance(v, float) and not math.isfinite(v) else v) for k, v in row.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(clean) + "\n")


def read_history(path: Path) -> list[dict[str, Any]]:
    """Rows of history.jsonl; a last line cut by a kill is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            LOG.warning("%s: a damaged line was left out", path)
    return rows
