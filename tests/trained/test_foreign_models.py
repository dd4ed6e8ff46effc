"""Model files that were damaged or made to do harm: one line each, and this process lives on."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from configs.msanet import get_config
from data_pipeline.errors import RequestError
from msanet_jax.runs.model_file import DEFAULT_MODEL, read_manifest, read_member, read_weights
from msanet_jax.trained import admission, exported, trial
from msanet_jax.trained.exported import load_exported
from msanet_jax.trained.places import without_places

PLACES = re.compile(rb"/(?:work|home|root|usr|tmp|opt|mnt|Users)/[\x20-\x7e]*|site-packages|[A-Z]:\\\\|\w+\.py\b")
SCAN = jax.ShapeDtypeStruct((jax.export.symbolic_shape("b")[0], 256, 256), jnp.float32)


def _harmless(counts: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(counts - 8)


def _exported(function: Callable[[jax.Array], Any], **options: Any) -> Any:
    return jax.export.export(jax.jit(function), platforms=["cpu"], **options)(SCAN)


def _file(path: Path, program: Any = None, manifest: object = None, recipe: object = None) -> Path:
    """A model file around a program; what is not given is sound."""
    program = bytes(_exported(_harmless).serialize()) if program is None else program
    sound = {
        "format": "msanet",
        "format_version": 1,
        "platforms": ["cpu"],
        "input": {"field": "thorax", "shape": ["b", 256, 256], "dtype": "float32"},
        "output": {"grid": "field", "shape": ["b", 256, 256], "dtype": "float32"},
        "threshold": 0.5,
        "batch_size": 2,
        "parameters": [1],
        "provenance": {"checkpoint": "x", "step": 1},
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps(sound if manifest is None else manifest))
        archive.writestr("program.jax", program)
        archive.writestr("config_0.json", get_config("smoke").to_json() if recipe is None else json.dumps(recipe))
    return path


def _line(path: Path) -> str:
    """What a refusal says; it is one line."""
    with pytest.raises(RequestError) as refusal:
        load_exported(path).probability(np.full((1, 256, 256), 9, np.float32))
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)
    return str(refusal.value).removeprefix(f"{path}: ")


def test_a_sound_program_gives_its_values(tmp_path: Path) -> None:
    counts = np.arange(2 * 256 * 256, dtype=np.float32).reshape(2, 256, 256) % 16
    given = load_exported(_file(tmp_path / "x.msanet")).probability(counts)
    np.testing.assert_allclose(given, 1 / (1 + np.exp(8 - counts)), rtol=1e-5)


def _loop(counts: jax.Array) -> jax.Array:
    return counts * lax.while_loop(lambda n: n >= 0, lambda n: (n + 1) % 7, 0)


def _vast(counts: jax.Array) -> jax.Array:
    wide = jnp.broadcast_to(counts[0, 0, :1, None], (1 << 18, 1 << 18))
    return _harmless(counts) + jax.nn.relu((wide @ jnp.ones((1 << 18, 1 << 18), jnp.float32)).min()) * 0


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda counts: _harmless(counts) * 7.5, "gives values that are no probabilities"),
        (lambda counts: _harmless(counts) - 0.9, "gives values that are no probabilities"),
        (lambda counts: counts / 0 * 0, "gives values that are no probabilities"),
        (lambda counts: counts.astype(jnp.int8), r"gives int8\[b,256,256\], not float32\[b,256,256\]"),
        (lambda counts: (counts, counts), "does not turn one array into one"),
        (lambda counts: {"p": counts}, "does not turn one array into one"),
        (lambda counts: counts[:, :3, :5], r"gives float32\[b,3,5\], not float32\[b,256,256\]"),
        (lambda counts: counts[0], r"gives float32\[256,256\], not"),
        (lambda counts: counts[:1], r"gives float32\[1,256,256\], not"),
        (lambda counts: jnp.repeat(counts, counts.shape[0], 0), r"gives float32\[b\^2,256,256\], not"),
        (_loop, "it uses stablehlo.while, which no network needs"),
        (lambda counts: counts + jax.random.uniform(jax.random.key(0), (1,)), "which no network needs"),
    ],
)
def test_programs_that_are_no_networks(
    function: Callable[[jax.Array], Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = _exported(function)
    # What the trial in another process would say of operations, without another process for each.
    monkeypatch.setattr(
        admission, "_tried", lambda *given: {"problem": trial.objection(program.mlir_module_serialized)}
    )
    assert re.search(message, _line(_file(tmp_path / "x.msanet", bytes(program.serialize()))))


def test_calls_of_other_code_are_refused(tmp_path: Path) -> None:
    """Also where the file hides that JAX was asked to let them through."""
    allowed = [jax.export.DisabledSafetyCheck.custom_call("lapack_spotrf_ffi")]
    program = _exported(lambda counts: lax.linalg.cholesky(counts), disabled_checks=allowed)
    said = _line(_file(tmp_path / "x.msanet", bytes(program.serialize())))
    assert "without JAX's safety checks (custom_call:lapack_spotrf_ffi" in said
    hidden = dataclasses.replace(program, disabled_safety_checks=())
    said = _line(_file(tmp_path / "y.msanet", bytes(hidden.serialize())))
    assert "it calls lapack_spotrf_ffi, code outside of the program" in said


def test_a_program_that_kills_hangs_or_fills_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "its program is not run: " in _line(_file(tmp_path / "vast.msanet", bytes(_exported(_vast).serialize())))
    path = _file(tmp_path / "x.msanet")
    for line, message in (
        ("import os; os.kill(os.getpid(), 11)", "ended the process that did so (signal 11)"),
        ("print('{')", "ended the process that did so (exit code 0)"),
        ("import time; time.sleep(60)", "took more than 0.3 s"),
        ("data = bytearray(1 << 28); import time; time.sleep(60)", "took more than 0.1 GiB"),
    ):
        (tmp_path / "trial.py").write_text(line)
        with monkeypatch.context() as patch:
            patch.setattr(trial, "__file__", str(tmp_path / "trial.py"))
            if "sleep" in line:
                patch.setattr(admission, "MAX_TRIAL_SECONDS", 0.3 if "0.3" in message else 60.0)
                patch.setattr(admission, "MAX_TRIAL_BYTES", 100 << 20)
            admission._tried.cache_clear()
            assert message in _line(path)
    admission._tried.cache_clear()


def _grows(counts: jax.Array) -> jax.Array:
    """Next to nothing for one field; for two a cube of 2^66 numbers, at which XLA fails or ends the process."""
    side = counts.shape[0] ** 22
    cube = lax.broadcasted_iota(jnp.float32, (side, side, side), 2) * counts[0, 0, 0]
    return _harmless(counts) + 0 * jnp.minimum(jnp.sum(jnp.sin(cube)), 1)


def _lasts(counts: jax.Array) -> jax.Array:
    """The same with 2^45 numbers, which are never in memory: hours."""
    side = counts.shape[0] ** 15
    cube = lax.broadcasted_iota(jnp.float32, (side, side, side), 2) * counts[0, 0, 0]
    return _harmless(counts) + 0 * jnp.minimum(jnp.sum(jnp.sin(cube)), 1)


def test_a_program_that_harms_with_several_fields_only(monkeypatch: pytest.MonkeyPatch) -> None:
    grows, lasts = (bytes(_exported(function).serialize()) for function in (_grows, _lasts))
    assert admission._tried(grows, (1, 256, 256)) == admission._tried(lasts, (1, 256, 256)) == {}
    assert admission._tried(grows, (2, 256, 256)).keys() == {"problem"}
    monkeypatch.setattr(admission, "MAX_TRIAL_SECONDS", 5.0)
    monkeypatch.setattr(admission, "SECONDS_A_FURTHER_FIELD", 1.0)
    assert admission._tried(lasts, (2, 256, 256))["problem"] == "trying it took more than 6 s"


def test_a_trial_ends_without_its_caller() -> None:
    """Killed, that no longer watches."""
    program = bytes(_exported(_lasts).serialize())
    command = [sys.executable, "-P", trial.__file__, "6", "{}", "2", "256", "256"]
    ended = subprocess.run(command, input=program, env=os.environ | {"JAX_PLATFORMS": "cpu"}, timeout=60)
    assert ended.returncode == -signal.SIGALRM


def test_every_number_of_fields_is_tried_before_it_runs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused with one number of fields, a program does not run with another either; the package's is not tried."""
    line = "import os, sys; sys.argv[3] in '13' or os.kill(os.getpid(), 11); print('{}')"
    (tmp_path / "trial.py").write_text(line)
    monkeypatch.setattr(trial, "__file__", str(tmp_path / "trial.py"))
    monkeypatch.setattr(exported, "usable_cores", lambda: 2)
    admission._tried.cache_clear()
    fields = np.full((8, 256, 256), 9, np.float32)
    model = load_exported(_file(tmp_path / "x.msanet"))
    for number in (1, 2, 5, 6):  # 1, 1, 3 and 3 on each of two cores
        np.testing.assert_allclose(model.probability(fields[:number]), 1 / (1 + np.exp(-1)), rtol=1e-5)
    for number in (8, 1):
        with pytest.raises(RequestError, match=r"is not run with 4 fields at once: .*signal 11"):
            model.probability(fields[:number])
    assert load_exported(tmp_path / "x.msanet", trusted=True).probability(fields).shape == (8, 256, 256)
    admission._tried.cache_clear()


def test_damaged_programs_are_tried_elsewhere(tmp_path: Path) -> None:
    """The bytes of a program change, and the zip around it is whole."""
    program = bytearray(_exported(_harmless).serialize())
    source = random.Random(3)
    for number in range(3):
        damaged = bytearray(program)
        for _ in range(20):
            damaged[source.randrange(len(damaged))] = source.randrange(256)
        _line(_file(tmp_path / f"{number}.msanet", bytes(damaged)))
    assert "its program" in _line(_file(tmp_path / "cut.msanet", bytes(program[:-200])))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 1.5}, "threshold: expected `float` < 1.0"),
        ({"threshold": float("nan")}, "manifest.json: is not valid JSON"),
        ({"threshold": "0.5"}, "threshold: expected `float`, got `str`"),
        ({"batch_size": 0}, "batch_size: expected `int` >= 1"),
        ({"batch_size": 10**9}, "batch_size: expected `int` <= 4096"),
        ({"batch_size": True}, "batch_size: expected `int`, got `bool`"),
        ({"platforms": "cpu"}, "platforms: expected `array`, got `str`"),
        ({"provenance": [1]}, "provenance: expected `object`, got `array`"),
        ({"provenance": {"step": "$\\frac$"}}, "provenance.step: expected `int`, got `str`"),
        ({"input": {"field": ["thorax"], "shape": ["b", 256, 256]}}, "input.field: expected `str`, got `array`"),
        ({"input": {"field": "thorax", "shape": 7}}, "input.shape: expected `array`, got `int`"),
        ({"output": {"shape": ["b", 256, 1e308], "dtype": "float32"}}, "output.shape[2]: expected `int`, got `float`"),
        ({"output": {"shape": ["b", 256, 256], "dtype": "int8"}}, "output.dtype: invalid enum value"),
        ({"format_version": "1"}, "is not an exported model"),
    ],
)
def test_values_of_the_manifest(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    sound = read_manifest(_file(tmp_path / "sound.msanet"))
    assert message in _line(_file(tmp_path / "x.msanet", manifest=sound | change))


def test_manifests_and_recipes_of_another_kind(tmp_path: Path) -> None:
    for manifest in ([], "msanet", None, 1e308, {}):
        said = _line(_file(tmp_path / "x.msanet", manifest=0 if manifest is None else manifest))
        assert "is not an exported model" in said
    for recipe in ([1], {"": 3}, {"data": 5}, {"data": {"image_size_px": 7}}, {"a.b": {"": {}}}, {"data": {}}):
        said = _line(_file(tmp_path / "x.msanet", recipe=recipe))
        assert "config_0.json" in said or "in its recipe" in said
    path = tmp_path / "x.msanet"
    for text in (b"{", b"\xff\xfe", b"[" * 100_000, b'{"format": ' + b"9" * 5000 + b"}"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("manifest.json", text)
        assert "the file is damaged: copy it again" in _line(path)


def test_any_damage_of_the_zip_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        admission, "_tried", lambda *given: {"problem": "tried elsewhere"}
    )  # a sound rest gets that far
    sound = _file(tmp_path / "sound.msanet").read_bytes()
    source, said = random.Random(7), set()
    for _ in range(300):
        damaged = bytearray(sound)
        for _ in range(source.choice((1, 3, 40))):
            damaged[source.randrange(len(damaged))] = source.randrange(256)
        if source.random() < 0.2:
            damaged = damaged[: source.randrange(len(damaged))]
        (tmp_path / "x.msanet").write_bytes(damaged)
        said.add(_line(tmp_path / "x.msanet")[:40])
    assert len(said) > 1
    # A directory said to begin too late puts members before the file, which the file system calls an invalid argument.
    end = sound.rindex(b"PK\x05\x06")
    (tmp_path / "x.msanet").write_bytes(sound[: end + 16] + b"\xff\xff\xff\x00" + sound[end + 20 :])
    assert "is not an exported model, or damaged" in _line(tmp_path / "x.msanet")


def test_bombs_and_things_that_are_no_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.msanet", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b"[" + b"[]," * (1 << 19) + b"1]")  # 1.5 MiB, and 50 MiB of Python's lists
    assert "manifest.json is larger than any model" in _line(tmp_path / "x.msanet")
    assert "config_0.json is larger than any model" in _line(_file(tmp_path / "y.msanet", recipe=[[]] * (1 << 19)))
    with zipfile.ZipFile(_file(tmp_path / "z.msanet", b""), "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights_0.safetensors", bytes(65 << 20))
    with pytest.raises(RequestError, match=r"weights_0.safetensors is larger than any model"):
        read_weights(tmp_path / "z.msanet")
    assert "a device, pipe or socket" in _line(Path("/dev/null"))


def test_exported_programs_name_no_place_of_the_machine() -> None:
    program = _exported(_harmless)
    assert PLACES.search(bytes(program.serialize()))  # JAX writes them
    stripped = without_places(program)
    assert not PLACES.search(stripped)
    counts = np.arange(256 * 256, dtype=np.float32).reshape(1, 256, 256) % 16
    again = jax.export.deserialize(bytearray(stripped))
    np.testing.assert_array_equal(again.call(counts), program.call(counts))


def test_the_packages_model_names_no_place_of_the_machine() -> None:
    assert not PLACES.search(read_member(DEFAULT_MODEL, "program.jax", limit=1 << 30))
    for name in ("manifest.json", "config_0.json", "metrics_0.json", "model_card.md", "data_card.md"):
        assert not re.search(rb"/(?:work|home|root|usr|tmp|opt|mnt)/", read_member(DEFAULT_MODEL, name, limit=1 << 30))
