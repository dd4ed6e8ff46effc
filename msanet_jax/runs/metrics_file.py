"""metrics.json and its tables: written whole, NaN as null. docs/metrics.md documents every key."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from data_pipeline.files import write_json, write_text
from msanet_jax.evaluation.field_maps import SCORED_PIXELS
from msanet_jax.evaluation.lesions import CLUSTER_MM, HIGH_CONTRAST, LARGE_MM, LOW_CONTRAST, SMALL_MM
from msanet_jax.runs.notices import scores_notice

if TYPE_CHECKING:  # comparing runs reads metrics.json without waiting for TensorFlow
    from msanet_jax.evaluation.evaluate import Threshold
    from msanet_jax.evaluation.protocol import Evaluation

SCHEMA_VERSION = 3


def write_metrics(
    folder: Path,
    *,
    split: str,
    scored: Evaluation,
    threshold: Threshold,
    threshold_baseline: Evaluation,
    zero_input_dsc_pooled: float,
    config: ConfigDict,
    provenance: Mapping[str, Any],
    simulated: bool,
) -> dict[str, Any]:
    """Writes metrics.json, images.csv and lesions.csv into `folder`.

    Args:
      folder: the run's, or another.
      split: `test` or `validation`; the key under which the scores stand.
      scored: the whole protocol's result.
      threshold: that of the scores.
      threshold_baseline: the uptake threshold on the same images.
      zero_input_dsc_pooled: pooled DSC with every image replaced by zeros.
      config: the recipe, whose rules are written down.
      provenance: where the scores come from.
      simulated: whether the scans are.

    Returns:
      What metrics.json holds (docs/metrics.md is its schema).
    """
    content = {
        "schema_version": SCHEMA_VERSION,
        "note": scores_notice(simulated=simulated),
        "split": split,
        "threshold": dataclasses.asdict(threshold),
        "rules": rules(config),
        split: scored.summary,
        **scored.lesion_bins,
        **scored.curves,
        "threshold_baseline": threshold_baseline.summary,
        "zero_input_dsc_pooled": zero_input_dsc_pooled,
        "provenance": dict(provenance),
        "images": scored.images,
    }
    write_text(folder / "images.csv", csv_text(scored.images))
    write_text(folder / "lesions.csv", csv_text(scored.lesions))
    write_json(folder / "metrics.json", content)
    return content


def rules(config: ConfigDict) -> dict[str, Any]:
    """The numbers behind the definitions, so that a file explains itself."""
    evaluate = config.evaluate
    return {
        "scored_mask": config.data.scored_mask,
        "scored_pixels": SCORED_PIXELS,
        "lesion_overlap_min": evaluate.lesion_overlap_min,
        "small_below_mm": SMALL_MM,
        "large_above_mm": LARGE_MM,
        "low_contrast_below": LOW_CONTRAST,
        "high_contrast_above": HIGH_CONTRAST,
        "clustered_within_mm": CLUSTER_MM,
        "surface_tolerance_mm": evaluate.surface_tolerance_mm,
        "calibration_bins": evaluate.calibration_bins,
        "froc_false_positives_per_scan": list(evaluate.froc_false_positives_per_scan),
        "froc_probability_min": evaluate.froc_probability_min,
        "froc_peak_distance_mm": evaluate.froc_peak_distance_mm,
        "froc_hit_distance_mm": evaluate.froc_hit_distance_mm,
        "bootstrap_samples": evaluate.bootstrap_samples,
    }


def read_metrics(folder: Path) -> dict[str, Any]:
    """What metrics.json of a folder holds.

    Raises:
      RequestError: there is none, it is damaged, or of another schema version.
    """
    path = folder / "metrics.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RequestError(f"{folder}: no metrics.json; finish this run first, or msanet evaluate {folder}") from error
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: not readable ({error})") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise RequestError(
            f"{path}: schema version {version}, expected {SCHEMA_VERSION}; msanet evaluate {folder} scores it again"
        )
    return content


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows with a header line of all their names; undefined and missing cells are empty."""
    if not rows:
        return ""
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, fieldnames=list(names), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value != value else value for key, value in row.items()} for row in rows)
    return text.getvalue()
