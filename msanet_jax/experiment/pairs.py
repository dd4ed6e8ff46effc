"""The result of a study of pairs: the primary difference, its interval over trainings and patients, and the rest.

Scores are of all pairs and test patients together (sums first, division last). Intervals and p come from a bootstrap
crossed over pairs and patients (`evaluation.bootstrap.CrossedWeights`), so they speak of other trainings on other
patients and of other test patients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.files import write_json, write_text
from data_pipeline.pages import render
from msanet_jax.evaluation.bootstrap import CrossedWeights, expanded_level, interval, sampled, value
from msanet_jax.evaluation.comparison import check_same_data, compare_runs
from msanet_jax.evaluation.results import ImageScores
from msanet_jax.evaluation.statistics import columns, statistics
from msanet_jax.experiment.markdown import COLUMNS
from msanet_jax.experiment.power import Design, operation
from msanet_jax.experiment.study import FAILED, STATES, Journal, Run, Study
from msanet_jax.experiment.table import provenance
from msanet_jax.runs.metrics_file import Provenance, csv_text, read_metrics

_TEMPLATES = Path(__file__).with_name("templates")
Rows = list[ImageScores]


def plan(study: Study) -> dict[str, Any]:
    """What the study file fixes, and the power that it has under what it expects."""
    config = study.config
    expected = config.expected.to_dict()
    difference, patients = float(expected["difference"]), int(expected["patients"])
    design = Design(study.pairs, patients, float(expected["training_sd"]), float(expected["patient_sd"]))
    found = operation(design, difference=difference)
    return {
        "pairs": study.pairs,
        "runs": len(study.runs),
        "models": list(study.models),
        "reference": config.reference,
        "primary": config.primary,
        "primary_state": config.primary_state,
        "secondary": list(config.secondary),
        "expected": expected,
        "power": found.power,
        "coverage": found.coverage,
    }


def plan_text(study: Study) -> str:
    """The plan as Markdown."""
    return render(_TEMPLATES / "plan.md.jinja", plan=plan(study)).rstrip("\n")


def write_pair_results(study: Study, journal: Journal, *, workdir: Path) -> dict[str, Any]:
    """Writes results.md, results.csv and results.json of the runs finished so far.

    Returns:
      What results.json holds.

    Raises:
      RequestError: a finished run's scores cannot be read, or the runs were scored on different versions of the set.
    """
    finished = [run for run in study.runs if journal.finished(run)]
    states, note = {}, ""
    recorded: list[Provenance] = []
    for state, folder in STATES.items():
        # One state at a time in memory: a study has tens of thousands of rows.
        contents = {run: read_metrics(workdir / run.name / folder) for run in finished}
        recorded = [metrics.provenance for metrics in contents.values()]
        note = next((metrics.note for metrics in contents.values()), "")
        check_same_data({run.name: metrics.provenance.dataset_version for run, metrics in contents.items()})
        states[state] = _state(study, {run: metrics.images for run, metrics in contents.items()})
    content = {
        "note": note,
        "experiment": study.path.name,
        "reference": study.config.reference,
        "plan": plan(study),
        "models": [_model(study, journal, model) for model in study.models],
        "states": states,
        "runs": {name: dataclasses.asdict(outcome) for name, outcome in journal.outcomes.items()},
        "provenance": provenance(study, journal, recorded),
    }
    write_json(workdir / "results.json", content)
    write_text(workdir / "results.csv", csv_text(_table(states)))
    write_text(workdir / "results.md", _page(content))
    return content


def _model(study: Study, journal: Journal, model: str) -> dict[str, Any]:
    planned = study.runs_of(model)
    seconds = [journal.outcomes[run.name].seconds for run in planned if journal.finished(run)]
    return {
        "model": model,
        "runs_planned": len(planned),
        "runs_finished": len(seconds),
        "minutes_per_run": round(sum(seconds) / len(seconds) / 60, 2) if seconds else float("nan"),
    }


def _state(study: Study, images: Mapping[Run, Sequence[ImageScores]]) -> dict[str, Any]:
    """Scores, differences, and differences pair by pair of one state of all networks."""
    rows: dict[str, dict[int, Rows]] = {model: {} for model in study.models}
    for run, found in images.items():
        rows[run.model][run.replicate] = [dataclasses.replace(row, replicate=run.replicate) for row in found]
    reference, samples = study.config.reference, int(study.config.bootstrap_samples)
    scores = list(dict.fromkeys([study.config.primary, *study.config.secondary, *COLUMNS]))
    comparisons, by_pair = [], {}
    for model in study.models:
        shared = sorted(rows[model].keys() & rows[reference].keys())
        if model == reference or len(shared) < 2:
            continue
        pooled = {name: [row for pair in shared for row in rows[name][pair]] for name in (reference, model)}
        comparisons += compare_runs(pooled, scores=scores, samples=samples, crossed=True)
        single = [
            _score(rows[model][pair], study.config.primary) - _score(rows[reference][pair], study.config.primary)
            for pair in shared
        ]
        by_pair[model] = {"differences": dict(zip(shared, single, strict=True)), "sd": float(np.std(single, ddof=1))}
    return {
        "models": [_scores(model, rows[model], scores, samples) for model in study.models if len(rows[model]) > 1],
        "comparisons": [dataclasses.asdict(entry) for entry in comparisons],
        "by_pair": by_pair,
    }


def _score(rows: Rows, score: str) -> float:
    return value(statistics(columns(rows))[score], len(rows))


def _scores(model: str, rows: Mapping[int, Rows], scores: Sequence[str], samples: int) -> dict[str, Any]:
    """Of one model: every score of all its pairs together, with its interval."""
    pooled = [row for pair in sorted(rows) for row in rows[pair]]
    trainings, patients = [str(row.replicate) for row in pooled], [row.patient for row in pooled]
    weights = CrossedWeights(trainings, patients, samples=samples, seed=0)
    table, level = statistics(columns(pooled)), expanded_level(weights.trainings)
    entry: dict[str, Any] = {"model": model, "pairs": len(rows)}
    for score in scores:
        low, high = interval(sampled(table[score], weights), level)
        entry |= {score: value(table[score], len(pooled)), f"{score}_low": low, f"{score}_high": high}
    return entry


def _table(states: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row per state and model: scores with intervals, and the differences with theirs."""
    table = []
    for state, found in states.items():
        for entry in found["models"]:
            row = {"state": state, **entry}
            for other in found["comparisons"]:
                if other["run"] == entry["model"]:
                    row |= {
                        f"{other['score']}_difference{end}": other[key]
                        for end, key in (("", "difference"), ("_low", "low"), ("_high", "high"), ("_p", "p"))
                    }
            table.append(row)
    return table


def _page(content: Mapping[str, Any]) -> str:
    fixed = content["plan"]
    return render(
        _TEMPLATES / "pairs.md.jinja",
        content=content,
        facts=content["provenance"],
        plan=fixed,
        columns=COLUMNS,
        chosen=[fixed["primary"], *fixed["secondary"]],
        order=[fixed["primary_state"], *(state for state in STATES if state != fixed["primary_state"])],
        titles={"last": "the averaged parameters of the last step", "best": "the checkpoint of the best validation"},
        failures={name: run["reason"] for name, run in content["runs"].items() if run["state"] == FAILED},
    )
