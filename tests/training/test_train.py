"""The loop: learning, exact resumption, refusal of damaged and foreign checkpoints, non-finite losses."""

from __future__ import annotations

import functools
import itertools
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from data_pipeline.batches import train_batches
from data_pipeline.text import duration
from msanet_jax.runs.folder import prepare
from msanet_jax.runs.history import HistoryRow, read_history
from msanet_jax.trained.restore import restore
from msanet_jax.training.checkpoints import CheckpointError
from msanet_jax.training.loop import Due, Trained, announced, averaged, train
from msanet_jax.training.signals import Preempted, StopOnSigterm
from msanet_jax.training.state import create_networks, create_state
from msanet_jax.training.steps import batch_statistics
from msanet_jax.training.telemetry import NonFiniteLossError
from tests.conftest import small_recipe
from tests.fakes import fake_split

TRAINING, VALIDATION = fake_split(16), fake_split(6, seed=1)


def _train(config: ConfigDict, run: Path) -> Trained:
    prepare(run, config)
    return train(config, run=run, training=TRAINING, validation=VALIDATION)


def _recipe() -> ConfigDict:
    config = small_recipe()
    config.train.total_epochs = 4.0  # 8 iterations
    config.evaluate.batch_size = 4
    return config


@pytest.fixture
def config() -> ConfigDict:
    return _recipe()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained")
    _train(_recipe(), run)
    return run


@pytest.fixture
def finished(trained: Path, tmp_path: Path) -> Path:
    """A finished run of `config`, to be damaged as one likes."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def _stop_after(monkeypatch: pytest.MonkeyPatch, checks: int) -> Callable[[], None]:
    """Lets the stop flag rise after the loop has looked at it `checks` times."""
    seen = {"count": 0}

    def requested(self: StopOnSigterm) -> bool:
        seen["count"] += 1
        return seen["count"] > checks

    monkeypatch.setattr(StopOnSigterm, "requested", property(requested))
    return monkeypatch.undo


def test_resumed_run_ends_bit_identical(
    config: ConfigDict, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undo = _stop_after(monkeypatch, 4)
    with pytest.raises(Preempted, match="saved"):
        _train(config, tmp_path / "broken")
    undo()
    resumed = _train(config, tmp_path / "broken")
    whole = _train(config, finished)  # nothing left to do: restores the best and the last
    assert (int(whole.best.step) in (4, 8), int(whole.last.step)) == (True, 8)
    for a, b in zip(jax.tree.leaves(resumed), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)

    def scores(run: Path) -> list[HistoryRow]:
        return [row for row in read_history(run / "history.jsonl") if row.kind == "validation"]

    assert scores(tmp_path / "broken") == scores(finished)
    assert [row.step for row in scores(finished)] == [4, 8]


def test_run_leaves_history_events_and_checkpoints(finished: Path) -> None:
    rows = read_history(finished / "history.jsonl")
    train_rows = [row for row in rows if row.kind == "train"]
    assert [row.step for row in train_rows] == list(range(1, 9))
    assert {"supervised_loss", "multi_scale_l1", "adversarial_share", "discriminator_loss"} <= set(train_rows[0].values)
    assert list(finished.glob("events.out.tfevents.*"))
    assert {path.name for path in (finished / "checkpoints" / "latest").iterdir()} >= {"4", "6", "8"}


def test_model_is_the_best_checkpoint(finished: Path) -> None:
    model = restore(finished)
    counts = np.full((3, 16, 16), 9, np.int32)
    maps = model.probability(counts)
    assert maps.shape == (3, 16, 16)
    assert model.provenance["step"] in (4, 8)
    assert model.config.train.batch_size == 8
    np.testing.assert_array_equal(maps, restore(finished).probability(counts))


# The storage library leaves coroutines behind when a read fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damaged_checkpoint_falls_back_to_the_older_one(
    config: ConfigDict, finished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for part in (finished / "checkpoints" / "latest" / "8" / "state").rglob("*"):
        if part.is_file() and part.name not in ("_METADATA", "commit_success.txt"):
            part.write_bytes(b"damaged")
    shutil.rmtree(finished / "checkpoints" / "best" / "8", ignore_errors=True)
    state = _train(config, finished).best
    assert "step 8 cannot be read" in caplog.text
    assert int(state.step) in (4, 8)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damaged_best_checkpoint_falls_back_to_the_latest(finished: Path, caplog: pytest.LogCaptureFixture) -> None:
    for part in (finished / "checkpoints" / "best").rglob("state/**/*"):
        if part.is_file() and part.name not in ("_METADATA", "commit_success.txt"):
            part.write_bytes(b"damaged")
    assert restore(finished).provenance["step"] == 8
    assert "no best checkpoint to read: the latest one (step 8) is used" in caplog.text


def test_missing_and_foreign_checkpoints_are_named(config: ConfigDict, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not the folder of a run"):
        restore(tmp_path)
    stored = json.loads((finished / "config.json").read_text())
    stored["generator"]["width"] = 8
    (finished / "config.json").write_text(json.dumps(stored))
    with pytest.raises(CheckpointError, match=r"config\.json: not the recipe .* undo generator\.width: 4 -> 8"):
        restore(finished)
    shutil.rmtree(finished / "checkpoints")
    with pytest.raises(CheckpointError, match="train this run first"):
        restore(finished)


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("model", None, None, r"config\.json: lacks model, as recipes of earlier versions do; train the run again"),
        ("generator_optimizer", "beta1", None, r"config\.json: lacks beta1; train the run again"),
        ("generator", None, [1], r"config\.json: generator: expected `object`, got `array`"),
        ("generator", "width", "x", r"config\.json: config\.generator\.width='x' must be a whole number"),
    ],
)
def test_damaged_recipes_are_named(
    section: str, key: str | None, value: object, said: str, config: ConfigDict, tmp_path: Path
) -> None:
    """A key that is gone (None), or that has another value."""
    stored = json.loads(config.to_json())
    parent, name = (stored, section) if key is None else (stored[section], key)
    if value is None:
        del parent[name]
    else:
        parent[name] = value
    (tmp_path / "config.json").write_text(json.dumps(stored))
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match=said) as refusal:
        restore(tmp_path)
    assert "\n" not in str(refusal.value)


def test_non_finite_loss_names_step_and_checkpoint(config: ConfigDict, tmp_path: Path) -> None:
    config.loss.dice_weight = float("nan")
    with pytest.raises(NonFiniteLossError, match=r"non-finite loss at step 1 .*last good checkpoint: none yet"):
        _train(config, tmp_path / "run")


def test_averaged_parameters_get_statistics_of_their_own_where_asked(config: ConfigDict) -> None:
    """The mean of those of the first batches; nothing else of the state changes."""
    networks = create_networks(config, steps_per_epoch=2)
    state = create_state(networks)
    assert averaged(networks, TRAINING)(state) is state
    config.train.norm_batches = 2
    found = averaged(networks, TRAINING)(state)
    settings = {"image_size_px": config.data.image_size_px, "batch_size": config.train.batch_size}
    batches = train_batches(TRAINING, augment=config.augment, seed=config.seed, **settings)
    one = jax.jit(functools.partial(batch_statistics, networks, mapped=False))
    each = [one(state, {"image": batch["image"]}) for batch in itertools.islice(batches, 2)]
    for leaf, *parts in zip(jax.tree.leaves(found.generator_statistics), *map(jax.tree.leaves, each), strict=True):
        np.testing.assert_allclose(leaf, sum(parts) / 2, rtol=1e-3, atol=1e-4)
    for leaf, same in zip(
        jax.tree.leaves(found.generator_params), jax.tree.leaves(state.generator_params), strict=True
    ):
        np.testing.assert_array_equal(leaf, same)


def test_last_step_logs_validates_and_saves(config: ConfigDict) -> None:
    config.train.total_epochs = 2.5
    due = Due(create_networks(config, steps_per_epoch=2))
    assert [step for step in range(1, 6) if due.validation(step)] == [4, 5]
    assert [step for step in range(1, 6) if due.checkpoint(step)] == [2, 4, 5]
    assert due.log(5)


def test_the_first_call_alone_is_announced() -> None:
    said: list[str] = []
    call = announced(lambda state, batch: (state + batch, {"lines": len(said)}), said.append)
    assert [call(1, 2), call(3, 4)] == [(3, {"lines": 1}), (7, {"lines": 2})]
    assert said[0].startswith("compiling the training step")
    assert said[1] == "compiled, first step done, in 0 s"


def test_a_long_compilation_says_that_it_goes_on() -> None:
    """One that waits for the second of these lines has heard them from another thread; a failure ends them, too."""
    said: list[str] = []
    twice = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        if said.count("compiling ... 0 s") == 2:
            twice.set()

    def compile_until(state: int, batch: int) -> tuple[int, int]:
        assert twice.wait(60)
        raise ValueError("no such program")

    with pytest.raises(ValueError, match="no such program"):
        announced(compile_until, say, every_s=0.01)(1, 2)  # type: ignore[arg-type]
    assert said[1] == "compiling ... 0 s"
    assert "compiling" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(
    ("seconds", "said"), [(59.0, "less than a minute"), (150.0, "about 2 min"), (5400.0, "about 1.5 h")]
)
def test_how_long_a_training_is_said_to_take(seconds: float, said: str) -> None:
    assert duration(seconds) == said
