"""Comparisons of run folders as Markdown or JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipeline.errors import RequestError
from data_pipeline.files import nan_to_null, resolved
from data_pipeline.pages import render
from msanet_jax.evaluation.comparison import SCORES, Comparison, check_same_data, compare_runs
from msanet_jax.runs.metrics_file import read_metrics


def compare_folders(folders: Sequence[Path], *, scores: Sequence[str] | None = None, style: str = "markdown") -> str:
    """Compares runs with the first one and renders the table.

    Args:
      folders: each with a metrics.json.
      scores: names from metrics.json; None for `comparison.SCORES`.
      style: `markdown` or `json`.

    Raises:
      RequestError: fewer than two runs, a metrics.json missing, or runs that cannot be paired.
    """
    names = run_names(folders)
    contents = {name: read_metrics(folder) for name, folder in zip(names, folders, strict=True)}
    splits = {name: content.split for name, content in contents.items()}
    if len(set(splits.values())) > 1:
        raise RequestError(f"the runs were scored on different splits: {splits}")
    check_same_data({name: content.provenance.dataset_version for name, content in contents.items()})
    runs = {name: content.images for name, content in contents.items()}
    comparisons = compare_runs(runs, scores=scores or SCORES)
    split, note = splits[names[0]], contents[names[0]].note
    if style == "json":
        return _json(comparisons, split, note)
    return f"{_heading(comparisons, split)} {note}\n\n{markdown(comparisons)}"


def run_names(folders: Sequence[Path]) -> list[str]:
    """Short names: the last part of the paths in which they differ, or the whole path where that is not enough.

    Raises:
      RequestError: a folder is named twice.
    """
    parts = [resolved(folder).parts for folder in folders]
    if len(set(parts)) < len(parts):
        raise RequestError("a run is named twice")
    for place in range(1, min(len(path) for path in parts) + 1):
        names = [path[-place] for path in parts]
        if len(set(names)) == len(names):
            return names
        if len(set(names)) > 1:
            break
    return [str(folder) for folder in folders]


def markdown(comparisons: Sequence[Comparison]) -> str:
    """The comparisons as a Markdown table, a row per run and score."""
    template = Path(__file__).with_name("templates") / "comparison.md.jinja"
    return render(template, comparisons=comparisons).rstrip("\n")


def _heading(comparisons: Sequence[Comparison], split: str) -> str:
    return (
        f"{max(entry.patients for entry in comparisons)} {split} patients, "
        f"{max(entry.images for entry in comparisons)} images; difference = run - reference, paired bootstrap "
        "over patients, p two-sided, Holm over the compared runs."
    )


def _json(comparisons: Sequence[Comparison], split: str, note: str) -> str:
    content: dict[str, Any] = {
        "note": note,
        "split": split,
        "comparisons": [dataclasses.asdict(entry) for entry in comparisons],
    }
    return json.dumps(nan_to_null(content), indent=2)
