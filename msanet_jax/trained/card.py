"""The model card: what a model is, what it was trained on, how it scored, and what it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.pages import render

_TEMPLATE = Path(__file__).with_name("templates") / "card.md.jinja"


def model_card(
    manifest: Mapping[str, Any], scores: Sequence[Mapping[str, Any]], *, dataset: str, of_mean: bool = False
) -> str:
    """Markdown from an exported model's manifest and the metrics.json of its runs (or of their mean).

    Args:
      manifest: of the exported model.
      scores: the metrics.json of every run that has one, or one of their mean.
      dataset: the data set's name in the recipe.
      of_mean: whether the scores are those of the mean of all runs.
    """
    return render(
        _TEMPLATE,
        manifest=manifest,
        members=manifest["provenance"].get("members", [manifest["provenance"]]),
        scores=scores,
        # Imported scans may be simulated ones; the run's own note says what its scores are.
        on_field=all("scored_pixels" in score.get("rules", {}) for score in scores),
        notes=list(dict.fromkeys(score["note"] for score in scores if "note" in score)),
        simulated=dataset.startswith("phantom_bone/"),
        of_mean=of_mean,
    )
