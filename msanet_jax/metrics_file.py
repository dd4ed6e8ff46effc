"""metrics.json and its tables: written beside and renamed, NaN as null."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msanet_jax.evaluate import Evaluation
from msanet_jax.run_folder import write_text

SCHEMA_VERSION = 1
NOTE = (
    "Simulated scans (PhantomBone): not comparable with the 0.6671 that the paper reports on clinical scans. "
    "Research software, not for diagnosis."
)


def write_metrics(
    run: Path,
    *,
    test: Evaluation,
    threshold_baseline: Evaluation,
    zero_input_dsc_pooled: float,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes metrics.json, images.csv and lesions.csv into `run`.

    Returns:
      What metrics.json holds (docs/metrics.md is its schema).
    """
    content = {
        "schema_version": SCHEMA_VERSION,
        "note": NOTE,
        "test": test.summary,
        "threshold_baseline": threshold_baseline.summary,
        "zero_input_dsc_pooled": zero_input_dsc_pooled,
        "provenance": dict(provenance),
        "images": test.images,
    }
    write_text(run / "images.csv", _csv(test.images))
    write_text(run / "lesions.csv", _csv(test.lesions))
    write_text(run / "metrics.json", json.dumps(nan_to_null(content), indent=2) + "\n")
    return content


def nan_to_null(value: Any) -> Any:
    """JSON has no NaN: undefined becomes null, in nested structures too."""
    if isinstance(value, Mapping):
        return {key: nan_to_null(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [nan_to_null(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value != value else value for key, value in row.items()} for row in rows)
    return text.getvalue()
