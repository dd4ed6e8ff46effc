"""results.md of a study: the scores of every model, and its differences from the reference, also by kind of lesion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.pages import render
from msanet_jax.evaluation.comparison import Comparison
from msanet_jax.experiment.study import FAILED
from msanet_jax.report.comparison_table import markdown

_TEMPLATE = Path(__file__).with_name("templates") / "results.md.jinja"
COLUMNS = {
    "dsc_pooled": "DSC",
    "precision_pooled": "precision",
    "recall_pooled": "recall",
    "lesion_recall": "lesions found",
    "false_positives_per_image": "false pos. per scan",
    "lesion_dsc_mean_small": "DSC small",
    "lesion_dsc_mean_clustered": "DSC clustered",
}
"""Scores of the main table and their headings."""
WITH_INTERVAL = "dsc_pooled"
KINDS = ("", "_small", "_medium", "_large", "_isolated", "_clustered")
"""All lesions, those of a size, those of a neighbourhood: endings of the scores' names."""
BY_KIND = {"lesion_dsc_mean": "DSC of lesions", "lesion_recall": "Share of lesions found"}
"""Scores that every kind of lesion has, and their headings."""
SCORES = tuple(dict.fromkeys([*COLUMNS, *(f"{score}{kind}" for score in BY_KIND for kind in KINDS)]))
"""What results.csv and results.json hold."""


def results_page(content: Mapping[str, Any], comparisons: Sequence[Comparison]) -> str:
    """What results.json holds as a page to read."""
    main = [entry for entry in comparisons if entry.score in COLUMNS]
    by_kind = [entry for entry in comparisons if entry.reference == content["reference"]]
    return render(
        _TEMPLATE,
        content=content,
        facts=content["provenance"],
        columns=COLUMNS,
        with_interval=WITH_INTERVAL,
        kinds=KINDS,
        by_kind=BY_KIND,
        differences=markdown(main) if main else "None yet.",
        compared=list(dict.fromkeys(entry.run for entry in by_kind)),
        found={(entry.run, entry.score): entry for entry in by_kind},
        reference=next(model for model in content["models"] if model["model"] == content["reference"]),
        failures={name: run["reason"] for name, run in content["runs"].items() if run["state"] == FAILED},
    )
