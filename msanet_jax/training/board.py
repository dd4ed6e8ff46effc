"""What TensorBoard shows of a run: scalars in groups, the parameter table, panels, and the test at the end.

clu is used here only, so that another writer can take its place.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from clu import metric_writers, parameter_overview
from matplotlib.image import imread

from msanet_jax.evaluation.lesions import GROUPS

CONSTANT = ("lesions", "images", "images_without_lesion", "threshold")
"""Counts of a data set and settings: the same at every step. So are the lesions of a group."""

SHOWN_AT_THE_END = ("overview", "curves", "froc", "precision_recall", "reliability", "lesion_size")


def tags(kind: str, scalars: Mapping[str, float | None]) -> dict[str, float]:
    """Values by their tag; undefined ones and what never changes are left out.

    Args:
      kind: `train`, `validation` or `test`.
      scalars: by the names of history.jsonl and metrics.json.

    Example:
      >>> tags("validation", {"dsc_pooled": 0.5, "lesion_recall": 0.4, "lesion_recall_small": 0.1, "lesions": 9})
      {'validation/dsc_pooled': 0.5, 'validation lesions/lesion_recall': 0.4, \
'validation kinds of lesion/lesion_recall_small': 0.1}
    """
    return {
        f"{_group(kind, key)}/{key}": value
        for key, value in scalars.items()
        if value is not None and math.isfinite(value) and key not in CONSTANT and not key.startswith("lesions_")
    }


def writer(run: Path) -> metric_writers.MetricWriter:
    """Of the events of a run; it writes in the background."""
    return metric_writers.AsyncMultiWriter([metric_writers.SummaryWriter(os.fspath(run))])


def nowhere() -> metric_writers.MetricWriter:
    """For processes that write nothing."""
    return metric_writers.MultiWriter([])


def parameter_table(parameters: Any) -> str:
    """Names, shapes and sizes as Markdown that keeps its columns."""
    return f"```\n{parameter_overview.get_parameter_overview(parameters)}\n```"


def write_test(run: Path, step: int, scores: Mapping[str, float | None]) -> None:
    """Adds the scores of the test patients, and the run's pictures, to its events."""
    events = metric_writers.SummaryWriter(os.fspath(run))
    events.write_scalars(step, tags("test", scores))
    for name in SHOWN_AT_THE_END:
        picture = run / "pictures" / f"{name}.png"
        if picture.exists():
            events.write_images(step, {f"test/{name}": np.asarray(imread(picture))[None, ..., :3]})
    events.flush()
    events.close()


def _group(kind: str, key: str) -> str:
    if kind == "train":
        return kind
    if key.endswith(tuple(f"_{name}" for name in GROUPS)):
        return f"{kind} kinds of lesion"
    if key.startswith(("lesion_", "false_positives", "froc")):
        return f"{kind} lesions"
    return f"{kind} images" if key.startswith(("images_", "false_positive_pixels")) else kind
