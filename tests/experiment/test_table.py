"""The table of a study from runs written by hand: two models, two replicates, two patients of four images each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from msanet_jax.evaluation.lesions import GROUPS
from msanet_jax.evaluation.results import ImageScores
from msanet_jax.experiment.study import FAILED, FINISHED, Journal, Run, Study
from msanet_jax.experiment.table import write_results
from tests.fakes import image_scores, write_scores

TRUTH = 10
# Pixels found of `TRUTH` in each of the four images of patients p0 and p1, by model and replicate.
FOUND = {
    "a": ((10, 0), (10, 0)),
    "b": ((10, 5), (10, 0)),
    "late": ((5, 5), None),
}
SECONDS = {"a": (60.0, 120.0), "b": (30.0, 30.0), "late": (240.0, 6000.0)}


def _rows(found: tuple[int, int]) -> list[ImageScores]:
    rows = []
    for place in range(8):
        tp = found[place // 4]
        row: dict[str, Any] = {
            "image_id": f"i{place}",
            "patient": f"p{place // 4}",
            "view": "anterior",
            "tp": tp,
            "fp": 0,
        }
        row |= {"fn": TRUTH - tp, "dsc": 2 * tp / (tp + TRUTH), "lesions": 1, "detected": int(tp > 0)}
        row |= {"lesion_dsc_sum": tp / TRUTH, "false_positives": place, "lesion_count_error": 0}
        row |= {"lesions_without_pixels": 0}
        for number, group in enumerate(GROUPS):
            row |= {f"lesions_{group}": number, f"detected_{group}": 0, f"lesion_dsc_sum_{group}": 0.0}
        rows.append(image_scores(**row))
    return rows


@pytest.fixture
def results(tmp_path: Path) -> dict[str, Any]:
    """What results.json holds."""
    models = tuple({"name": name, "recipe": "x.py", "overrides": ()} for name in FOUND)
    settings = {"reference": "a", "folds": 2, "seeds": (0,), "overrides": (), "bootstrap_samples": 400}
    runs = tuple(Run(name, replicate, f"{name}/fold{replicate}_seed0", ()) for replicate in range(2) for name in FOUND)
    study = Study(tmp_path / "study.py", tmp_path, ConfigDict({**settings, "models": models}), runs)
    record = Journal(tmp_path, study)
    for run in runs:
        found = FOUND[run.model][run.replicate]
        record.begin(run)
        record.end(run, state=FAILED if found is None else FINISHED, seconds=SECONDS[run.model][run.replicate])
        # A failed run's file is that of an earlier attempt: nothing reads it.
        rows = _rows((0, 0) if found is None else found)
        write_scores(tmp_path / run.name, rows)
    write_results(study, record, workdir=tmp_path)
    return json.loads((tmp_path / "results.json").read_text())


def test_scores_pool_the_finished_runs(results: dict[str, Any]) -> None:
    a, b, late = results["models"]
    assert [entry["model"] for entry in (a, b, late)] == ["a", "b", "late"]
    assert [(entry["runs_finished"], entry["runs_planned"]) for entry in (a, b, late)] == [(2, 2), (2, 2), (1, 2)]
    assert [entry["recall_pooled"] for entry in (a, b, late)] == pytest.approx([1 / 2, 5 / 8, 1 / 2])
    assert b["dsc_pooled"] == pytest.approx(2 * 100 / (100 + 160))
    assert b["false_positives_per_image"] == pytest.approx(28 / 8)
    assert [entry["patients"] for entry in (a, b, late)] == [2, 2, 2]
    assert (b["lesions"], late["lesions"]) == (16, 8)
    assert b["lesions_medium"] == 16 * GROUPS.index("medium")
    assert [entry["minutes_per_run"] for entry in (a, b, late)] == pytest.approx([1.5, 0.5, 4.0])


def test_lowest_and_highest_run(results: dict[str, Any]) -> None:
    _, b, late = results["models"]
    assert b["dsc_pooled_lowest_run"] == pytest.approx(2 * 20 / (20 + 40))
    assert b["dsc_pooled_highest_run"] == pytest.approx(2 * 30 / (30 + 40))
    assert late["dsc_pooled_lowest_run"] == late["dsc_pooled_highest_run"] == pytest.approx(2 * 20 / (20 + 40))


def test_intervals_draw_patients(results: dict[str, Any]) -> None:
    """Model a finds all of patient p0 and nothing of p1: a quarter of the samples holds one of them alone.

    Its sixteen rows drawn one by one, or its eight images, would give about 0.2 to 0.8, its two replicates 0.5 to 0.5.
    """
    a, b, _ = results["models"]
    assert (a["recall_pooled_low"], a["recall_pooled_high"]) == (0.0, 1.0)
    assert (b["recall_pooled_low"], b["recall_pooled_high"]) == (0.25, 1.0)
    assert (a["dsc_pooled_low"], a["dsc_pooled_high"]) == (0.0, 1.0)


def test_differences_are_paired_over_shared_runs(results: dict[str, Any]) -> None:
    """Model b beats a in patient p1 alone; `late` is compared on the replicate that it has."""
    found = {entry["run"]: entry for entry in results["comparisons"] if entry["score"] == "recall_pooled"}
    b, late = found["b"], found["late"]
    assert (b["reference"], b["patients"], b["images"]) == ("a", 2, 16)
    assert (b["value"], b["reference_value"], b["difference"]) == pytest.approx((5 / 8, 1 / 2, 1 / 8))
    assert (b["low"], b["high"]) == pytest.approx((0.0, 1 / 4))
    assert (late["patients"], late["images"]) == (2, 8)
    assert (late["value"], late["reference_value"]) == pytest.approx((1 / 2, 1 / 2))
    assert (late["low"], late["high"]) == pytest.approx((-1 / 2, 1 / 2))
    # Each is alone in its group of runs: nothing to correct for.
    assert (b["p_holm"], late["p_holm"]) == (b["p"], late["p"])
