"""Studies of pairs: their plan, what is refused, and the table of two pairs written by hand."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from configs import msanet, peers
from data_pipeline.errors import RequestError
from data_pipeline.phantom_bone import PhantomBone, planned_views
from msanet_jax.cli import main
from msanet_jax.evaluation.lesions import GROUPS
from msanet_jax.evaluation.results import ImageScores
from msanet_jax.experiment.pairs import write_pair_results
from msanet_jax.experiment.power import Design, operation
from msanet_jax.experiment.study import FINISHED, Journal, Study, read_study
from tests.fakes import image_scores, write_scores

ROOT = Path(__file__).parents[2]
STUDY = """
from ml_collections import ConfigDict
def get_config():
    models = tuple(dict(name=name, recipe="configs/x.py", overrides=()) for name in ("unet", "msanet"))
    settings = dict(reference="unet", overrides=("a.b=1",), bootstrap_samples=400, pairs=2, primary="recall_pooled")
    settings |= dict(secondary=("lesion_dsc_mean_small",), primary_state="last")
    settings |= dict(expected=dict(difference=0.1, training_sd=0.01, patient_sd=0.1, patients=100))
    return ConfigDict(settings | dict(models=models) | dict({changes}))
"""
TRUTH = 10
# Pixels found of `TRUTH` in the only image of patients p0 and p1, by model and pair: last state, best state.
FOUND = {
    "unet": {"last": ((4, 4), (6, 6)), "best": ((5, 5), (5, 5))},
    "msanet": {"last": ((6, 6), (9, 9)), "best": ((5, 6), (5, 6))},
}


def _study(folder: Path, changes: str = "") -> Path:
    (folder / "main.py").touch()
    (folder / "study.py").write_text(STUDY.format(changes=changes))
    return folder / "study.py"


def _rows(found: tuple[int, int]) -> list[ImageScores]:
    rows = []
    for place, tp in enumerate(found):
        row: dict[str, Any] = {"image_id": f"i{place}", "patient": f"p{place}", "view": "anterior", "tp": tp, "fp": 0}
        row |= {"fn": TRUTH - tp, "dsc": 2 * tp / (tp + TRUTH), "lesions": 1, "detected": 1}
        row |= {"lesion_dsc_sum": 0.5, "false_positives": 0, "lesion_count_error": 0, "lesions_without_pixels": 0}
        row |= {f"{name}_{group}": 1 for group in GROUPS for name in ("lesions", "detected", "lesion_dsc_sum")}
        rows.append(image_scores(**row))
    return rows


def _finished(study: Study, workdir: Path, *, pairs: int) -> Journal:
    journal = Journal(workdir, study)
    for run in study.runs:
        if run.replicate < pairs:
            journal.begin(run)
            journal.end(run, state=FINISHED, seconds=60.0)
            for state, folder in (("last", workdir / run.name / "last"), ("best", workdir / run.name)):
                write_scores(folder, _rows(FOUND[run.model][state][run.replicate]))
    return journal


def test_runs_of_a_pair_differ_in_the_model_alone(tmp_path: Path) -> None:
    study = read_study(_study(tmp_path))
    assert [run.name for run in study.runs] == ["unet/pair00", "msanet/pair00", "unet/pair01", "msanet/pair01"]
    first, other, second, _ = (set(run.arguments) for run in study.runs)
    assert first == other
    assert first ^ second == {f"--config.{entry}{pair}" for entry in ("seed=", "data.subset=") for pair in (0, 1)}
    assert {"--config.data.subsets=2", "--config.evaluate.also_last=True", "--config.a.b=1"} < first
    assert study.design == "2 pairs of trainings on new training patients each"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ("pairs=1", "pairs=1 must be at least 2"),
        ("primary='dsc'", "score 'dsc' must be one of dsc_pooled"),
        ("secondary=('hd',)", "score 'hd' must be"),
        ("primary_state='first'", "primary_state 'first' must be one of last, best"),
        ("expected={'difference': 1}", "expected has the keys difference, training_sd"),
        ("folds=3", r"unknown: \['folds'\]; the keys are reference.*primary_state"),
    ],
)
def test_wrong_plans_are_refused(tmp_path: Path, changes: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        read_study(_study(tmp_path, changes))


def test_the_table_by_hand(tmp_path: Path) -> None:
    study = read_study(_study(tmp_path))
    content = write_pair_results(study, _finished(study, tmp_path, pairs=2), workdir=tmp_path)
    last, best = (
        next(entry for entry in content["states"][state]["comparisons"] if entry["score"] == "recall_pooled")
        for state in ("last", "best")
    )
    # 0.6 and 0.9 against 0.4 and 0.6: better by 0.2 in one pair and by 0.3 in the other, alike in both patients.
    assert (last["run"], last["reference"], last["patients"], last["images"]) == ("msanet", "unet", 2, 4)
    assert (last["value"], last["reference_value"]) == pytest.approx((0.75, 0.5))
    assert (last["low"], last["difference"], last["high"]) == pytest.approx((0.2, 0.25, 0.3))
    # The best checkpoints differ in one patient alone, alike in both pairs.
    assert (best["low"], best["difference"], best["high"]) == pytest.approx((0.0, 0.05, 0.1))
    by_pair = content["states"]["last"]["by_pair"]["msanet"]
    assert list(by_pair["differences"].values()) == pytest.approx([0.2, 0.3])
    assert by_pair["sd"] == pytest.approx(0.05 * 2**0.5)
    unet = content["states"]["last"]["models"][0]
    assert (unet["recall_pooled_low"], unet["recall_pooled_high"]) == pytest.approx((0.4, 0.6))
    page = (tmp_path / "results.md").read_text()
    assert "**msanet minus unet, recall_pooled of the last state: +0.250 (95 % interval +0.200 to +0.300" in page
    assert "2 of 2 pairs, 2 test patients" in page
    assert page.index("the averaged parameters of the last step") < page.index("the checkpoint of the best validation")
    assert "| primary | recall_pooled | msanet | +0.250 | +0.200 to +0.300 |" in page
    assert "| secondary | lesion_dsc_mean_small | msanet | +0.000 |" in page
    assert "in recall_pooled, pair by pair: +0.200, +0.300; sd 0.071." in page
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert [(row["state"], row["model"]) for row in rows][1] == ("last", "msanet")
    assert float(rows[1]["recall_pooled_difference"]) == pytest.approx(0.25)


def test_one_finished_pair_is_no_result(tmp_path: Path) -> None:
    study = read_study(_study(tmp_path))
    content = write_pair_results(study, _finished(study, tmp_path, pairs=1), workdir=tmp_path)
    assert content["states"]["last"]["comparisons"] == []
    page = (tmp_path / "results.md").read_text()
    assert "Two finished pairs are needed for a result." in page
    assert "| unet | 1 of 2 | 1.0 |" in page


def test_the_plan_is_shown_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _study(tmp_path)
    assert main(["experiment", str(path), "--plan"]) == 0
    said = capsys.readouterr().out
    assert "- 2 pairs, 4 trainings: unet, msanet." in said
    power = operation(Design(2, 100, training_sd=0.01, patient_sd=0.1), difference=0.1).power
    assert f"- Power to see a difference of 0.1: {power:.3f}." in said and power > 0.5
    assert main(["experiment", str(ROOT / "experiments" / "quick.py"), "--plan"]) == 2
    assert "this one has folds and seeds" in capsys.readouterr().err


def test_the_projects_studies_of_pairs() -> None:
    """The main study has power for 0.01; every study fits its data set, and its recipes have the keys it changes."""
    sizes = {f"phantom_bone/{config.name}": config for config in PhantomBone.BUILDER_CONFIGS}
    for path in sorted((ROOT / "experiments").glob("pairs_*.py")):
        study = read_study(path)
        for run in study.runs[: len(study.models)]:
            file, _, variants = run.arguments[0].removeprefix("--config=").partition(":")
            config = {"configs/msanet.py": msanet, "configs/peers.py": peers}[file].get_config(variants)
            for argument in run.arguments[1:]:
                key, _, _ = argument.removeprefix("--config.").partition("=")
                section, _, leaf = key.rpartition(".")
                assert leaf in (config[section] if section else config), argument
        dataset = next((e.removeprefix("data.dataset=") for e in study.config.overrides if "dataset" in e), "")
        if dataset:
            patients = sizes[dataset].patients
            assert patients["test"] == study.config.expected.patients
            assert (patients["train"] / study.pairs, patients["validation"] / study.pairs) == (70, 20)
    study = read_study(ROOT / "experiments" / "pairs_unet.py")
    assert (study.pairs, study.config.primary, study.config.primary_state) == (16, "dsc_pooled", "last")
    expected = study.config.expected
    assert expected.patients == 1000
    design = Design(study.pairs, expected.patients, expected.training_sd, expected.patient_sd)
    assert operation(design, difference=expected.difference, simulations=400, samples=400).power > 0.75
    # 1.6 images a patient, as in the `cpu` set.
    assert (
        sum(len(views) for part in planned_views(sizes["phantom_bone/pairs"]).values() for views in part.values())
        == 3904
    )
