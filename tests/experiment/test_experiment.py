"""Studies: planning, going on, failures, devices and the table, on a main.py that answers in an instant."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import msanet, peers
from data_pipeline.batches import steps_per_epoch
from data_pipeline.errors import RequestError
from data_pipeline.phantom_bone import SHIFTED_SETS
from msanet_jax.cli import main
from msanet_jax.evaluation.lesions import GROUPS
from msanet_jax.experiment.prepare import main as prepare_sets
from msanet_jax.experiment.runner import alone, carry_out, environment, expected_seconds
from msanet_jax.experiment.study import Journal, read_study
from msanet_jax.experiment.table import write_results
from tests.fakes import image_scores, write_scores

ROOT = Path(__file__).parents[2]
# Image i of 4 patients has i + 4 lesion pixels; model a finds all but one, b half of what a finds.
STAND_IN = """
import json, os, pathlib, sys, time
options = dict(argument.split("=", 1) for argument in sys.argv[1:])
folder = pathlib.Path(options["--workdir"])
model, fold = folder.parent.name, int(options["--config.data.fold"])
with (folder / "calls").open("a") as calls:
    calls.write("x")
if model == "broken" and fold == 1 and not pathlib.Path("mended").exists():
    print("ValueError: no luck today")
    sys.exit(3)
if pathlib.Path("slow").exists():
    time.sleep(60)
content = json.loads(pathlib.Path("scores", "b" if model == "b" else "a", str(fold), "metrics.json").read_text())
if pathlib.Path("provenance.json").exists():
    content["provenance"] |= json.loads(pathlib.Path("provenance.json").read_text())[folder.parent.name]
if pathlib.Path("needs_data").exists() and not (pathlib.Path(options["--data_dir"]) / "built").exists():
    sys.exit("no data set")
(folder / "metrics.json").write_text(json.dumps(content))
"""
STUDY = """
from ml_collections import ConfigDict
def get_config():
    models = tuple(dict(name=name, {more}recipe="configs/x.py", overrides=()) for name in {names})
    settings = dict(reference="a", folds=2, seeds=(0,), overrides={overrides}, bootstrap_samples=200)
    return ConfigDict(settings | dict(models=models))
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(STAND_IN)
    for model, fold in itertools.product("ab", range(2)):
        rows = []
        for number in (2 * fold, 2 * fold + 1):
            truth = number + 4
            found = truth - 1 if model != "b" else (truth - 1) // 2
            row: dict[str, Any] = {"image_id": f"i{number}", "patient": f"p{number}", "tp": found, "fp": 1}
            row |= {"fn": truth - found, "dsc": 2 * found / (found + 1 + truth), "lesions": 1, "detected": 1}
            row |= {"false_positives": 0, "lesion_dsc_sum": 0.5}
            for group in GROUPS:
                row |= {f"lesions_{group}": 1, f"detected_{group}": 1, f"lesion_dsc_sum_{group}": 0.5}
            rows.append(image_scores(**row))
        write_scores(tmp_path / "scores" / model / str(fold), rows)
    return _write(tmp_path)


def _write(folder: Path, *, names: str = '("a", "b", "broken")', overrides: str = "()", more: str = "") -> Path:
    path = folder / "experiments" / "study.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(STUDY).format(names=names, overrides=overrides, more=more))
    return path


def _experiment(study: Path, *more: str) -> int:
    return main(["experiment", str(study), "--workdir", str(study.parents[1] / "out"), "--quiet", *more])


def test_a_failed_run_is_passed_over_and_tried_again(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = study.parents[1] / "out"
    assert _experiment(study) == 1
    said = capsys.readouterr()
    assert "broken/fold1_seed0 failed, skipped: exit code 3: ValueError: no luck today" in said.err
    assert "1 run(s) of the table are missing" in said.err
    assert "| broken | 1 of 2 |" in said.out
    assert "not comparable with the 0.6671" in said.out
    (study.parents[1] / "mended").touch()
    assert _experiment(study) == 0
    calls = {path.parent.relative_to(out).as_posix(): path.read_text() for path in out.rglob("calls")}
    assert calls.pop("broken/fold1_seed0") == "xx"
    assert set(calls.values()) == {"x"} and len(calls) == 5  # what was finished was kept
    assert "## Failed runs" not in (out / "results.md").read_text()


def test_the_table_by_hand(study: Path) -> None:
    _write(study.parents[1], names='("a", "b")')
    assert _experiment(study) == 0
    out = study.parents[1] / "out"
    content = json.loads((out / "results.json").read_text())
    scores = {entry["model"]: entry for entry in content["models"]}
    truth = np.arange(4, 8)
    for model, found in (("a", truth - 1), ("b", (truth - 1) // 2)):
        dsc = 2 * found / (found + 1 + truth)
        pooled = 2 * found.sum() / (found.sum() + 4 + truth.sum())
        assert scores[model]["dsc_pooled"] == pytest.approx(pooled)
        assert dsc.min() <= scores[model]["dsc_pooled_low"] <= pooled <= scores[model]["dsc_pooled_high"] <= dsc.max()
        single = [
            2 * found[part].sum() / (found[part].sum() + 2 + truth[part].sum()) for part in (np.s_[:2], np.s_[2:])
        ]
        assert scores[model]["dsc_pooled_lowest_run"] == pytest.approx(min(single))
        assert scores[model]["dsc_pooled_highest_run"] == pytest.approx(max(single))
    difference = next(entry for entry in content["comparisons"] if entry["score"] == "dsc_pooled")
    assert (difference["run"], difference["reference"], difference["patients"]) == ("b", "a", 4)
    assert difference["difference"] == pytest.approx(scores["b"]["dsc_pooled"] - scores["a"]["dsc_pooled"])
    assert difference["high"] < 0.0
    rows = {row["model"]: row for row in csv.DictReader((out / "results.csv").read_text().splitlines())}
    assert float(rows["b"]["dsc_pooled_difference"]) == pytest.approx(difference["difference"])
    assert rows["a"]["dsc_pooled_difference"] == ""


def _provenance(**more: str) -> dict:
    return {"commit": "abc", "devices": "1 gpu", "host": "arm", "python": "3.12", "dataset": "phantom_bone/cpu"} | more


def test_differences_by_kind_of_lesion(study: Path) -> None:
    """Model b finds the same lesions at the same DSC: no difference, in every size and neighbourhood."""
    _write(study.parents[1], names='("a", "b")')
    assert _experiment(study) == 0
    out = study.parents[1] / "out"
    content = json.loads((out / "results.json").read_text())
    kinds = [f"lesion_dsc_mean{kind}" for kind in ("", "_small", "_medium", "_large", "_isolated", "_clustered")]
    found = {entry["score"]: entry for entry in content["comparisons"]}
    assert {*kinds, *(kind.replace("dsc_mean", "recall") for kind in kinds)} < set(found)
    assert all(
        found[kind]["difference"] == found[kind]["low"] == 0.0 and found[kind]["p_holm"] == 1.0 for kind in kinds
    )
    rows = {row["model"]: row for row in csv.DictReader((out / "results.csv").read_text().splitlines())}
    assert rows["b"]["lesion_dsc_mean_medium"] == "0.5" and rows["b"]["lesions_large"] == "4"
    assert float(rows["b"]["lesion_recall_isolated_difference_high"]) == 0.0
    page = (out / "results.md").read_text()
    assert "| model | all (4) | small (4) | medium (4) | large (4) | isolated (4) | clustered (4) |" in page
    assert f"| b |{' +0.000 [+0.000, +0.000] p 1.000 |' * 6}" in page
    # The table of every score stays as short as the main one.
    assert "lesion_dsc_mean_small | b" in page and "lesion_dsc_mean_large | b" not in page


def test_provenance_is_that_of_the_runs(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = study.parents[1]
    _write(root, names='("a", "b")')
    told = {"a": _provenance(dataset_version="1.0.1"), "b": _provenance(commit="def", dataset="/home/me/scans")}
    (root / "provenance.json").write_text(json.dumps(told))
    assert _experiment(study) == 0
    facts = json.loads((root / "out" / "results.json").read_text())["provenance"]
    assert facts["command"] == "msanet experiment experiments/study.py --workdir=..."
    assert facts["commits"] == ["abc", "def"]
    assert facts["machines"] == ["1 gpu, arm, Python 3.12"]
    assert facts["datasets"] == ["phantom_bone/cpu 1.0.1", "scans"]
    page = (root / "out" / "results.md").read_text()
    assert "the runs come from 2 commits" in page
    assert str(root) not in page and "/home/me" not in page
    capsys.readouterr()
    metrics = root / "out" / "b" / "fold0_seed0" / "metrics.json"
    content = json.loads(metrics.read_text())
    content["provenance"]["dataset_version"] = "1.0.0"
    metrics.write_text(json.dumps(content))
    assert _experiment(study, "--table") == 2
    said = capsys.readouterr().err
    assert "different versions of the data set (a/fold0_seed0 on 1.0.1, b/fold0_seed0 on 1.0.0)" in said


BUILD = """
import json, pathlib, sys, time
runs, folder = json.loads(sys.stdin.read()), pathlib.Path(sys.argv[1].removeprefix("--data_dir="))
folder.mkdir(exist_ok=True)
(folder / "begun").mkdir()  # fails where another process has begun
time.sleep(1)
(folder / "recipes").write_text(json.dumps([arguments[0] for arguments in runs]))
(folder / "built").touch()
"""


def test_data_sets_are_built_once_before_the_runs_of_two_devices(study: Path, tmp_path: Path) -> None:
    """A builder that lets nobody build beside it, and runs that refuse to start without its set."""
    root = study.parents[1]
    (root / "msanet_jax" / "experiment").mkdir(parents=True)
    for package in ("msanet_jax", "msanet_jax/experiment"):
        (root / package / "__init__.py").touch()
    (root / "msanet_jax" / "experiment" / "prepare.py").write_text(BUILD)
    for name in ("mended", "needs_data"):
        (root / name).touch()
    plan, data = read_study(study), tmp_path / "fresh"
    journal = Journal(tmp_path / "out", plan)
    settings = {"workdir": tmp_path / "out", "data_dir": data, "progress": False}
    assert not carry_out(plan, journal, devices=("0", "1"), **settings)
    assert all(journal.finished(run) for run in plan.runs)
    assert json.loads((data / "recipes").read_text()) == ["--config=configs/x.py"] * 6
    # Nothing is left to do: nothing is built. Something is left, and the build fails: one line, no run.
    assert not carry_out(plan, journal, devices=("0", "1"), **settings)
    journal.end(plan.runs[0], state="failed", seconds=0.0)
    with pytest.raises(RequestError, match=r"fresh: the data sets could not be prepared \(exit code 1\)"):
        carry_out(plan, journal, **settings)
    assert journal.outcomes[plan.runs[0].name].attempts == 1


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of the library that reads recipes
def test_data_sets_of_recipes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Overrides count, a set is built once, and what cannot be built or read is left to its run."""
    monkeypatch.chdir(ROOT)
    runs = [
        ["--config=configs/msanet.py:cpu", "--config.data.fold=0"],
        ["--config=configs/peers.py:unet,cpu", "--config.data.fold=1"],
        ["--config=configs/absent.py"],
        ["--config=configs/msanet.py:smoke", "--config.data.field=whole_body"],
        ["--config=configs/msanet.py:smoke", "--config.data.dataset=nowhere"],
    ]
    built = []

    def build(dataset: str, data_dir: str, field: str) -> None:
        if dataset == "nowhere":
            raise RequestError("no such set")
        built.append((dataset, data_dir, field))

    monkeypatch.setattr("data_pipeline.datasets.prepare", build)
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(runs)))
    assert prepare_sets([f"--data_dir={tmp_path}"]) == 0
    names = [("phantom_bone/cpu", "thorax"), ("phantom_bone/tiny", "whole_body")]
    assert built == [(name, str(tmp_path), field) for name, field in names]
    said = capsys.readouterr().err
    assert "nowhere could not be prepared, its runs will try: no such set" in said
    assert "--config=configs/absent.py: not readable" in said


def test_an_interrupted_study_goes_on(study: Path) -> None:
    (study.parents[1] / "slow").touch()
    out = study.parents[1] / "out"
    command = [sys.executable, "-m", "msanet_jax", "experiment", str(study), "--workdir", str(out), "--quiet"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (out / "a" / "fold0_seed0" / "calls").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75, said
    assert "run the same command again to continue" in said
    outcome = json.loads((out / "experiment.json").read_text())["runs"]
    assert {name: entry["state"] for name, entry in outcome.items()} == {"a/fold0_seed0": "started"}
    for name in ("slow", "mended"):
        path = study.parents[1] / name
        path.touch() if name == "mended" else path.unlink()
    assert _experiment(study) == 0
    assert json.loads((out / "experiment.json").read_text())["runs"]["a/fold0_seed0"]["attempts"] == 2


def test_two_at_work_in_one_folder_are_refused(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with alone(study.parents[1] / "out"):
        assert _experiment(study) == 2
    assert "another msanet experiment is at work in it" in capsys.readouterr().err
    with alone(study.parents[1] / "out"):  # free again
        pass


def test_another_study_is_refused(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(study.parents[1], names='("a",)')
    assert _experiment(study) == 0
    _write(study.parents[1], names='("a",)', overrides='("train.total_epochs=3.0",)')
    assert _experiment(study) == 2
    assert "holds another study: a/fold0_seed0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"names": '("b",)'}, "reference 'a' must be one of the models b"),
        ({"names": '("a", "a")'}, "models occur twice: a"),
        ({"more": "against=('c',), "}, "against 'c' must be one of the models a, b, broken"),
        (
            {"more": "scored='default', "},
            "a model has name, overrides, recipe or name, on, scored, not name, overrides,",
        ),
        ({"overrides": "oops"}, "NameError"),
    ],
)
def test_wrong_files_get_one_line(study: Path, change: dict, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    _write(study.parents[1], **change)
    assert _experiment(study) == 2
    assert said in capsys.readouterr().err
    assert main(["experiment", "absent.py", "--workdir", "x"]) == 2
    assert not Path("x").exists()


SCORED = """
from ml_collections import ConfigDict
def get_config():
    models = (
        dict(name="there", scored="default", on="set/x"),
        dict(name="a", recipe="configs/x.py", overrides=()),
        dict(name="b", recipe="configs/x.py", overrides=(), against=("there", "a")),
        dict(name="b_again", scored="b", on="set/y", against=("a",)),
    )
    settings = dict(reference="there", folds=0, seeds=(0, 5), overrides=("data.subsets=2",), bootstrap_samples=200)
    return ConfigDict(settings | dict(models=models))
"""
# Of `msanet evaluate`: a model that is there has the scores of a, a run its own; a run that is not finished has none.
EVALUATE = """
import pathlib, shutil, sys, time
command, source, on, out, _ = sys.argv[1:]
out, source = pathlib.Path(out.removeprefix("--out=")), pathlib.Path(source)
assert (command, on) == ("evaluate", "--on=set/x" if str(source) == "default" else "--on=set/y")
time.sleep(0.2)
seed = str(int(out.name == "seed5"))
source = pathlib.Path("scores", "a", seed) if str(source) == "default" else source
shutil.copy(source / "metrics.json", out)
"""


def test_models_that_are_there_are_scored(study: Path, tmp_path: Path) -> None:
    """Each in the run's own folder, a model of the study after its training, also where a second device is free."""
    root = study.parents[1]
    study.write_text(SCORED)
    (root / "main.py").write_text(
        STAND_IN.replace('int(options["--config.data.fold"])', 'int(options["--config.seed"]) // 5').replace(
            "content = ", "time.sleep(1); content = "
        )
    )
    package = root / "msanet_jax"
    (package / "experiment").mkdir(parents=True)
    for file in (package / "__init__.py", package / "experiment" / "__init__.py"):
        file.touch()
    (package / "experiment" / "prepare.py").write_text(
        "import json, pathlib, sys\npathlib.Path('prepared').write_text(sys.stdin.read())"
    )
    (package / "__main__.py").write_text(EVALUATE)
    plan = read_study(study)
    study.write_text(SCORED.replace('scored="b"', 'scored="there"'))
    with pytest.raises(RequestError, match="b_again scores a model that is scored itself"):
        read_study(study)
    assert [run.name for run in plan.runs[:4]] == ["there/seed0", "a/seed0", "b/seed0", "b_again/seed0"]
    # Another seed takes other patients.
    assert plan.runs[5].arguments[1:] == tuple(
        f"--config.{entry}" for entry in ("data.subsets=2", "seed=5", "data.fold_seed=5")
    )
    settings = {"workdir": tmp_path / "out", "data_dir": tmp_path, "progress": False}
    journal = Journal(tmp_path / "out", plan)
    assert not carry_out(plan, journal, devices=("0", "1", "2"), **settings)
    assert len(json.loads((root / "prepared").read_text())) == 4
    content = write_results(plan, journal, workdir=tmp_path / "out")
    pairs = dict.fromkeys((entry["run"], entry["reference"]) for entry in content["comparisons"])
    assert list(pairs) == [("a", "there"), ("b", "there"), ("b", "a"), ("b_again", "a")]
    found = {(entry["run"], entry["reference"]): entry for entry in content["comparisons"] if "dsc_p" in entry["score"]}
    assert found["a", "there"]["difference"] == 0.0
    # TP 18 of 22 and 8 of 22, four false pixels each.
    for pair in (("b", "there"), ("b", "a"), ("b_again", "a")):
        assert found[pair]["difference"] == pytest.approx(2 * 8 / (8 + 4 + 22) - 2 * 18 / (18 + 4 + 22))


def test_devices(study: Path, tmp_path: Path) -> None:
    assert environment("3")["CUDA_VISIBLE_DEVICES"] == "3"
    assert environment("") == dict(os.environ)
    for wrong in ("gpu0", "cpu9999", "cpu"):
        with pytest.raises(ValueError, match="--devices"):
            environment(wrong)
    (study.parents[1] / "mended").touch()
    plan = read_study(study)
    journal = Journal(tmp_path / "out", plan)
    core = min(os.sched_getaffinity(0))
    failed = carry_out(
        plan, journal, workdir=tmp_path / "out", data_dir=tmp_path, devices=("", f"cpu{core}"), progress=False
    )
    assert not failed
    assert all(journal.finished(run) for run in plan.runs)


def test_time_left_from_what_is_finished(study: Path, tmp_path: Path) -> None:
    plan = read_study(study)
    journal = Journal(tmp_path / "out", plan)
    runs = {run.name: run for run in plan.runs}
    assert expected_seconds(plan, journal, runs["b/fold0_seed0"]) == 0.0
    for name, seconds in (("a/fold0_seed0", 10.0), ("b/fold0_seed0", 30.0)):
        journal.begin(runs[name])
        journal.end(runs[name], state="finished", seconds=seconds)
    assert expected_seconds(plan, journal, runs["b/fold1_seed0"]) == 30.0
    assert expected_seconds(plan, journal, runs["broken/fold0_seed0"]) == 20.0


def test_few_scans_trains_as_many_steps_on_every_number_of_patients() -> None:
    """A set of `size` patients with an image each, by data.subsets of 40; the scorings name what is trained."""
    plan = read_study(ROOT / "experiments" / "few_scans.py")
    (shifted,) = (config for config in SHIFTED_SETS if config.name == "shifted_uptake")
    trained = [run for run in plan.runs if run.arguments[0].startswith("--config=")]
    assert len(trained) == 16 and len(plan.runs) == 28
    for run in trained:
        given = dict(entry.removeprefix("--config.").split("=") for entry in run.arguments[1:])
        size, batch = shifted.patients["train"] // int(given["data.subsets"]), int(given["train.batch_size"])
        assert run.model.split("_")[1] == str(size)
        epoch = steps_per_epoch(size, batch)
        assert float(given["train.total_epochs"]) * epoch == 400
        assert float(given["generator_optimizer.warmup_epochs"]) * epoch == 20
        assert ("train.init_from" in given) == run.model.startswith("tuned")
        assert shifted.patients["validation"] >= int(given["data.subsets"])
    assert all(run.scored in {other.name for other in trained} for run in plan.runs if run.scored)


def test_the_projects_studies_name_real_recipes() -> None:
    for name in ("paper_table", "large_table", "quick"):
        plan = read_study(ROOT / "experiments" / f"{name}.py")
        assert plan.root == ROOT
        for model in plan.config.models:
            path, _, variants = model["recipe"].partition(":")
            config = {"configs/msanet.py": msanet, "configs/peers.py": peers}[path].get_config(variants)
            for entry in (*plan.config.overrides, *model["overrides"]):
                section, leaf = entry.split("=")[0].split(".")
                assert leaf in config[section], entry
    table = read_study(ROOT / "experiments" / "paper_table.py")
    # The filter is younger than the table.
    assert set(peers.PEERS) - {"top_hat"} | {"msanet"} < set(table.models)
    assert all(len(table.runs_of(model)) >= 3 for model in table.models)
    large = read_study(ROOT / "experiments" / "large_table.py")
    assert set(large.models) == {"msanet", "unet"} and len(large.runs) == 2
    assert "data.dataset=phantom_bone/large" in large.config.overrides
    # The rows pairing_multiply, pyramid_1 and pyramid_2 are ablations only as long as the whole is this:
    whole = msanet.get_config("cpu")
    assert (whole.discriminator.pairing, whole.adversary.pyramid_levels) == ("concat", 3)
