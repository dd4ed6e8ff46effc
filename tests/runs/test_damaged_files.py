"""Files of a run that were edited or damaged: one line that names the file, or what the whole file says."""

from __future__ import annotations

import io
import json
import pickle
import tracemalloc
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from configs.msanet import get_config
from data_pipeline.errors import ExitCode, RequestError
from data_pipeline.files import nan_to_null, write_text
from data_pipeline.phantom_examples import PatientStore
from data_pipeline.reading import is_bomb
from data_pipeline.scan import View
from msanet_jax import cli
from msanet_jax.experiment.study import STARTED, Journal, Run, Study
from msanet_jax.runs.cases import read_cases
from msanet_jax.runs.history import History, read_history
from msanet_jax.runs.metrics_file import csv_text, read_lesions, read_metrics
from msanet_jax.runs.recipe import flatten, read_config, require
from msanet_jax.runs.recipe_keys import KEYS
from tests.damage import damaged_csv, damaged_json, damaged_texts, refused
from tests.fakes import image_scores, lesion_scores, scored_run, write_scores


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A scored run of two images with a lesion each."""
    return scored_run(tmp_path)


def test_metrics(run: Path) -> None:
    path = run / "metrics.json"
    lists = ("('provenance', 'versions', 'jax')", "('rules', 'froc_false_positives_per_scan', 0)")
    valid = ("('provenance', 'commit') =", *(f"{entry} deleted" for entry in lists))
    damage = (entry for entry in damaged_json(path.read_bytes(), wrongs=2) if not entry[0].startswith(valid))
    assert refused(path, damage, lambda: read_metrics(run)) > 1000


def test_scores_that_are_not_those_of_the_images(run: Path) -> None:
    content = json.loads((run / "metrics.json").read_text())
    content["test"]["recall_pooled"] = 0.75
    (run / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(RequestError, match=r"test\.recall_pooled is 0\.75, its images give 0\.5; msanet"):
        read_metrics(run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": {"value": 1.5, "rule": "fixed", "validation_dsc_pooled": 0.5}}, r"threshold\.value: expected"),
        ({"split": "train"}, "split: invalid enum value 'train'"),
        ({"split": "validation"}, "validation: expected `object`, got `null`"),
        ({"images": []}, "images: expected `array` of length >= 1"),
        ({"froc": 3}, "froc: expected `object`, got `int`"),
    ],
)
def test_the_message_names_file_key_fault_and_remedy(change: dict, message: str, run: Path) -> None:
    content = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(content | change))
    with pytest.raises(RequestError, match=f"metrics\\.json: {message}.*; msanet evaluate .* scores it again"):
        read_metrics(run)


def test_lesions(run: Path) -> None:
    path, metrics = run / "lesions.csv", read_metrics(run)
    used = ("image_id", "lesion", "bone", "size_mm")

    def read() -> list[tuple[Any, ...]]:
        return [tuple(getattr(row, name) for name in used) for row in read_lesions(run, metrics)]

    free = ("patient", "bone", "contrast", "cnr")  # texts, and numbers without a lower end
    damage = [(what, content) for what, content in damaged_csv(path.read_bytes()) if not what.startswith(free)]
    assert refused(path, damage, read) > 60
    write_text(path, csv_text([nan_to_null(lesion_scores("i0"))]))
    with pytest.raises(RequestError, match=r"lesions\.csv: has not the lesions of i1 that metrics\.json counts"):
        read()


def test_history(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = run / "history.jsonl"
    whole, (first, *rest) = read_history(path), path.read_bytes().splitlines(keepends=True)
    lines = [(what, line) for what, line in damaged_json(first) if line.strip()]
    damage = [(what, line.rstrip(b"\n") + b"\n" + b"".join(rest)) for what, line in lines]
    assert refused(path, damage, lambda: read_history(path)) > 20
    for what, content in damaged_texts(b"".join((first, *rest))):
        path.write_bytes(content)
        caplog.clear()
        try:
            rows = read_history(path)
        except RequestError as error:
            assert str(path) in str(error) and "\n" not in str(error), what
        else:
            assert rows == whole[: len(rows)], what
            assert content.endswith(b"\n") or not content or "the line was left out" in caplog.text, what


def test_every_flipped_bit_of_history(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One bit of each byte; a training drops the line and no other."""
    path = run / "history.jsonl"
    whole, content = read_history(path), path.read_bytes()
    for place in range(len(content) - 1):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(RequestError, match=r"history\.jsonl, line \d:"):
            read_history(path)
    path.write_bytes(content.replace(b'"supervised_loss": 0.5', b'"supervised_loss": 0.7'))
    with pytest.raises(RequestError, match=r"history\.jsonl, line 2: is not as it was written, its crc32 says; move"):
        read_history(path)
    History(path, resumed_step=2)
    assert read_history(path) == [whole[0], whole[2]]
    assert caplog.messages == [f"{path}, line 2: is not as it was written, its crc32 says; the line was left out"]
    path.write_bytes(content.replace(b'"learning_rate"', b'"learning\xdfrate"', 1))
    History(path, resumed_step=2)
    assert read_history(path) == whole[1:]


def test_history_of_before_checksums(run: Path) -> None:
    path = run / "history.jsonl"
    whole, lines = read_history(path), path.read_text().splitlines()
    assert json.loads(lines[0]) == {
        "step": 1, "epoch": 0.5, "kind": "train", "supervised_loss": 1.0, "learning_rate": 0.001, "crc32": 2420964105,
    }  # fmt: skip
    path.write_text("".join(f"{line}\r\n" for line in lines))  # as some programs copy texts
    assert read_history(path) == whole
    path.write_text("".join(line[: line.index(', "crc32"')] + "}\n" for line in lines))
    assert read_history(path) == whole
    History(path, resumed_step=2)
    assert path.read_text().splitlines() == lines


def test_training_goes_on_from_a_damaged_history(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = run / "history.jsonl"
    first, second, third = path.read_text().splitlines(keepends=True)
    path.write_text(first + second[:20] + "\n" + third)
    History(path, resumed_step=2)
    assert path.read_text() == first + third
    assert "history.jsonl, line 2: is not valid JSON" in caplog.text


def _damaged_arrays(path: Path) -> Iterator[tuple[str, bytes]]:
    content = path.read_bytes()
    for place in range(12):
        yield f"cut at {place}/12", content[: len(content) * place // 12]
    with np.load(path) as stored:
        arrays = dict(stored)
    other = {"object": np.array([{"a": 1}, None], object), "text": np.array(["a", "b"]), "scalar": np.array(3)}
    other |= {"floats": np.full((2, 4, 4), np.nan), "too few": arrays["level"][:1], "too high": arrays["level"] + 2000}
    for name in arrays:
        yield f"without {name}", _npz({key: array for key, array in arrays.items() if key != name})
        for what, wrong in other.items():
            if name != "image_ids" or what != "text":
                yield f"{name} = {what}", _npz(arrays | {name: wrong})
        yield f"{name} is no array", _npz(arrays, other={name: b"text in its place"})
    npy = io.BytesIO()
    np.save(npy, arrays["level"])
    yield "one array", npy.getvalue()
    yield "a pickle", pickle.dumps(arrays)
    huge = io.BytesIO()
    header = b"{'descr': '<u2', 'fortran_order': False, 'shape': (1000000, 1000000, 1000000), }"
    with zipfile.ZipFile(huge, "w") as archive:
        for name in arrays:
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    yield "a shape beyond all memory", huge.getvalue()


def _npz(arrays: dict[str, np.ndarray], other: Mapping[str, bytes] = MappingProxyType({})) -> bytes:
    packed = io.BytesIO()
    np.savez(packed, **{name: array for name, array in arrays.items() if name not in other})
    with zipfile.ZipFile(packed, "a") as archive:
        for name, content in other.items():
            archive.writestr(f"{name}.npy", content)
    return packed.getvalue()


def test_cases(run: Path) -> None:
    path = run / "cases.npz"
    damage = list(_damaged_arrays(path))
    assert refused(path, damage, lambda: read_cases(run)) == len(damage)


def _with_zeros(path: Path, name: str, size: int) -> None:
    """Adds or replaces a member: an array of zeros, packed to a thousandth."""
    with np.load(path) as stored:
        arrays = {key: array for key, array in stored.items() if key != name}
    path.write_bytes(_npz(arrays))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open(f"{name}.npy", "w") as member:
        np.lib.format.write_array(member, np.zeros((size >> 16, 256, 256), np.uint8))


def test_arrays_that_nobody_wants_stay_packed_and_bombs_too(run: Path, tmp_path: Path) -> None:
    """Wanted are the arrays of cases, and those of a simulated patient's views."""
    path, store = run / "cases.npz", PatientStore(tmp_path, seed=0, field="thorax")
    kept = read_cases(run)
    assert kept is not None
    np.savez(store.path(3), **{f"{View.ANTERIOR}/counts": np.ones(5)})
    for file in (path, store.path(3)):
        _with_zeros(file, "extra", 128 << 20)
    tracemalloc.start()
    try:
        again = read_cases(run)
        assert again is not None
        np.testing.assert_array_equal(again.level, kept.level)
        assert [list(example) for example in store.examples(3, [View.ANTERIOR])] == [["counts"]]
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
        _with_zeros(path, "instances", 128 << 20)
        tracemalloc.reset_peak()
        with pytest.raises(RequestError, match=r"cases.npz: is too large to be one of this program's files"):
            read_cases(run)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_masks_alone_may_be_packed_far_better_than_scans() -> None:
    uptake, masks = zipfile.ZipInfo("uptake.npy"), zipfile.ZipInfo("instances.npy")
    uptake.file_size = masks.file_size = 256 << 20
    uptake.compress_size, masks.compress_size = 128 << 20, 256 << 10
    assert is_bomb([masks]) and not is_bomb([uptake, masks])


def test_config(run: Path) -> None:
    """Read as the commands read it that make a model of a run."""
    path = run / "config.json"
    write_text(path, get_config("smoke").to_json())

    def read() -> dict[str, Any]:
        config = read_config(run)
        require(config, KEYS, where=str(path))
        return flatten(config)

    shorter = ", 0) deleted"  # a list that is as valid
    damage = (entry for entry in damaged_json(path.read_bytes(), wrongs=2) if not entry[0].endswith(shorter))
    assert refused(path, damage, read) > 200


def test_journal_of_a_study(tmp_path: Path) -> None:
    planned = (Run("a", 0, "a/seed0", ("--config=x.py",)),)
    study = Study(tmp_path / "study.py", tmp_path, None, planned)
    Journal(tmp_path, study).begin(planned[0])
    path = tmp_path / "experiment.json"
    assert Journal(tmp_path, study).outcomes["a/seed0"].state == STARTED
    free = ("('runs', 'a/seed0') deleted", "('runs',) = {}")  # a run that was not begun
    damage = [(what, content) for what, content in damaged_json(path.read_bytes()) if what not in free]
    assert refused(path, damage, lambda: Journal(tmp_path, study).outcomes) > 50


@pytest.mark.parametrize(
    ("command", "name", "content"),
    [
        ("report", "metrics.json", b"{"),
        ("report", "lesions.csv", b"a,b\n1,2\n"),
        ("report", "history.jsonl", b"true\n"),
        ("report", "cases.npz", b"PK\x03\x04"),
        ("compare", "metrics.json", b'{"schema_version": 3}'),
    ],
)
def test_commands_answer_in_one_line(
    command: str, name: str, content: bytes, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text(run / "config.json", '{"data": {"dataset": "phantom_bone/tiny"}}')
    (run / name).write_bytes(content)
    other = write_scores(tmp_path / "other", [image_scores()])
    runs = [str(run), str(other)] if command == "compare" else [str(run), f"--out={tmp_path / 'page.html'}"]
    assert cli.main([command, *runs]) == ExitCode.REFUSED
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith(f"msanet {command}: {run / name}")
