"""The report of runs as one HTML file: no network access, no other file, no networks of this package.

The text is a Jinja2 template with its style and script beside it (`templates/`); plots are matplotlib's SVG, some 30 kB
each where plotly's script alone would be 4 MB.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipeline.errors import RequestError
from data_pipeline.files import write_text
from data_pipeline.pages import render
from msanet_jax.evaluation.comparison import Comparison
from msanet_jax.report.curves import colour, learning_curves, score_curves
from msanet_jax.report.data import COMPARED, Run, paired_differences, read_runs
from msanet_jax.report.gallery import gallery

LABELS = {
    "dsc_pooled": "DSC, pooled",
    "precision_pooled": "precision",
    "recall_pooled": "recall",
    "lesion_recall": "lesions found",
    "false_positives_per_image": "false positives per scan",
    "lesion_dsc_mean": "DSC of lesions",
    "lesion_dsc_mean_small": "DSC, small lesions",
    "lesion_dsc_mean_clustered": "DSC, clustered lesions",
    "froc_score": "FROC score",
    "average_precision": "average precision",
    "ece": "calibration error (ECE)",
    "hd95_mm_median": "HD95, median, mm",
}
DIGITS = {"ece": 4, "hd95_mm_median": 1}
"""Behind the point, where not 3."""
_HEADLINE = ("precision_pooled", "recall_pooled", "lesion_recall", "false_positives_per_image", "froc_score")
_MORE = ("average_precision", "ece", "hd95_mm_median")


_TEMPLATE = Path(__file__).with_name("templates") / "report.html.jinja"


@dataclasses.dataclass(frozen=True)
class ConfigRow:
    """A key of the recipe and its value in every run, as text."""

    key: str
    texts: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Between the runs."""
        return len(set(self.texts)) > 1


def write_report(folders: Sequence[Path], out: Path) -> None:
    """Writes the page of scored runs.

    Args:
      folders: of the runs; the first one makes the headline and is the reference of differences.
      out: the HTML file.

    Raises:
      RequestError: a run cannot be read, or `out` cannot be written.
    """
    text = page(read_runs(folders))
    try:
        write_text(out, text)
    except OSError as error:
        raise RequestError(f"--out={out}: cannot be written ({error.strerror}); choose another file") from error


def page(runs: Sequence[Run]) -> str:
    """The page as text."""
    differences, unpaired = paired_differences(runs)
    return render(
        _TEMPLATE,
        runs=runs,
        first=runs[0],
        notes=list(dict.fromkeys(run.metrics.note for run in runs)),
        colours=[colour(place) for place in range(len(runs))],
        labels=LABELS,
        digits=DIGITS,
        headline=_HEADLINE,
        columns=(*COMPARED, "froc_score", *_MORE),
        compared=COMPARED,
        differences=_by_run(differences),
        unpaired=unpaired,
        learning=learning_curves(runs),
        curves=score_curves(runs),
        config=_config_rows(runs),
        provenance=[_provenance(run) for run in runs],
        gallery=gallery(runs),
        without_cases=[run.name for run in runs if run.cases is None],
    )


def _by_run(differences: Sequence[Comparison]) -> dict[str, dict[str, Comparison]]:
    found: dict[str, dict[str, Comparison]] = {}
    for entry in differences:
        found.setdefault(entry.run, {})[entry.score] = entry
    return found


def _config_rows(runs: Sequence[Run]) -> list[ConfigRow]:
    """Those that differ first."""
    rows = [
        ConfigRow(key, tuple(_value(run.config.get(key, "absent")) for run in runs))
        for key in sorted({key for run in runs for key in run.config})
    ]
    return sorted(rows, key=lambda row: not row.differs)


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _provenance(run: Run) -> list[tuple[str, str]]:
    facts = run.metrics.provenance
    threshold = run.metrics.threshold
    epochs = [row.epoch for row in run.history]
    return [
        ("folder", run.folder.name),
        ("model", f"{facts.model} {facts.variants}".strip()),
        (
            "data set",
            f"{facts.dataset}, {run.metrics.split} patients, mask {run.metrics.rules.scored_mask}",
        ),
        ("threshold", f"{threshold.value:g} ({threshold.rule})"),
        ("checkpoint", f"step {facts.checkpoint_step}"),
        ("trained", f"{max(epochs):g} epochs" if epochs else "no training"),
        ("seed", str(facts.seed)),
        ("hours", f"{facts.wall_seconds / 3600:.2f}, of the command that wrote the scores"),
        ("devices", facts.devices),
        ("machine", f"{facts.host}, Python {facts.python}"),
        ("versions", ", ".join(f"{package} {version}" for package, version in facts.versions.items())),
        ("commit", facts.commit or "unknown"),
    ]
