"""Studies: planning, going on, failures, devices and the table, on a main.py that answers in an instant."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from configs import msanet, peers
from msanet_jax.cli import main
from msanet_jax.experiment import Record, read_study
from msanet_jax.experiment_runs import carry_out, environment, expected_seconds
from msanet_jax.lesion_metrics import GROUPS

ROOT = Path(__file__).parents[1]
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
rows = []
for number in (2 * fold, 2 * fold + 1):
    truth = number + 4
    found = truth - 1 if model != "b" else (truth - 1) // 2
    row = dict(image_id=f"i{number}", patient=f"p{number}", view="anterior", tp=found, fp=1, fn=truth - found)
    row |= dict(dsc=2 * found / (found + 1 + truth), lesions=1, detected=1, false_positives=0, lesion_dsc_sum=0.5)
    row |= dict(lesion_count_error=0, lesions_without_pixels=0)
    for group in GROUPS:
        row |= {f"lesions_{group}": 1, f"detected_{group}": 1, f"lesion_dsc_sum_{group}": 0.5}
    rows.append(row)
(folder / "metrics.json").write_text(json.dumps(dict(schema_version=2, note="not comparable with the 0.6671", split="test", images=rows)))
"""
STUDY = """
from ml_collections import ConfigDict
def get_config():
    models = tuple(dict(name=name, recipe="configs/x.py", overrides=()) for name in {names})
    settings = dict(reference="a", folds=2, seeds=(0,), overrides={overrides}, bootstrap_samples=200)
    return ConfigDict(settings | dict(models=models))
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(f"GROUPS = {tuple(GROUPS)!r}\n{STAND_IN}")
    return _write(tmp_path)


def _write(folder: Path, *, names: str = '("a", "b", "broken")', overrides: str = "()") -> Path:
    path = folder / "experiments" / "study.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(STUDY).format(names=names, overrides=overrides))
    return path


def _experiment(study: Path, *more: str) -> int:
    return main(["experiment", str(study), "--workdir", str(study.parents[1] / "out"), "--quiet", *more])


def test_a_failed_run_is_passed_over_and_tried_again(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = study.parents[1] / "out"
    assert _experiment(study) == 1
    said = capsys.readouterr()
    assert "broken/fold1_seed0 failed, passed over: exit code 3: ValueError: no luck today" in said.err
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
    assert "the same command goes on" in said
    outcome = json.loads((out / "experiment.json").read_text())["runs"]
    assert {name: entry["state"] for name, entry in outcome.items()} == {"a/fold0_seed0": "started"}
    for name in ("slow", "mended"):
        path = study.parents[1] / name
        path.touch() if name == "mended" else path.unlink()
    assert _experiment(study) == 0
    assert json.loads((out / "experiment.json").read_text())["runs"]["a/fold0_seed0"]["attempts"] == 2


def test_another_study_is_refused(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(study.parents[1], names='("a",)')
    assert _experiment(study) == 0
    _write(study.parents[1], names='("a",)', overrides='("train.total_epochs=3.0",)')
    assert _experiment(study) == 2
    assert "holds another study: a/fold0_seed0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"names": '("b",)'}, "reference 'a' is none of the models b"),
        ({"names": '("a", "a")'}, "models occur twice: a"),
        ({"overrides": "oops"}, "NameError"),
    ],
)
def test_wrong_files_get_one_line(study: Path, change: dict, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    _write(study.parents[1], **change)
    assert _experiment(study) == 2
    assert said in capsys.readouterr().err
    assert main(["experiment", "absent.py", "--workdir", "x"]) == 2
    assert not Path("x").exists()


def test_devices(study: Path, tmp_path: Path) -> None:
    assert environment("3")["CUDA_VISIBLE_DEVICES"] == "3"
    assert environment("") == dict(os.environ)
    for wrong in ("gpu0", "cpu9999", "cpu"):
        with pytest.raises(ValueError, match="--devices"):
            environment(wrong)
    (study.parents[1] / "mended").touch()
    plan = read_study(study)
    record = Record(tmp_path / "out", plan)
    core = min(os.sched_getaffinity(0))
    failed = carry_out(
        plan, record, workdir=tmp_path / "out", data_dir=tmp_path, devices=("", f"cpu{core}"), progress=False
    )
    assert not failed
    assert all(record.finished(run) for run in plan.runs)


def test_time_left_from_what_is_finished(study: Path, tmp_path: Path) -> None:
    plan = read_study(study)
    record = Record(tmp_path / "out", plan)
    runs = {run.name: run for run in plan.runs}
    assert expected_seconds(plan, record, runs["b/fold0_seed0"]) == 0.0
    for name, seconds in (("a/fold0_seed0", 10.0), ("b/fold0_seed0", 30.0)):
        record.begin(runs[name])
        record.end(runs[name], state="finished", seconds=seconds)
    assert expected_seconds(plan, record, runs["b/fold1_seed0"]) == 30.0
    assert expected_seconds(plan, record, runs["broken/fold0_seed0"]) == 20.0


def test_the_projects_studies_name_real_recipes() -> None:
    for name in ("paper_table", "quick"):
        plan = read_study(ROOT / "experiments" / f"{name}.py")
        assert plan.root == ROOT
        for model in plan.config.models:
            path, _, variants = model["recipe"].partition(":")
            config = {"configs/msanet.py": msanet, "configs/peers.py": peers}[path].get_config(variants)
            for entry in (*plan.config.overrides, *model["overrides"]):
                section, leaf = entry.split("=")[0].split(".")
                assert leaf in config[section], entry
    table = read_study(ROOT / "experiments" / "paper_table.py")
    assert set(peers.PEERS) | {"msanet"} < set(table.models)
    assert all(len(table.runs_of(model)) >= 3 for model in table.models)
    # The rows pairing_multiply, pyramid_1 and pyramid_2 are ablations only as long as the whole is this:
    whole = msanet.get_config("cpu")
    assert (whole.discriminator.pairing, whole.adversary.pyramid_levels) == ("concat", 3)
