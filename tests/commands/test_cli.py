"""The msanet command: exit codes, messages, and that help is quick."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.msanet import get_config
from data_pipeline.errors import ExitCode
from msanet_jax import cli
from msanet_jax.runtime import doctor
from msanet_jax.trained.model import Model, from_network
from tests.fakes import fake_split, scored_run


@pytest.fixture
def fake_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(run: Path, *, decided: bool) -> Model:
        return from_network(lambda images: np.zeros(images.shape[:3], np.float32), get_config("smoke"), {})

    monkeypatch.setattr("msanet_jax.trained.ensemble.restore", load)


def _scan(tmp_path: Path, name: str = "a.npy") -> str:
    np.save(tmp_path / name, np.random.default_rng(0).poisson(5, (64, 64)).astype(np.int32))
    return str(tmp_path / name)


def test_predict(fake_checkpoint: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["predict", _scan(tmp_path), "--checkpoint=run", f"--out={tmp_path / 'out'}"])
    assert code == 0
    assert (tmp_path / "out" / "a.json").exists()
    assert "1 scan(s) segmented" in capsys.readouterr().out


def test_predict_with_a_bad_file(fake_checkpoint: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.dcm").write_text("nothing")
    files = [str(tmp_path / "bad.dcm"), _scan(tmp_path)]
    code = cli.main(["predict", *files, "--checkpoint=run", f"--out={tmp_path / 'out'}", "--quiet"])
    assert code == 1
    assert (tmp_path / "out" / "a.json").exists()
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_missing_checkpoint_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["predict", _scan(tmp_path), f"--checkpoint={tmp_path / 'none'}", f"--out={tmp_path / 'out'}"])
    assert code == 2
    assert capsys.readouterr().err == (
        f"msanet predict: {tmp_path / 'none'}: not the folder of a run (it has no config.json)\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [[], ["predict"], ["unknown"], ["predict", "a.dcm"]])
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert "usage: msanet" in capsys.readouterr().err


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from msanet_jax import cli\n"
        "try:\n    cli.main(['predict', '--help'])\n"
        "except SystemExit:\n    pass\n"
        "print(sorted({'jax', 'tensorflow', 'numpy', 'scipy', 'matplotlib', 'pydicom'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "--checkpoint RUN" in run.stdout
    assert run.stdout.strip().endswith("[]")


def test_comparing_waits_for_no_network() -> None:
    program = (
        "import sys\nimport msanet_jax.report.comparison_table\n"
        "print(sorted({'jax', 'tensorflow', 'matplotlib'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_module_is_the_command() -> None:
    run = subprocess.run([sys.executable, "-m", "msanet_jax", "--help"], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("usage: msanet")
    assert "not for diagnosis" in run.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_names_commands_and_options(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([f"--print-completion={shell}"])
    assert stop.value.code == ExitCode.DONE
    printed = capsys.readouterr().out
    assert all(name in printed for name in cli.COMMANDS)
    assert "checkpoint" in printed and "scans-without-mask" in printed


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--print-completion=bash"])
    (tmp_path / "scan.dcm").touch()
    script = capsys.readouterr().out
    for words in (["pre"], ["predict", "--thr"], ["predict", "sc"]):
        line = ["msanet", *words]
        script += f"COMP_WORDS=({' '.join(line)}); COMP_CWORD={len(words)}; _shtab_msanet; echo ${{COMPREPLY[@]}}\n"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["predict", "--threshold", "scan.dcm"]


def test_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    config = get_config("smoke")
    config.data.image_size_px = 16
    model = from_network(lambda images: (images[..., 0] > 1.6).astype(np.float32), config, {"step": 5})
    monkeypatch.setattr("msanet_jax.trained.rescore.restore", lambda run, *, decided: model)
    monkeypatch.setattr(
        "msanet_jax.trained.rescore.load_splits",
        lambda data, data_dir: {name: fake_split(6) for name in ("train", "validation", "test")},
    )
    monkeypatch.setattr("msanet_jax.training.outcome.write_pictures", lambda *_: None)
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(config.to_json())
    assert cli.main(["evaluate", str(run), "--split=validation", "--threshold=0.3"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("validation patients, threshold 0.3 (given): DSC 1.000")
    assert "not comparable" in printed
    content = json.loads((run / "evaluation_validation" / "metrics.json").read_text())
    assert content["validation"]["dsc_pooled"] == 1.0
    assert content["provenance"]["checkpoint_step"] == 5
    assert not (run / "metrics.json").exists()
    assert cli.main(["evaluate", str(run), f"--out={tmp_path / 'other'}"]) == 0
    assert (tmp_path / "other" / "pictures" / "froc.png").exists()
    capsys.readouterr()
    folders = [str(run / "evaluation_validation"), str(tmp_path / "other")]
    assert cli.main(["compare", *folders]) == 2
    assert "scored on different splits" in capsys.readouterr().err
    assert cli.main(["evaluate", str(run)]) == 0
    capsys.readouterr()
    assert cli.main(["compare", str(run / "evaluation_test"), folders[1]]) == 0
    assert "| dsc_pooled | other | 1.000 | evaluation_test | 1.000 | +0.000" in capsys.readouterr().out
    table = tmp_path / "table.json"
    arguments = ["compare", str(run / "evaluation_test"), folders[1], "--format=json", f"--out={table}"]
    assert cli.main([*arguments, "--scores=recall_pooled,dsc_mean"]) == 0
    assert [entry["score"] for entry in json.loads(table.read_text())["comparisons"]] == ["recall_pooled", "dsc_mean"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--threshold=1.5"], "--threshold=1.5: must lie between 0 and 1"),
        ([], "not the folder of a run"),
    ],
)
def test_evaluate_refuses(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", str(tmp_path / "none"), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_evaluate_names_what_an_old_run_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = get_config("smoke")
    del config.evaluate.calibration_bins
    (tmp_path / "config.json").write_text(config.to_json())
    assert cli.main(["evaluate", str(tmp_path)]) == 2
    assert "lacks evaluate.calibration_bins" in capsys.readouterr().err


def test_doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    findings = doctor.Findings(facts=("python 3.11",), problems=("x is missing",))
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().out.splitlines() == ["python 3.11", "problem: x is missing", "1 problem(s)"]


def test_doctor_names_devices_and_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "EXAMINED", ("jax", "surely-not-installed"))
    report = doctor.examine()
    assert sum(fact.startswith("device ") for fact in report.facts) == 4
    assert any("surely-not-installed is not installed" in problem for problem in report.problems)


@pytest.mark.parametrize(
    ("missing", "problems"), [({"tensorflow"}, 0), ({"tensorflow-cpu"}, 0), (set(), 1)], ids=["cpu", "gpu", "both"]
)
def test_doctor_names_two_tensorflows(monkeypatch: pytest.MonkeyPatch, missing: set[str], problems: int) -> None:
    monkeypatch.setattr(doctor, "_examine_devices", lambda: ([], []))
    monkeypatch.setattr(doctor, "version", lambda package: None if package in missing else "1")
    found = doctor.examine().problems
    assert len(found) == problems
    assert all("pip uninstall -y tensorflow tensorflow-cpu && pip install tensorflow-cpu" in line for line in found)


@pytest.mark.parametrize(
    ("platform", "present", "problems"),
    [
        ("cpu", {"/dev/nvidia0": True}, 1),
        ("gpu", {"/dev/nvidia0": True}, 0),
        ("cpu", {"/dev/accel0": True}, 1),
        ("tpu", {"/dev/accel0": True}, 0),
        ("cpu", {}, 0),
    ],
)
def test_unused_accelerators(platform: str, present: dict[str, Any], problems: int) -> None:
    assert len(doctor.unused_accelerators(platform, present)) == problems


@pytest.mark.parametrize("command", ["compare", "report", "evaluate", "experiment"])
def test_a_name_that_no_disk_takes(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = tmp_path / ("x" * 300)
    more = {
        "compare": [str(tmp_path)],
        "report": [f"--out={tmp_path / 'a.html'}"],
        "experiment": [f"--workdir={tmp_path}"],
    }
    assert cli.main([command, str(name), *more.get(command, [])]) == ExitCode.REFUSED
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith(f"msanet {command}: {name}") and said.err.endswith(": too long a name for this disk\n")


@pytest.mark.parametrize("command", ["report", "compare"])
def test_a_name_that_is_no_text_is_shown(command: str, tmp_path: Path) -> None:
    runs = []
    for name in ("first", "second")[: 2 if command == "compare" else 1]:
        (tmp_path / name).mkdir()
        runs.append(scored_run(tmp_path / name))
        (runs[-1] / "config.json").write_text(get_config("smoke").to_json())
    out = os.fsencode(tmp_path) + b"/\x1b[31m\xff.html"
    words = [sys.executable, "-m", "msanet_jax", command, *runs, b"--out=" + out]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(words, capture_output=True, env=environment, check=True)
    assert done.stdout == f"{tmp_path}/\\x1b[31m\\udcff.html\n".encode()
    assert done.stderr == b""
    assert Path(os.fsdecode(out)).stat().st_size > 0


def test_output_that_is_not_made_for_it_can_show_any_name() -> None:
    program = "from msanet_jax import cli\ncli.main(['compare', chr(0xdcff)])\nprint(chr(0xdcff))"
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment, check=True)
    assert done.stdout == b"\\udcff\n"
    assert done.stderr.startswith(b"msanet compare: \\udcff: ")
