"""A training starts from the weights of a run, a file or the packaged model, or says in one line why it cannot."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.peers import get_config as peer_config
from data_pipeline.errors import RequestError
from msanet_jax.runs.folder import prepare
from msanet_jax.training.job import train_and_evaluate
from msanet_jax.training.loop import train
from msanet_jax.training.start import check_start, start_state
from msanet_jax.training.state import create_networks, create_state
from tests.exported_files import drawn, drawn_recipe, write_run
from tests.fakes import fake_split

TWO_NETWORKS = Path(__file__).parents[1] / "data" / "jax_0_10.msanet"
MEMBER = 0


def _file(out: Path, *, weights: bool = True) -> Path:
    """The first of two exported networks as a file of its own."""
    with zipfile.ZipFile(TWO_NETWORKS) as old, zipfile.ZipFile(out, "w") as new:
        manifest = json.loads(old.read("manifest.json"))
        new.writestr("manifest.json", json.dumps({**manifest, "parameters": manifest["parameters"][:1]}))
        for name in ("config_0.json", *(["weights_0.safetensors"] if weights else [])):
            new.writestr(name, old.read(name))
    return out


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    return {"run": write_run(folder / "run", MEMBER), "file": _file(folder / "x.msanet")}


def _recipe(source: str | Path) -> ConfigDict:
    config = drawn_recipe()
    config.train.init_from = str(source)
    return config


@pytest.mark.parametrize("kind", ["run", "file", "default"])
def test_generator_average_and_statistics_are_the_sources(
    kind: str, sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msanet_jax.runs.model_file.DEFAULT_MODEL", sources["file"])
    config = _recipe(sources.get(kind, kind))
    config.adversary.enabled = True
    networks = create_networks(config, steps_per_epoch=1)
    before = create_state(networks)
    check_start(config)
    after = start_state(before, config)
    source = drawn(MEMBER)[1]
    for found in (after.generator_params, after.generator_average):
        jax.tree.map(np.testing.assert_array_equal, found, source.generator_average)
    jax.tree.map(np.testing.assert_array_equal, after.generator_statistics, source.generator_statistics)
    same = before.replace(generator_params=0, generator_average=0, generator_statistics=0)
    jax.tree.map(
        np.testing.assert_array_equal,
        after.replace(generator_params=0, generator_average=0, generator_statistics=0),
        same,
    )
    assert jax.tree.leaves(after.discriminator_params)
    assert start_state(before, drawn_recipe()) is before


def test_a_training_without_steps_to_speak_of_ends_at_its_start(sources: dict[str, Path], tmp_path: Path) -> None:
    start = Path(shutil.copy(sources["file"], tmp_path / "start.msanet"))
    config = _recipe(start)
    config.train.total_epochs, config.train.batch_size = 1.0, 8
    config.generator_optimizer.peak_learning_rate = 1e-9
    run = tmp_path / "run"
    prepare(run, config)
    ends = []
    for _ in range(2):  # the second goes on from the checkpoint and needs the start no more
        state = train(config, run=run, training=fake_split(8), validation=fake_split(4, seed=1)).best
        ends.append(state.generator_average)
        start.unlink(missing_ok=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), ends[0], drawn(MEMBER)[1].generator_average)
    jax.tree.map(np.testing.assert_array_equal, ends[0], ends[1])


@pytest.mark.parametrize("kind", ["run", "file"])
def test_another_network_is_refused_in_one_line(kind: str, sources: dict[str, Path]) -> None:
    config = _recipe(sources[kind])
    config.generator.width = 4
    with pytest.raises(RequestError) as refusal:
        start_state(create_state(create_networks(config, steps_per_epoch=1)), config)
    line = str(refusal.value)
    assert line.startswith(f"config.train.init_from={sources[kind]}: weights of another network: ")
    assert line.endswith("theirs -> this recipe: generator.width: 2 -> 4")
    assert "\n" not in line


def test_sources_that_give_no_start(sources: dict[str, Path], tmp_path: Path) -> None:
    baseline = peer_config("threshold")
    baseline.train.init_from = str(sources["run"])
    for config, message in (
        (_recipe(tmp_path / "none"), "none: no such file"),
        (_recipe(tmp_path), "not the folder of a run"),
        (_recipe(TWO_NETWORKS), "is the mean of 2 networks; a training starts from one, name its run"),
        (_recipe(_file(tmp_path / "old.msanet", weights=False)), "made it without weights; export its run again"),
        (baseline, "the baseline threshold has no weights to start from"),
    ):
        with pytest.raises(RequestError, match=message):
            check_start(config)


def test_refused_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="none: no such file"):
        train_and_evaluate(_recipe(tmp_path / "none"), workdir=str(tmp_path / "run"), data_dir=str(tmp_path / "data"))
    assert not (tmp_path / "data").exists()
