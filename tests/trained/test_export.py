"""The exported model: the same probabilities as the checkpoint, without the training code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.msanet import get_config
from data_pipeline.errors import RequestError
from data_pipeline.normalize import bin_counts, normalize
from msanet_jax.evaluation.field_maps import calibrate, resample
from msanet_jax.evaluation.results import Calibration
from msanet_jax.prediction.predict import load_model
from msanet_jax.runs.folder import Decided, decided, prepare
from msanet_jax.runs.model_file import read_calibrations, read_manifest, read_weights
from msanet_jax.runs.recipe import read_config
from msanet_jax.trained import restore
from msanet_jax.trained.ensemble import check_same_input
from msanet_jax.trained.export import _config_text, _read_scores, export_model
from msanet_jax.trained.exported import load_exported
from msanet_jax.trained.rebuilt import rebuilt
from msanet_jax.training.checkpoints import Checkpoints
from msanet_jax.training.state import create_networks, create_state
from tests.exported_files import write_run

DOCS = Path(__file__).parents[2] / "docs"
TRAINING_CODE = ("flax", "optax", "orbax", "tensorflow", "msanet_jax.networks.generator")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two untrained networks, drawn from different seeds, at 16 px."""
    folder = tmp_path_factory.mktemp("runs")
    made = []
    for seed in (0, 1):
        config = get_config("smoke")
        config.seed = seed
        config.data.image_size_px = 16
        config.generator.depth = 2
        config.generator.cascade_dilations = (1, 2)
        config.generator.initial_lesion_share = 0.5
        config.adversary.enabled = False
        run = folder / f"fold{seed}"
        prepare(run, config)
        checkpoints = Checkpoints(run, config)
        state = create_state(create_networks(config, steps_per_epoch=1))
        # Far from the start, where every probability is about the same.
        random = np.random.default_rng(seed)
        average = jax.tree.map(
            lambda leaf, random=random: leaf + jnp.asarray(random.normal(0, 0.1, leaf.shape), leaf.dtype),
            state.generator_average,
        )
        checkpoints.save_best(state.replace(generator_average=average), dsc_pooled=0.1)
        checkpoints.close()
        made.append(run)
    return made


@pytest.fixture(scope="module")
def model(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    (runs[0] / "metrics.json").write_text(
        json.dumps(
            {
                "test": {"dsc_pooled": 0.25, "images": 3, "intervals": {"dsc_pooled": [0.125, 0.5]}},
                "threshold_baseline": {"dsc_pooled": 0.1},
                "rules": {"scored_pixels": "field"},
                "images": [{"patient": "someone"}],
            }
        )
    )
    out = tmp_path_factory.mktemp("models") / "mean.msanet"
    export_model(runs, out, card=out.with_suffix(".md"))
    return out


def _fields(number: int) -> np.ndarray:
    random = np.random.default_rng(number)
    return random.poisson(random.gamma(2.0, 8.0, (number, 16, 16)).repeat(16, 1).repeat(16, 2)).astype(np.float32)


def test_equals_the_checkpoints_in_a_fresh_process_without_training_code(
    runs: list[Path], model: Path, tmp_path: Path
) -> None:
    fields = _fields(3)
    np.save(tmp_path / "fields.npy", fields)
    program = (
        "import sys\nimport numpy as np\n"
        "from msanet_jax.prediction.predict import load_model\n"
        f"model = load_model(model={str(model)!r})\n"
        f"np.save({str(tmp_path / 'out.npy')!r}, model.probability(np.load({str(tmp_path / 'fields.npy')!r})))\n"
        f"print([name for name in {TRAINING_CODE!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    alone = np.load(tmp_path / "out.npy")
    loaded = [load_model([run]) for run in runs]
    assert loaded[0].provenance["dataset"] == "phantom_bone/tiny"
    members = [one.probability(fields) for one in loaded]
    assert alone.shape == (3, 256, 256)
    assert np.std(members[0]) > 0.01  # an untrained network that says something
    assert np.abs(members[0] - members[1]).max() > 0.01
    np.testing.assert_allclose(alone, np.mean(members, axis=0), atol=5e-5)
    np.testing.assert_allclose(load_model(runs).probability(fields), np.mean(members, axis=0), atol=5e-5)
    assert read_manifest(model)["check"]["max_abs_difference"] < 5e-5


def test_snippet_of_the_docs_runs_without_this_package(model: Path, tmp_path: Path) -> None:
    text = (DOCS / "outputs.md").read_text()
    (snippet,) = re.findall(r"<!-- snippet -->\n```python\n(.*?)```", text, re.DOTALL)
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 10
    np.save(tmp_path / "thorax.npy", _fields(1)[0])
    snippet = snippet.replace("model.msanet", str(model)).replace("thorax.npy", str(tmp_path / "thorax.npy"))
    snippet += "\nimport sys\nassert not {'msanet_jax', 'data_pipeline', 'flax'} & set(sys.modules)\n"
    snippet += f"np.save({str(tmp_path / 'probability.npy')!r}, probability)"
    subprocess.run([sys.executable, "-c", snippet], check=True, cwd=tmp_path, capture_output=True)
    wanted = load_exported(model).probability(_fields(1))[0]
    np.testing.assert_allclose(np.load(tmp_path / "probability.npy"), wanted, atol=5e-5)


def test_any_number_of_fields(model: Path) -> None:
    loaded = load_exported(model)
    many = loaded.probability(_fields(5))
    np.testing.assert_allclose(loaded.probability(_fields(5)[:2]), many[:2], atol=5e-5)
    assert (loaded.field, loaded.image_size_px, loaded.threshold) == ("thorax", 16, 0.5)
    assert loaded.config.data.dataset == "phantom_bone/tiny"  # the first run's recipe


def test_a_failed_export_leaves_the_old_file(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_use(members: object, out: object) -> None:
        raise RequestError("of no use")

    monkeypatch.setattr("msanet_jax.trained.export._compare", no_use)
    (tmp_path / "x.msanet").write_text("the old one")
    with pytest.raises(RequestError, match="of no use"):
        export_model(runs[:1], tmp_path / "x.msanet")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"x.msanet": "the old one"}


def test_checkpoints_name_no_place_of_the_machine(runs: list[Path]) -> None:
    written = [path for path in runs[0].rglob("*") if path.is_file()]
    assert any(path.name == "commit_success.txt" for path in written)
    for path in written:
        assert str(runs[0].parent).encode() not in path.read_bytes(), path


def test_what_travels_with_it(model: Path, runs: list[Path]) -> None:
    with zipfile.ZipFile(model) as archive:
        names = set(archive.namelist())
        metrics = json.loads(archive.read("metrics_0.json"))
        config = ConfigDict(json.loads(archive.read("config_1.json")))
        card = archive.read("model_card.md").decode()
        assert "PhantomBone" in archive.read("data_card.md").decode()
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}
    assert names == {
        "manifest.json",
        "program.jax",
        "config_0.json",
        "config_1.json",
        "weights_0.safetensors",
        "weights_1.safetensors",
        "metrics_0.json",
        "data_card.md",
        "model_card.md",
    }
    assert "images" not in metrics
    assert config.seed == 1
    assert card == model.with_suffix(".md").read_text()
    for words in (
        "Research software, not for diagnosis.",
        "the mean of 2 networks",
        "Single networks (1 of 2); their mean was not scored.",
        "| DSC, pooled over all pixels | 0.250 | 0.125 to 0.500 | 0.100 |",
        "not comparable with the 0.6671",
        "`phantom_bone/tiny`",
        "the network's output, not calibrated",
        "`[b, 256, 256]`. Lesion is what exceeds 0.5.",
        "Threshold and scores are for the field's own pixels",
    ):
        assert words in card, words
    manifest = read_manifest(model)
    assert (manifest["output"]["grid"], manifest["output"]["shape"]) == ("field", ["b", 256, 256])
    assert "the network saw 16 x 16 pixels as one" in manifest["output"]["what"]
    assert manifest["platforms"] == ["cpu", "cuda", "tpu"]
    assert [member["checkpoint"] for member in manifest["provenance"]["members"]] == ["fold0", "fold1"]


def test_half_precision_weights(runs: list[Path], model: Path, tmp_path: Path) -> None:
    half = export_model(runs[:1], tmp_path / "half.msanet", weights="float16")
    both = read_manifest(model)
    # Two networks at four bytes a weight against one at two; one at four would leave less between them.
    assert both["program_bytes"] - half["program_bytes"] > 6 * half["parameters"][0]
    assert 1e-6 < half["check"]["max_abs_difference"] < 0.05
    for name, leaf in read_weights(model).items():
        np.testing.assert_array_equal(read_weights(tmp_path / "half.msanet")[name], leaf.astype(np.float16))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a zip", "is not an exported model, or damaged"),
        (b"", "is not an exported model, or damaged"),
    ],
)
def test_files_that_are_no_models(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.msanet").write_bytes(content)
    with pytest.raises(RequestError, match=message):
        load_exported(tmp_path / "x.msanet")


def test_damaged_and_foreign_models(model: Path, tmp_path: Path) -> None:
    def altered(name: str, content: bytes) -> Path:
        """As earlier versions wrote it, without weights."""
        path = tmp_path / "altered.msanet"
        with zipfile.ZipFile(model) as old, zipfile.ZipFile(path, "w") as new:
            for entry in old.namelist():
                if entry.startswith("weights_"):
                    continue
                new.writestr(entry, content if entry == name else old.read(entry))
        return path

    manifest = read_manifest(model)
    for change, message in (
        ({"format_version": 99}, "newer than this version"),
        ({"format": "other"}, "is not an exported model"),
        ({"platforms": ["tpu"]}, "is for tpu, this machine's JAX runs on cpu"),
        ({"threshold": None}, "threshold: expected `float`, got `null`"),
        ({"calibrations": [None]}, "`calibrations` has not one entry a network"),
        ({"input": {"field": "hand", "shape": ["b", 1, 1]}}, "a field that this version does not know"),
    ):
        with pytest.raises(RequestError, match=message):
            load_exported(altered("manifest.json", json.dumps({**manifest, **change}).encode()))
    with pytest.raises(RequestError, match="its program cannot be read"):
        load_exported(altered("program.jax", b"nonsense"))
    with pytest.raises(RequestError, match="no such file"):
        load_exported(tmp_path / "absent.msanet")
    with pytest.raises(RequestError, match="goes to --checkpoint"):
        load_exported(tmp_path)


def test_files_of_before_are_enlarged(model: Path, tmp_path: Path) -> None:
    """Their program ends on the network's grid, and their manifest names none."""
    fields = _fields(2)

    def network_grid(counts: jax.Array) -> jax.Array:
        return normalize(bin_counts(counts, 16, xp=jnp), xp=jnp) / 4

    (batch,) = jax.export.symbolic_shape("b")
    shape = jax.ShapeDtypeStruct((batch, 256, 256), jnp.float32)
    manifest = read_manifest(model)
    manifest["output"] = {"what": "each value covers 16 x 16 pixels", "shape": ["b", 16, 16], "dtype": "float32"}
    old = tmp_path / "old.msanet"
    with zipfile.ZipFile(model) as new, zipfile.ZipFile(old, "w") as archive:
        archive.writestr("config_0.json", new.read("config_0.json"))
        archive.writestr("program.jax", jax.export.export(jax.jit(network_grid), platforms=["cpu"])(shape).serialize())
        archive.writestr("manifest.json", json.dumps(manifest))
    loaded = load_exported(old)
    expected = resample(normalize(bin_counts(fields, 16)) / 4, (256, 256))
    np.testing.assert_allclose(loaded.probability(fields), expected, atol=1e-6)
    assert loaded.image_size_px == 16
    manifest["output"]["grid"] = "scan"
    with zipfile.ZipFile(old, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("manifest.json", json.dumps(manifest))
    with pytest.raises(RequestError, match="on a grid that this version does not know"):
        load_exported(old)


def test_refusals(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="name one of them"):
        load_model(runs, tmp_path / "x.msanet")
    with pytest.raises(RequestError, match=r"--weights=int8"):
        export_model(runs, tmp_path / "x.msanet", weights="int8")
    with pytest.raises(RequestError, match=r"none\.json: is missing"):
        export_model(runs[:1], tmp_path / "x.msanet", metrics=tmp_path / "none.json")
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="cannot be written"):
        export_model(runs[:1], tmp_path / "file" / "x.msanet")
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_without_any_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("msanet_jax.runs.model_file.DEFAULT_MODEL", tmp_path / "none.msanet")
    with pytest.raises(RequestError, match=r"--checkpoint=RUN .* or --model=FILE\.msanet") as refusal:
        load_model()
    assert "\n" not in str(refusal.value)


def test_runs_of_another_size_are_not_averaged() -> None:
    configs = [get_config("smoke"), get_config("smoke"), get_config("cpu")]
    check_same_input([Path("a"), Path("b")], configs[:2])
    with pytest.raises(RequestError, match="c: its network sees thorax, 128 pixels wide, that of a thorax, 64 pixels"):
        check_same_input([Path("a"), Path("b"), Path("c")], configs)
    configs[1].data.field = "whole_body"
    with pytest.raises(RequestError, match="b: its network sees whole_body"):
        check_same_input([Path("a"), Path("b")], configs[:2])


def test_threshold_chosen_on_validation_patients_is_the_models(
    runs: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs[1], run)
    assert load_model([run]).threshold == 0.5  # the recipe's
    config = read_config(run)
    config.evaluate.threshold_rule = "validation"
    scored = {"split": "validation", "validation": {"dsc_pooled": None}, "threshold": {"value": 0.3125}}
    (run / "metrics.json").write_text(json.dumps(scored))
    with caplog.at_level("WARNING"):
        assert decided(run, config) == (0.3125, None)
    assert "0.3125 was chosen on the network's grid; msanet evaluate" in caplog.text
    caplog.clear()
    (run / "metrics.json").write_text(json.dumps(scored | {"rules": {"scored_pixels": "field"}}))
    assert decided(run, config) == (0.3125, None)
    assert not caplog.records
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(RequestError, match=r"bad\.json: test: expected `object`, got `null`"):
        export_model([run], tmp_path / "x.msanet", metrics=tmp_path / "bad.json")


def test_every_network_travels_with_its_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the program, in the function built anew from weights, and in the mean of checkpoints: of calibrated ones."""
    runs = [write_run(tmp_path / f"run{member}", member) for member in range(2)]
    bent, fields = Calibration((-1.0, 0.5), -2.0, (0.7, 1.6, 0.3)), _fields(2)
    first, second = (load_model([run]).probability(fields) for run in runs)
    wanted = (calibrate(first, bent) + second) / 2
    assert np.abs(wanted - (first + second) / 2).max() > 0.02
    monkeypatch.setattr(restore, "decided_by", lambda run, _: Decided(0.25, bent if run == runs[0] else None))
    out = tmp_path / "mean.msanet"
    manifest = export_model(runs, out, card=tmp_path / "card.md")
    assert manifest["check"]["max_abs_difference"] < 5e-5
    found = load_exported(out)
    assert (found.threshold, found.calibration) == (0.25, None)
    assert read_calibrations(out, read_manifest(out)) == [bent, None]
    for probability in (found.probability, rebuilt(out, [bent, None]), load_model(runs).probability):
        np.testing.assert_allclose(probability(fields), wanted, atol=5e-5)
    assert "calibrated on the validation patients of the data set above" in (tmp_path / "card.md").read_text()


def test_a_folder_of_ones_own_is_named_by_its_last_part(tmp_path: Path) -> None:
    config = get_config("smoke")
    config.data.dataset, config.train.init_from = "/home/MUSTERFRAU/scans", "/home/MUSTERFRAU/x.msanet"
    assert json.loads(_config_text(config))["data"]["dataset"] == "scans"
    assert json.loads(_config_text(config))["train"]["init_from"] == "x.msanet"
    assert config.data.dataset == "/home/MUSTERFRAU/scans"
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"test": {}, "images": [1], "provenance": {"dataset": "/home/MUSTERFRAU/scans"}}))
    assert _read_scores([path], required=True) == {0: {"test": {}, "provenance": {"dataset": "scans"}}}
