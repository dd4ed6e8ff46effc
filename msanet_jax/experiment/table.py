"""The result of a study: scores of every model with intervals, and paired differences from the reference.

A model's scores come from the images of all its runs together (sums first, division last); its intervals from a
bootstrap over patients with all their images and repetitions. They speak of other patients, not of other trainings:
for those the lowest and highest run stand beside.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import UnsetType

from data_pipeline.files import resolved, write_json, write_text
from msanet_jax.evaluation.bootstrap import bootstrap_weights, interval, value
from msanet_jax.evaluation.comparison import Comparison, check_same_data, compare_runs
from msanet_jax.evaluation.results import ImageScores
from msanet_jax.evaluation.statistics import columns, statistics
from msanet_jax.experiment.markdown import KINDS, SCORES, WITH_INTERVAL, results_page
from msanet_jax.experiment.study import AGAINST, Journal, Study
from msanet_jax.runs.metrics_file import Metrics, Provenance, csv_text, read_metrics
from msanet_jax.runs.notices import public_dataset_name

Rows = list[ImageScores]


def write_results(study: Study, journal: Journal, *, workdir: Path) -> dict[str, Any]:
    """Writes results.md, results.csv and results.json of the runs finished so far.

    Returns:
      What results.json holds.

    Raises:
      RequestError: a finished run's metrics.json cannot be read, or the runs were scored on different versions of the
        data set.
    """
    finished = {run.name: read_metrics(workdir / run.name) for run in study.runs if journal.finished(run)}
    check_same_data({name: metrics.provenance.dataset_version for name, metrics in finished.items()})
    rows = {model: _rows(study, model, finished) for model in study.models}
    samples = int(study.config.bootstrap_samples)
    models = [_scores(study, journal, model, rows[model], samples) for model in study.models]
    comparisons = _comparisons(study, rows, samples)
    content = {
        "note": next((finished[run.name].note for run in study.runs if run.name in finished), ""),
        "experiment": study.path.name,
        "reference": study.config.reference,
        "models": models,
        "comparisons": [dataclasses.asdict(entry) for entry in comparisons],
        "runs": {name: dataclasses.asdict(outcome) for name, outcome in journal.outcomes.items()},
        "provenance": provenance(study, journal, [metrics.provenance for metrics in finished.values()]),
    }
    write_json(workdir / "results.json", content)
    reference = study.config.reference
    write_text(workdir / "results.csv", _csv(models, [entry for entry in comparisons if entry.reference == reference]))
    write_text(workdir / "results.md", results_page(content, comparisons))
    return content


def _rows(study: Study, model: str, finished: Mapping[str, Metrics]) -> Rows:
    """Per-image rows of a model's finished runs, each with its replicate."""
    return [
        dataclasses.replace(row, replicate=run.replicate)
        for run in study.runs_of(model)
        if run.name in finished
        for row in finished[run.name].images
    ]


def _scores(study: Study, journal: Journal, model: str, rows: Rows, samples: int) -> dict[str, Any]:
    planned = study.runs_of(model)
    done = [run for run in planned if journal.finished(run)]
    entry: dict[str, Any] = {
        "model": model,
        "runs_planned": len(planned),
        "runs_finished": len(done),
        "minutes_per_run": float("nan"),
        "patients": len({row.patient for row in rows}),
    }
    if not rows:
        return entry
    entry["minutes_per_run"] = round(sum(journal.outcomes[run.name].seconds for run in done) / len(done) / 60, 2)
    read = columns(rows)
    table = statistics(read)
    entry |= {f"lesions{kind}": int(read[f"lesions{kind}"].sum()) for kind in KINDS}
    weights = bootstrap_weights([row.patient for row in rows], samples=samples, seed=0)
    for score in SCORES:
        low, high = interval(table[score](weights))
        entry |= {score: value(table[score], len(rows)), f"{score}_low": low, f"{score}_high": high}
    single = [_one_run(rows, run.replicate) for run in done]
    return entry | {"dsc_pooled_lowest_run": min(single), "dsc_pooled_highest_run": max(single)}


def _one_run(rows: Rows, replicate: int) -> float:
    own = [row for row in rows if row.replicate == replicate]
    return value(statistics(columns(own))[WITH_INTERVAL], len(own))


def _comparisons(study: Study, rows: Mapping[str, Rows], samples: int) -> list[Comparison]:
    """Differences from the reference, or from those that a model names.

    Complete models are compared together (Holm), incomplete ones on the runs that they share with the reference.
    """
    groups: dict[tuple[str, frozenset[int]], list[str]] = {}
    for model in study.config.models:
        name = model["name"]
        for reference in model.get(AGAINST, (study.config.reference,)):
            shared = frozenset(_replicates(rows[name]) & _replicates(rows[reference]))
            if shared and name != reference:
                groups.setdefault((reference, shared), []).append(name)
    found: list[Comparison] = []
    for (reference, chosen), members in groups.items():
        paired = {model: [row for row in rows[model] if row.replicate in chosen] for model in (reference, *members)}
        found += compare_runs(paired, reference=reference, scores=SCORES, samples=samples)
    order = {model: place for place, model in enumerate(study.models)}
    return sorted(found, key=lambda entry: (order[entry.run], order[entry.reference]))


def _replicates(rows: Rows) -> set[int]:
    return {row.replicate for row in rows if not isinstance(row.replicate, UnsetType)}


def provenance(study: Study, journal: Journal, recorded: Sequence[Provenance]) -> dict[str, Any]:
    """Where the scores come from, as the runs themselves say; every differing answer once."""
    inside = resolved(study.path).is_relative_to(study.root)
    file = resolved(study.path).relative_to(study.root).as_posix() if inside else study.path.name
    machines = (f"{entry.devices}, {entry.host}, Python {entry.python}" for entry in recorded)
    names = dict.fromkeys(name for entry in recorded for name in entry.versions)
    return {
        "command": f"msanet experiment {file} --workdir=...",
        "commits": _distinct(entry.commit or "unknown" for entry in recorded),
        "machines": _distinct(machines) or ["machine not recorded"],
        "versions": {
            name: _distinct(entry.versions[name] or "unknown" for entry in recorded if name in entry.versions)
            for name in names
        },
        "datasets": _distinct(_data_set(entry) for entry in recorded),
        "hours": round(sum(outcome.seconds for outcome in journal.outcomes.values()) / 3600, 2),
        "design": study.design,
    }


def _data_set(provenance: Provenance) -> str:
    """Name and version; of an imported set the folder's name alone, whose path would be private."""
    name = public_dataset_name(provenance.dataset)
    return f"{name} {provenance.dataset_version}" if provenance.dataset_version else name


def _distinct(values: Iterable[str]) -> list[str]:
    """In the order of their first appearance."""
    return list(dict.fromkeys(values))


def _csv(models: Sequence[Mapping[str, Any]], comparisons: Sequence[Comparison]) -> str:
    """A row per model: scores with intervals, and for each score the paired difference with its interval and p."""
    differences: dict[str, dict[str, Any]] = {}
    for entry in comparisons:
        differences.setdefault(entry.run, {}).update(
            {
                f"{entry.score}_difference": entry.difference,
                f"{entry.score}_difference_low": entry.low,
                f"{entry.score}_difference_high": entry.high,
                f"{entry.score}_p_holm": entry.p_holm,
            }
        )
    return csv_text([{**model, **differences.get(model["model"], {})} for model in models])
