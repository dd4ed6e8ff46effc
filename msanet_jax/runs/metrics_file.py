"""metrics.json and its tables: written whole, NaN as null. docs/metrics.md documents every key."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from ml_collections import ConfigDict
from msgspec import UNSET, Meta

from data_pipeline.errors import RequestError
from data_pipeline.files import as_builtins, nan_to_null, whole_files, write_json
from data_pipeline.reading import Count, Finite, as_record, read_csv, read_json
from msanet_jax.evaluation import statistics
from msanet_jax.evaluation.bootstrap import value
from msanet_jax.evaluation.field_maps import SCORED_PIXELS
from msanet_jax.evaluation.lesions import CLUSTER_MM, HIGH_CONTRAST, LARGE_MM, LOW_CONTRAST, SMALL_MM
from msanet_jax.evaluation.results import (
    PROBABILITY_SCORES,
    Calibration,
    Curves,
    Evaluation,
    ImageScores,
    Interval,
    Length,
    LesionBins,
    LesionScores,
    Share,
    Summary,
    Threshold,
)
from msanet_jax.runs.notices import scores_notice

SCHEMA_VERSION = 3
Split = Literal["test", "validation"]


@dataclasses.dataclass(frozen=True)
class Rules:
    """The numbers behind the definitions, so that a file explains itself (docs/metrics.md)."""

    scored_mask: str
    scored_pixels: str
    lesion_overlap_min: Share
    small_below_mm: Length
    large_above_mm: Length
    low_contrast_below: Length
    high_contrast_above: Length
    clustered_within_mm: Length
    surface_tolerance_mm: Length
    calibration_bins: Count
    froc_false_positives_per_scan: tuple[Length, ...]
    froc_probability_min: Share
    froc_peak_distance_mm: Length
    froc_hit_distance_mm: Length
    bootstrap_samples: Count


@dataclasses.dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where scores come from (docs/metrics.md).

    Attributes:
      dataset_version: of the built set; None for scans that come from none.
      commit: of the source; None where it is unknown.
    """

    checkpoint_step: Count
    wall_seconds: Length
    devices: str
    host: str
    python: str
    versions: dict[str, str | None]
    seed: int
    model: str
    dataset: str
    dataset_version: str | None = None
    variants: str
    commit: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metrics(LesionBins, Curves):
    """What metrics.json holds.

    Attributes:
      note: what its scores are not.
      split: the scored one.
      threshold, rules, provenance: how the scores were made.
      calibration_map: what the network's probabilities have been through; None for none, and in older files.
      scores: of the model; in the file under the name of the split.
      threshold_baseline: scores of the best single threshold on uptake.
      zero_input_dsc_pooled: pooled DSC with every image replaced by zeros.
      images: rows of images.csv.
    """

    note: str
    split: Split
    threshold: Threshold
    calibration_map: Calibration | None = None
    rules: Rules
    scores: Summary
    threshold_baseline: Summary
    zero_input_dsc_pooled: Share | None
    provenance: Provenance
    images: Annotated[tuple[ImageScores, ...], Meta(min_length=1)]


def write_metrics(
    folder: Path,
    *,
    split: str,
    scored: Evaluation,
    threshold: Threshold,
    calibration: Calibration | None,
    threshold_baseline: Evaluation,
    zero_input_dsc_pooled: float,
    config: ConfigDict,
    provenance: Provenance,
    simulated: bool,
) -> Metrics:
    """Writes metrics.json, images.csv and lesions.csv into `folder`.

    Args:
      folder: the run's, or another.
      split: `test` or `validation`; the key under which the scores stand.
      scored: the whole protocol's result.
      threshold: that of the scores.
      calibration: that of the probabilities.
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
        "threshold": threshold,
        "calibration_map": calibration,
        "rules": rules(config),
        split: scored.summary.flat(),
        **nan_to_null(scored.lesion_bins),
        **nan_to_null(scored.curves),
        "threshold_baseline": threshold_baseline.summary.flat(),
        "zero_input_dsc_pooled": zero_input_dsc_pooled,
        "provenance": provenance,
    }
    write_tables(folder, scored)
    write_json(folder / "metrics.json", content, rows=("images", scored.images))
    return read_metrics(folder)


def write_tables(folder: Path, scored: Evaluation) -> None:
    """Writes images.csv and lesions.csv."""
    _write_rows(folder / "images.csv", scored.images)
    _write_rows(folder / "lesions.csv", scored.lesions)


def _write_rows(path: Path, rows: Sequence[ImageScores] | Sequence[LesionScores]) -> None:
    """As `csv_text`, but row by row, so that no text of all images is in memory; all rows have the same cells."""
    with (
        whole_files(path.parent, [path.name]) as beside,
        (beside / path.name).open("w", encoding="utf-8", newline="") as file,
    ):
        for number, row in enumerate(rows):
            heading, text = csv_text([as_builtins(row)]).split("\n", 1)
            file.write(text if number else f"{heading}\n{text}")


def rules(config: ConfigDict) -> Rules:
    """Those of a recipe and of the code."""
    evaluate = config.evaluate
    return Rules(
        scored_mask=config.data.scored_mask,
        scored_pixels=SCORED_PIXELS,
        lesion_overlap_min=evaluate.lesion_overlap_min,
        small_below_mm=SMALL_MM,
        large_above_mm=LARGE_MM,
        low_contrast_below=LOW_CONTRAST,
        high_contrast_above=HIGH_CONTRAST,
        clustered_within_mm=CLUSTER_MM,
        surface_tolerance_mm=evaluate.surface_tolerance_mm,
        calibration_bins=evaluate.calibration_bins,
        froc_false_positives_per_scan=tuple(evaluate.froc_false_positives_per_scan),
        froc_probability_min=evaluate.froc_probability_min,
        froc_peak_distance_mm=evaluate.froc_peak_distance_mm,
        froc_hit_distance_mm=evaluate.froc_hit_distance_mm,
        bootstrap_samples=evaluate.bootstrap_samples,
    )


def read_metrics(folder: Path) -> Metrics:
    """What metrics.json of a folder holds; its scores have to be those of its images.

    Raises:
      RequestError: there is none, it is damaged, or of another schema version.
    """
    path, remedy = folder / "metrics.json", f"msanet evaluate {folder} scores it again"
    if not path.exists():
        raise RequestError(f"{folder}: no metrics.json; finish this run first, or msanet evaluate {folder}")
    content = read_json(path, dict[str, Any], remedy=remedy)
    if (version := content.get("schema_version")) != SCHEMA_VERSION:
        raise RequestError(f"{path}: schema version {str(version)[:40]}, expected {SCHEMA_VERSION}; {remedy}")
    split = as_record(content.get("split"), Split, where=f"{path}: split", remedy=remedy)
    for name, section, more in (
        ("scores", split, PROBABILITY_SCORES),
        ("threshold_baseline", "threshold_baseline", ()),
    ):
        content[name] = _summary(content.get(section), more, where=f"{path}: {section}", remedy=remedy)
    metrics: Metrics = as_record(content, Metrics, where=str(path), remedy=remedy)
    for number, image in enumerate(metrics.images):
        if UNSET in (image.hd95_mm, image.nsd):
            raise RequestError(f"{path}: images[{number}] lacks `hd95_mm` or `nsd`; {remedy}")
    table = statistics.columns(metrics.images)
    expected = {name: value(score, len(metrics.images)) for name, score in statistics.statistics(table).items()}
    for name, wanted in {**expected, **statistics.counts(table), "threshold": metrics.threshold.value}.items():
        if not np.isclose(metrics.scores[name], wanted, rtol=1e-9, equal_nan=True):
            found = metrics.scores[name]
            raise RequestError(f"{path}: {split}.{name} is {found:g}, its images give {wanted:g}; {remedy}")
    return metrics


@functools.cache
def _section(more: tuple[str, ...]) -> type:
    """A section with scores: every name that the images determine, `more`, and their intervals."""
    zeros: dict[str, Any] = {field.name: 0 for field in dataclasses.fields(ImageScores)}
    none = statistics.columns([ImageScores(**zeros)])
    scores = [*statistics.statistics(none), *more]
    intervals = msgspec.defstruct("Intervals", [(name, Interval) for name in scores])
    fields = [*((name, Finite | None) for name in scores), *((name, Count) for name in statistics.counts(none))]
    return msgspec.defstruct("Section", [*fields, ("threshold", Finite), ("intervals", intervals)])


def _summary(section: Any, more: tuple[str, ...], *, where: str, remedy: str) -> Summary:
    values = msgspec.to_builtins(as_record(section, _section(more), where=where, remedy=remedy))
    intervals = {
        name: (statistics.number(low), statistics.number(high)) for name, (low, high) in values.pop("intervals").items()
    }
    return Summary(
        {name: statistics.number(value) if value is None else value for name, value in values.items()}, intervals
    )


def read_lesions(folder: Path, metrics: Metrics) -> list[LesionScores]:
    """lesions.csv beside a metrics.json.

    Raises:
      RequestError: absent, damaged, or with other lesions than metrics.json counts.
    """
    path, remedy = folder / "lesions.csv", f"msanet evaluate {folder} writes it again"
    lesions = read_csv(path, LesionScores, remedy=remedy)
    found = Counter(row.image_id for row in lesions)
    for image in metrics.images:
        if found.pop(image.image_id, 0) != image.lesions:
            raise RequestError(f"{path}: has not the lesions of {image.image_id} that metrics.json counts; {remedy}")
    if found:
        raise RequestError(f"{path}: has lesions of {next(iter(found))}, which metrics.json does not have; {remedy}")
    return lesions


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
