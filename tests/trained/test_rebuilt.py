"""Exported models outlive compilers: a refused program is built anew from the weights and recipes next to it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.errors import RequestError
from msanet_jax.runs.model_file import read_manifest, read_weights
from msanet_jax.trained.exported import load_exported
from msanet_jax.trained.restore import from_state
from tests.exported_files import MEMBERS, drawn, drawn_weights

MADE_BEFORE = sorted((Path(__file__).parents[1] / "data").glob("jax_*.msanet"))


@pytest.fixture(scope="module")
def fields() -> np.ndarray:
    random = np.random.default_rng(0)
    return random.poisson(random.gamma(2.0, 8.0, (2, 16, 16)).repeat(16, 1).repeat(16, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def wanted(fields: np.ndarray) -> np.ndarray:
    """The mean of the drawn networks, without any file."""
    members = [from_state(*drawn(member), {}).probability(fields) for member in range(MEMBERS)]
    assert np.abs(members[0] - members[1]).max() > 0.1
    return np.mean(members, axis=0)


def _altered(out: Path, changes: Mapping[str, bytes | None], source: Path = MADE_BEFORE[0]) -> Path:
    """A copy with other content in some members; None leaves one out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.namelist():
            if (content := changes.get(entry, old.read(entry))) is not None:
                new.writestr(entry, content)
    return out


def test_files_of_two_versions_are_kept() -> None:
    made = [read_manifest(path)["versions"]["jax"] for path in MADE_BEFORE]
    assert [version.split(".")[:2] for version in made] == [["0", "10"], ["0", "12"]]


@pytest.mark.parametrize("path", MADE_BEFORE, ids=lambda path: path.stem)
@pytest.mark.parametrize("refused", [False, True], ids=["as it is", "refused"])
def test_a_file_of_another_jax_gives_the_same_probabilities(
    path: Path, refused: bool, fields: np.ndarray, wanted: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if refused:
        path = _altered(tmp_path / "x.msanet", {"program.jax": b"of a compiler to come"}, path)
    with caplog.at_level("WARNING"):
        found = load_exported(path).probability(fields)
    assert (found.shape, found.dtype) == ((2, 256, 256), np.float32)
    np.testing.assert_allclose(found, wanted, atol=5e-5)
    if refused:
        (line,) = caplog.messages
        assert "x.msanet: its program cannot be read by JAX" in line
        assert line.endswith("it is built anew from the file's weights and recipe")


@pytest.mark.parametrize("path", MADE_BEFORE, ids=lambda path: path.stem)
def test_a_file_carries_the_weights_it_was_made_from(path: Path) -> None:
    for member in range(MEMBERS):
        expected, found = drawn_weights(drawn(member)[1], member), read_weights(path, member)
        assert found.keys() == expected.keys()
        for name, leaf in expected.items():
            np.testing.assert_array_equal(found[name], leaf)


def test_another_kind_of_device_gets_a_program_of_its_own(
    fields: np.ndarray, wanted: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = json.dumps({**read_manifest(MADE_BEFORE[0]), "platforms": ["tpu"]}).encode()
    with caplog.at_level("WARNING"):
        found = load_exported(_altered(tmp_path / "x.msanet", {"manifest.json": manifest})).probability(fields)
    np.testing.assert_allclose(found, wanted, atol=5e-5)
    assert "its program is for tpu, this machine's JAX runs on cpu; it is built anew" in caplog.text


def test_what_cannot_be_rebuilt_is_refused_in_one_line(tmp_path: Path) -> None:
    def refusal(changes: Mapping[str, bytes | None]) -> str:
        path = _altered(tmp_path / "x.msanet", {"program.jax": b"nonsense", **changes})
        with pytest.raises(RequestError) as caught:
            load_exported(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    without = {f"weights_{member}.safetensors": None for member in range(MEMBERS)}
    assert refusal(without).endswith("export it again")
    assert "weights_1.safetensors is damaged" in refusal({"weights_1.safetensors": b"nonsense"})
    with zipfile.ZipFile(MADE_BEFORE[0]) as archive:
        config = json.loads(archive.read("config_1.json"))
    config["generator"]["depth"] = 10**9
    line = refusal({"config_1.json": json.dumps(config).encode()})
    assert "config.generator.depth=1000000000 must be a whole number, 1 to 10" in line
    config["generator"]["depth"] = 2
    config["generator"]["width"] = 4
    line = refusal({"config_1.json": json.dumps(config).encode()})
    assert "weights of another network: " in line
    assert "(3, 3, 4, 8) in the file, (3, 3, 8, 16) by the recipe" in line
