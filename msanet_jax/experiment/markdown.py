"""results.md of a study: the scores of every model, and its differences from the reference, also by kind of lesion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msanet_jax.evaluation.comparison import Comparison
from msanet_jax.experiment.study import FAILED
from msanet_jax.report.comparison_table import markdown

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
    lines = [
        f"# Results of {content['experiment']}",
        "",
        content["note"],
        "",
        *_facts(content["provenance"]),
        "",
        f"| model | runs | {' | '.join(COLUMNS.values())} | DSC of single runs | min per run |",
        f"|{'---|' * (len(COLUMNS) + 4)}",
        *(_line(model) for model in content["models"]),
        "",
        "Brackets: 95 % interval over patients. Small lesions and clusters as in docs/metrics.md.",
        "",
        f"## Paired differences from {content['reference']}",
        "",
        markdown(main) if main else "None yet.",
    ]
    if comparisons:
        lines += _by_kind(content, comparisons)
    failures = {name: run["reason"] for name, run in content["runs"].items() if run["state"] == FAILED}
    if failures:
        lines += ["", "## Failed runs", "", *(f"- {name}: {reason}" for name, reason in failures.items())]
    return "\n".join(lines) + "\n"


def _facts(facts: Mapping[str, Any]) -> list[str]:
    design = f"{facts['folds']} folds over patients" if facts["folds"] else "the set's own splits"
    if not facts["commits"]:
        return [f"`{facts['command']}`; {design}; no run is finished."]
    lines = [
        f"`{facts['command']}`, commit {' and '.join(facts['commits'])}, {'; '.join(facts['machines'])}, "
        f"{facts['hours']} h of computing; {', '.join(facts['datasets'])}; {design}, seeds "
        f"{', '.join(str(seed) for seed in facts['seeds'])}."
    ]
    if len(facts["commits"]) > 1:
        lines += ["", f"**Not one state of the code: the runs come from {len(facts['commits'])} commits.**"]
    return lines


def _by_kind(content: Mapping[str, Any], comparisons: Sequence[Comparison]) -> list[str]:
    """A table per score: models x kinds of lesions, the difference with its interval and Holm's p in a cell."""
    found = {(entry.run, entry.score): entry for entry in comparisons}
    reference = content["reference"]
    own = next(model for model in content["models"] if model["model"] == reference)
    heads = [f"{kind.lstrip('_') or 'all'} ({own[f'lesions{kind}']})" for kind in KINDS]
    lines = [
        "",
        f"## Differences from {reference} by size and neighbourhood of the lesions",
        "",
        f"Model minus {reference}: below zero where {reference} is better. Brackets: 95 % interval over patients; p "
        "after Holm over the models, kind by kind. In the heading: number of lesions, counted in every run. A model "
        "with missing runs is compared on the runs that both have.",
    ]
    for score, title in BY_KIND.items():
        lines += ["", f"### {title}", "", f"| model | {' | '.join(heads)} |", f"|{'---|' * (len(KINDS) + 1)}"]
        lines.append(f"| {reference} itself | {' | '.join(_text(own[f'{score}{kind}']) for kind in KINDS)} |")
        for run in dict.fromkeys(entry.run for entry in comparisons):
            lines.append(f"| {run} | {' | '.join(_cell(found[run, f'{score}{kind}']) for kind in KINDS)} |")
    return lines


def _cell(entry: Comparison) -> str:
    if entry.difference != entry.difference:
        return "-"
    p = "p < 0.001" if entry.p_holm < 0.001 else f"p {entry.p_holm:.3f}"
    return f"{entry.difference:+.3f} [{entry.low:+.3f}, {entry.high:+.3f}] {p}"


def _line(model: Mapping[str, Any]) -> str:
    runs = f"{model['runs_finished']} of {model['runs_planned']}"
    if WITH_INTERVAL not in model:
        return f"| {model['model']} | {runs} |{' - |' * (len(COLUMNS) + 2)}"
    cells = []
    for score in COLUMNS:
        text = _text(model[score])
        if score == WITH_INTERVAL:
            text += f" [{_text(model[f'{score}_low'])}, {_text(model[f'{score}_high'])}]"
        cells.append(text)
    single = f"{_text(model['dsc_pooled_lowest_run'])} to {_text(model['dsc_pooled_highest_run'])}"
    return f"| {model['model']} | {runs} | {' | '.join(cells)} | {single} | {model['minutes_per_run']:.1f} |"


def _text(number: float) -> str:
    return "-" if number != number else f"{number:.3f}"
