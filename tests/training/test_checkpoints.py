"""Checkpoints that were damaged on the disk are noticed, named, passed by, and replaced."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.msanet import get_config
from msanet_jax.training.checkpoints import Best, CheckpointError, Checkpoints
from msanet_jax.training.state import TrainState

# The storage library leaves coroutines behind when a read fails.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def _state(step: int, size: int = 40) -> TrainState:
    """Small arrays that depend on the step."""
    values = np.random.default_rng(step).normal(size=(size, 30)).astype(np.float32)
    trees = {name: {"layer": {"kernel": values + number}} for number, name in enumerate(TrainState.__annotations__)}
    return TrainState(**trees | {"step": np.int32(step), "discriminator_params": {}})


def _equal(a: TrainState, b: TrainState) -> bool:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


@pytest.fixture
def config() -> ConfigDict:
    return get_config("smoke")


@pytest.fixture
def saved(tmp_path: Path, config: ConfigDict) -> Path:
    """Latest: 1, 2, 3. Best: 2."""
    checkpoints = Checkpoints(tmp_path / "saved", config)
    for step in (1, 2, 3):
        checkpoints.save_latest(_state(step))
        if step == 2:
            checkpoints.save_best(_state(step), dsc_pooled=0.5)
    checkpoints.close()
    return tmp_path / "saved"


def _files(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size)


def _flip(path: Path, random: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    content[random.integers(len(content))] ^= 1 << int(random.integers(8))
    path.write_bytes(bytes(content))


def test_a_flipped_bit_anywhere_never_gives_wrong_values(saved: Path, tmp_path: Path, config: ConfigDict) -> None:
    """One bit in every file of the newest checkpoint and of the best: the values are those of a saved state."""
    random, passed_by = np.random.default_rng(0), 0
    for path in [*_files(saved / "checkpoints/latest/3"), *_files(saved / "checkpoints/best/2")]:
        run = Path(shutil.copytree(saved, tmp_path / "flipped"))
        _flip(run / path.relative_to(saved), random)
        checkpoints = Checkpoints(run, config)
        state, best = checkpoints.restore_latest(_state(0)), checkpoints.restore_best(_state(0))
        checkpoints.close()
        assert state is not None
        for found in (state, best):
            assert _equal(found, _state(int(found.step))), path
        passed_by += int(state.step) != 3 or int(best.step) != 2
        shutil.rmtree(run)
    assert passed_by > 5


def test_a_damaged_checkpoint_is_replaced_when_its_step_comes_again(
    saved: Path, config: ConfigDict, caplog: pytest.LogCaptureFixture
) -> None:
    for path in _files(saved / "checkpoints/latest/3/state"):
        path.write_bytes(b"damaged")
    checkpoints = Checkpoints(saved, config)
    assert int(checkpoints.restore_latest(_state(0)).step) == 2  # type: ignore[union-attr]
    assert "checkpoint of step 3 cannot be read" in caplog.text
    checkpoints.save_latest(_state(3))
    checkpoints.close()
    again = Checkpoints(saved, config)
    assert _equal(again.restore_latest(_state(0)), _state(3))  # type: ignore[arg-type]
    again.close()


@pytest.mark.parametrize("damage", ["not JSON", "other score", "NaN", "later step"])
def test_damaged_notes_of_the_best_do_not_block_a_better_one(
    damage: str, saved: Path, config: ConfigDict, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved / "checkpoints/best/2/notes/metadata"
    notes = path.read_text()
    assert json.loads(notes)["dsc_pooled"] == 0.5
    older = json.dumps({"dsc_pooled": float("nan")})  # without a check, as versions before wrote it
    path.write_text({"not JSON": "{", "NaN": older}.get(damage, notes.replace("0.5", "0.9")))
    checkpoints = Checkpoints(saved, config)
    assert checkpoints.best() == Best(step=-1, dsc_pooled=-1.0)
    assert ("the next validation replaces it" in caplog.text) == (damage != "NaN")
    better = 1 if damage == "later step" else 3
    checkpoints.save_best(_state(better), dsc_pooled=0.1)
    checkpoints.wait()
    assert checkpoints.best() == Best(step=better, dsc_pooled=0.1)
    assert _equal(checkpoints.restore_best(_state(0)), _state(better))
    checkpoints.close()


def test_the_best_serves_where_all_the_latest_are_damaged(saved: Path, config: ConfigDict) -> None:
    for path in _files(saved / "checkpoints/latest"):
        path.write_bytes(b"damaged")
    checkpoints = Checkpoints(saved, config)
    assert _equal(checkpoints.restore_latest(_state(0)), _state(2))  # type: ignore[arg-type]
    checkpoints.close()


def test_checkpoints_of_another_network_or_recipe_are_named(saved: Path, config: ConfigDict) -> None:
    checkpoints = Checkpoints(saved, config)
    with pytest.raises(CheckpointError, match=r"of another network: .*\(40, 30\)"):
        checkpoints.restore_latest(_state(0, size=41))
    checkpoints.close()
    config.seed, config.variants = 7, "of no matter"
    checkpoints = Checkpoints(saved, config)
    with pytest.raises(CheckpointError, match=r"config\.json: not the recipe .*; undo seed: 0 -> 7$"):
        checkpoints.restore_best(_state(0))
    checkpoints.close()


def test_checkpoints_of_before_have_no_digest(saved: Path, config: ConfigDict) -> None:
    for step, notes in ((1, "{}"), (2, '{"dsc_pooled": 0.5}'), (3, "{}")):
        for path in saved.glob(f"checkpoints/*/{step}/notes/metadata"):
            path.write_text(notes)
    checkpoints = Checkpoints(saved, config)
    assert checkpoints.best() == Best(step=2, dsc_pooled=0.5)
    assert _equal(checkpoints.restore_latest(_state(0)), _state(3))  # type: ignore[arg-type]
    checkpoints.close()
