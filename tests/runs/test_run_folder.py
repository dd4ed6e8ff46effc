"""Run folders: the same config or a clear refusal; files whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs.msanet import get_config
from data_pipeline.errors import RequestError
from msanet_jax.evaluation.results import Calibration
from msanet_jax.runs.folder import decided, only_run, prepare
from msanet_jax.runs.recipe import differing_keys, flatten, read_config


def test_same_config_is_accepted_another_refused(tmp_path: Path) -> None:
    config = get_config("cpu")
    prepare(tmp_path, config)
    prepare(tmp_path, get_config("cpu"))
    config.train.batch_size = 4
    with pytest.raises(ValueError, match=r"holds a run of another config.*train.batch_size: 8 -> 4"):
        prepare(tmp_path, config)


def test_config_survives_the_file(tmp_path: Path) -> None:
    config = get_config("cpu,no_cdc")
    prepare(tmp_path, config)
    assert flatten(read_config(tmp_path)) == flatten(config)
    assert read_config(tmp_path).generator.multi_scale_dilations == (1, 2, 3)


def test_threshold_by_recipe_or_as_chosen(tmp_path: Path) -> None:
    config = get_config("smoke")
    assert decided(tmp_path, config) == (0.5, None)
    config.evaluate.threshold_rule = "validation"
    with pytest.raises(RequestError, match=r"metrics.json: is missing; it holds what the validation patients decided"):
        decided(tmp_path, config)
    (tmp_path / "metrics.json").write_text('{"threshold": {"value": 0.31, "rule": "validation"}}')
    assert decided(tmp_path, config) == (0.31, None)
    config.evaluate.threshold_rule, config.evaluate.calibration = "fixed", "validation"
    calibration = {"knots": [0.0], "level": -1.0, "slopes": [0.5, 2.0]}
    written = {"threshold": {"value": 0.27}, "calibration_map": calibration, "rules": {"scored_pixels": "field"}}
    (tmp_path / "metrics.json").write_text(json.dumps(written))
    assert decided(tmp_path, config) == (0.27, Calibration((0.0,), -1.0, (0.5, 2.0)))
    (tmp_path / "metrics.json").write_text(json.dumps(written | {"calibration_map": calibration | {"slopes": [1.0]}}))
    with pytest.raises(RequestError, match=r"metrics\.json: calibration_map: a calibration has ascending knots"):
        decided(tmp_path, config)


def test_a_recipe_from_before_calibration_is_that_of_its_threshold_rule() -> None:
    for variants, value in (("released", "validation"), ("", "none")):
        new, old = get_config(variants), get_config(variants)
        del old.evaluate.calibration
        assert new.evaluate.calibration == value
        assert differing_keys(old, new) == differing_keys(new, old) == []
        new.evaluate.calibration = "none" if value == "validation" else "validation"
        assert len(differing_keys(old, new)) == 1


def test_differing_keys_ignore_how_a_config_was_reached() -> None:
    assert differing_keys(ConfigDict({"variants": "a", "x": 1}), ConfigDict({"variants": "b", "x": 1})) == []
    assert differing_keys(ConfigDict({"x": 1}), ConfigDict({"x": 1, "y": 2})) == ["y: absent -> 2"]
    assert differing_keys(ConfigDict({"x": 1, "y": 2}), ConfigDict({"x": 1})) == ["y: 2 -> absent"]
    off = ConfigDict({"x": 1, "y": 0.0, "z": "", "w": ()})
    assert differing_keys(ConfigDict({"x": 1}), off) == differing_keys(off, ConfigDict({"x": 1})) == []
    assert differing_keys(off, ConfigDict({"x": 0})) == ["x: 1 -> 0"]


def test_a_run_stays_with_its_version_of_the_data(tmp_path: Path) -> None:
    config, run = get_config("cpu"), tmp_path / "run"
    for _ in range(2):
        prepare(run, config, version="1.0.0")
    with pytest.raises(RequestError, match=r"begun on version 1\.0\.0 of phantom_bone/cpu, which is now 1\.0\.1"):
        prepare(run, config, version="1.0.1")
    (run / "config.json").unlink()
    with pytest.raises(RequestError, match="begun on version"):
        prepare(run, config, version="1.0.1")
    assert [path.name for path in run.iterdir()] == ["dataset_version.txt"]
    older = tmp_path / "older"  # trained before versions were noted
    (older / "checkpoints").mkdir(parents=True)
    prepare(older, config, version="1.0.1")
    assert {path.name for path in older.iterdir()} == {"checkpoints", "config.json"}


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        prepare(tmp_path / "file" / "run", get_config("cpu"))


def test_damaged_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: is not valid JSON"):
        read_config(tmp_path)


HOLD = """
import sys, time
from pathlib import Path
from msanet_jax.runs.folder import only_run

with only_run(Path(sys.argv[1])):
    print("inside", flush=True)
    time.sleep(60)
"""


def test_a_folder_has_one_run_at_a_time(tmp_path: Path) -> None:
    """The second process is refused with the first one's number; the lock of a killed process is free."""
    run = tmp_path / "new" / "run"
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None and first.stdout.readline() == "inside\n"
    said = rf"--workdir={run} is in use by process {first.pid} on \S+; wait for it"
    with pytest.raises(RequestError, match=said), only_run(run):
        pass
    first.kill()
    first.communicate()
    assert (run / ".lock").exists()
    (run / ".msanet-a" / "b").mkdir(parents=True)  # as a kill leaves it
    with only_run(run):
        prepare(run, get_config("smoke"))
    assert [path.name for path in run.iterdir()] == ["config.json"]


def test_an_empty_folder_goes_again(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for run in (tmp_path / "new" / "run", tmp_path / "mine"):
        with pytest.raises(RequestError, match="refused"), only_run(run):
            raise RequestError("refused")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
