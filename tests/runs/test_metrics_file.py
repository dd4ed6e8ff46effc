"""metrics.json, its tables and its documentation agree; the scoring of a split from network to files."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from data_pipeline.errors import RequestError
from data_pipeline.files import nan_to_null
from msanet_jax.evaluation.evaluate import decide
from msanet_jax.evaluation.field_maps import field_probability
from msanet_jax.evaluation.lesions import GROUPS
from msanet_jax.evaluation.protocol import score
from msanet_jax.evaluation.results import Evaluation, Threshold
from msanet_jax.runs.folder import decided
from msanet_jax.runs.metrics_file import Provenance, csv_text, read_metrics, rules, write_metrics
from msanet_jax.runs.notices import scores_notice
from msanet_jax.training import outcome
from msanet_jax.training.outcome import headline, score_and_write
from tests.fakes import fake_split, level_split

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "metrics.schema.json").read_text())
DOCUMENT = (ROOT / "docs" / "metrics.md").read_text()
SPLITS = {
    name: dataclasses.replace(fake_split(images, seed=seed), version="1.2.3")
    for seed, (name, images) in enumerate({"train": 12, "validation": 6, "test": 10}.items())
}
PICTURES = ("reliability.png", "precision_recall.png", "froc.png", "lesion_size.png")


def _probability(images: np.ndarray) -> np.ndarray:
    """A smooth function of uptake that is wrong now and then."""
    return (1 / (1 + np.exp(-6 * (images[..., 0] - 1.6)))).astype(np.float32)


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of the time and are looked at in one test."""
    monkeypatch.setattr(outcome, "write_pictures", lambda *_: None)
    monkeypatch.setattr(outcome, "write_score_plots", lambda *_: None)


def _write(folder: Path, config: ConfigDict, probability: Any = _probability, **more: Any) -> dict[str, Any]:
    folder.mkdir(parents=True)
    score_and_write(field_probability(probability, 16), SPLITS, folder=folder, config=config, step=7, begin=0.0, **more)
    return json.loads((folder / "metrics.json").read_text())


def _undocumented(names: set[str], text: str) -> set[str]:
    written = set(re.findall(r"`([^`]+)`", text))
    generic = {re.sub(f"_({'|'.join(GROUPS)})$", "_G", name) for name in names}
    return generic - written


def _property_names(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(_property_names, schema))
    if not isinstance(schema, dict):
        return set()
    found = set(schema.get("properties", {}))
    return found.union(*map(_property_names, schema.values()))


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("split", ["test", "validation"])
def test_file_is_what_the_schema_says(split: str, small_config: ConfigDict, tmp_path: Path) -> None:
    content = _write(tmp_path / "run", small_config, split=split)
    jsonschema.validate(content, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert content["split"] == split
    assert content["provenance"]["dataset_version"] == "1.2.3"
    assert len(content["images"]) == len(SPLITS[split].rows)
    read = read_metrics(tmp_path / "run")
    assert nan_to_null(read.scores.flat()) == content[split]
    assert nan_to_null(read.threshold_baseline.flat()) == content["threshold_baseline"]
    for name in content.keys() - {"schema_version", "threshold_baseline", split}:
        assert nan_to_null(getattr(read, name)) == content[name], name
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "metrics.json",
        "images.csv",
        "lesions.csv",
        "cases.npz",
    }


@pytest.mark.parametrize("lesions", [True, False])
def test_pictures_are_drawn(lesions: bool, small_config: ConfigDict, tmp_path: Path) -> None:
    """Also of a split on which every curve is undefined."""
    split = SPLITS["test"]
    if not lesions:
        split = dataclasses.replace(split, ids=np.zeros_like(split.ids))
    outcome.write_score_plots(
        tmp_path, outcome.evaluate(field_probability(_probability, 16), split, config=small_config), "footer"
    )
    assert {path.name for path in tmp_path.iterdir()} == set(PICTURES)
    for name in PICTURES:
        with Image.open(tmp_path / name) as picture:
            assert np.asarray(picture.convert("RGB")).std() > 5


@pytest.mark.usefixtures("without_pictures")
def test_the_schema_refuses_what_it_does_not_know(small_config: ConfigDict, tmp_path: Path) -> None:
    content = _write(tmp_path / "run", small_config)
    for change in (
        {"more": 1},
        {"schema_version": 2},
        {"rules": content["rules"] | {"scored_pixels": "network"}},
        {"split": "validation"},
        {"test": content["test"] | {"lesion_recall_tiny": 0.5}},
        {"test": content["test"] | {"dsc_pooled": 1.5}},
        {"images": [content["images"][0] | {"tp": 0.5}]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(content | change, SCHEMA, cls=jsonschema.Draft202012Validator)


@pytest.mark.usefixtures("without_pictures")
def test_every_key_and_column_is_documented(small_config: ConfigDict, tmp_path: Path) -> None:
    _write(tmp_path / "run", small_config)
    assert not _undocumented(_property_names(SCHEMA), DOCUMENT)
    for name in ("images", "lesions"):
        section = DOCUMENT.split(f"## {name}.csv")[1].split("\n## ")[0]
        with (tmp_path / "run" / f"{name}.csv").open() as file:
            reader = csv.DictReader(file)
            rows = list(reader)
        assert not _undocumented(set(reader.fieldnames or ()), section)
        assert len(rows) == {"images": 10, "lesions": 8}[name]


@pytest.mark.usefixtures("without_pictures")
def test_scores_agree_with_the_rows(small_config: ConfigDict, tmp_path: Path) -> None:
    content = _write(tmp_path / "run", small_config)
    scores, images = content["test"], content["images"]
    with (tmp_path / "run" / "lesions.csv").open() as file:
        lesions = list(csv.DictReader(file))
    tp, fp, fn = (sum(row[key] for row in images) for key in ("tp", "fp", "fn"))
    assert scores["dsc_pooled"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert scores["lesions"] == len(lesions) == sum(row["lesions"] for row in images)
    assert scores["lesion_recall"] == pytest.approx(np.mean([row["detected"] == "True" for row in lesions]))
    assert scores["lesion_dsc_mean"] == pytest.approx(np.mean([float(row["dsc"]) for row in lesions]))
    assert scores["dsc_median"] == pytest.approx(np.median([row["dsc"] for row in images if row["lesions"]]))
    assert scores["hd95_mm_mean"] == pytest.approx(
        np.mean([row["hd95_mm"] for row in images if row["hd95_mm"] is not None])
    )
    assert sum(row["lesions"] for row in content["sizes"]) == len(lesions)  # all have a size
    assert content["bones"][0]["bone"] == "rib"
    assert content["bones"][0]["recall"] == scores["lesion_recall"]
    for name, (low, high) in scores["intervals"].items():
        if scores[name] is not None and "median" not in name:
            assert low - 0.02 <= scores[name] <= high + 0.02, name
    assert sum(row["pixels"] for row in content["calibration"]) == 10 * 16 * 16
    at = content["froc"]["operating_points"]
    assert scores["froc_score"] == pytest.approx(np.mean([point["sensitivity"] for point in at]))


@pytest.mark.usefixtures("without_pictures")
def test_undefined_becomes_null_and_empty(small_config: ConfigDict, tmp_path: Path) -> None:
    """A network that marks nothing."""
    content = _write(tmp_path / "run", small_config, probability=lambda images: np.zeros(images.shape[:3], np.float32))
    jsonschema.validate(content, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert content["test"]["dsc_pooled"] == content["test"]["froc_score"] == content["test"]["lesion_recall"] == 0.0
    assert content["test"]["precision_pooled"] is None
    assert content["test"]["hd95_mm_mean"] is None
    assert content["test"]["intervals"]["hd95_mm_mean"] == [None, None]
    assert content["test"]["images_with_undefined_hd95"] == content["test"]["images_without_prediction"] == 10
    assert content["test"]["nsd_mean"] == 0.0
    assert content["images"][3]["dsc"] is None
    assert csv_text([{"a": float("nan"), "b": None, "c": 0.0}]) == "a,b,c\n,,0.0\n"


@pytest.mark.usefixtures("without_pictures")
def test_where_the_threshold_comes_from(small_config: ConfigDict, tmp_path: Path) -> None:
    fixed = decide(field_probability(_probability, 16), SPLITS["validation"], config=small_config).threshold
    assert (fixed.value, fixed.rule) == (0.5, "fixed")
    small_config.evaluate.threshold_rule = "validation"
    content = _write(tmp_path / "run", small_config, probability=lambda images: 0.4 * _probability(images))
    chosen = content["threshold"]
    assert chosen["rule"] == "validation"
    assert chosen["validation_dsc_pooled"] >= fixed.validation_dsc_pooled
    assert content["test"]["threshold"] == chosen["value"] < 0.5
    given = _write(tmp_path / "given", small_config, threshold=0.9999)["threshold"]
    assert (given["value"], given["rule"]) == (0.9999, "given")
    validation, at = SPLITS["validation"], {}
    maps = np.asarray(field_probability(_probability, 16)(validation.counts))
    for level in (0.9999, 0.5):
        at[level] = score(maps, validation, config=small_config, threshold=level).summary["dsc_pooled"]
    assert given["validation_dsc_pooled"] == at[0.9999] != at[0.5]
    metrics = read_metrics(tmp_path / "run")
    text = headline(metrics, tmp_path)
    assert "not comparable" in text
    assert f"threshold {chosen['value']:g} (validation)" in text
    low, high = content["test"]["intervals"]["dsc_pooled"]
    assert f"(95 % interval {low:.3f} to {high:.3f})" in text
    narrow = dataclasses.replace(metrics.scores, intervals=metrics.scores.intervals | {"dsc_pooled": (0.2, 0.2)})
    assert "(too few patients for an interval)" in headline(dataclasses.replace(metrics, scores=narrow), tmp_path)
    nothing = {"lesions": 0, "lesion_recall": float("nan"), "dsc_pooled": float("nan"), "froc_score": float("nan")}
    empty = dataclasses.replace(metrics.scores, values={**metrics.scores.values, **nothing})
    text = headline(dataclasses.replace(metrics, scores=empty), tmp_path)
    assert "DSC undefined (" in text and "lesions: none in the truth, " in text and "FROC score undefined\n" in text
    assert "nan" not in text


def test_undefined_and_missing_cells_are_empty() -> None:
    assert csv_text([{"a": float("nan"), "b": 1.5}, {"b": 2}]) == "a,b\n,1.5\n,2\n"


@pytest.mark.usefixtures("without_pictures")
def test_the_calibration_is_written_and_read_back(small_config: ConfigDict, tmp_path: Path) -> None:
    """Scores of marks are those without it, and a prediction finds it; older files have none."""
    plain = _write(tmp_path / "plain", small_config)
    assert plain["calibration_map"] is None
    small_config.evaluate.calibration = "validation"
    content = _write(tmp_path / "run", small_config)
    jsonschema.validate(content, SCHEMA, cls=jsonschema.Draft202012Validator)
    for name in ("dsc_pooled", "precision_pooled", "recall_pooled", "nsd_mean", "lesion_recall"):
        assert content["test"][name] == plain["test"][name], name
    assert content["test"]["brier"] != plain["test"]["brier"]
    chosen = decide(field_probability(_probability, 16), SPLITS["validation"], config=small_config)
    assert read_metrics(tmp_path / "run").calibration_map == chosen.calibration
    assert decided(tmp_path / "run", small_config) == (chosen.threshold.value, chosen.calibration)
    assert content["test"]["threshold"] == chosen.threshold.value != 0.5
    del plain["calibration_map"]
    (tmp_path / "plain" / "metrics.json").write_text(json.dumps(plain))
    assert read_metrics(tmp_path / "plain").calibration_map is None
    given = _write(tmp_path / "given", small_config, threshold=0.25, calibration=chosen.calibration)
    assert given["calibration_map"] == content["calibration_map"]
    assert given["test"]["brier"] == plain["test"]["brier"]  # that map was said to be done


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(RequestError, match=r"metrics\.json: is not valid JSON"):
        read_metrics(tmp_path)


# What is tuned on or scored in the wrong split gives another number: single thresholds part lesion and other square at
# uptakes of 3 to 4 in training, 3.25 to 3.5 in validation and 4 to 5 in the test.
LEVELS = {
    "train": level_split(lesion=4, other=3, place=9),
    "validation": level_split(lesion=3.5, other=3.25),
    "test": level_split(lesion=5, other=4),
}


def _scored(folder: Path, config: ConfigDict, probability: Any, **more: Any) -> dict[str, Any]:
    score_and_write(field_probability(probability, 16), LEVELS, folder=folder, config=config, step=7, begin=0.0, **more)
    return json.loads((folder / "metrics.json").read_text())


def _tenth_of_uptake(images: np.ndarray) -> np.ndarray:
    return np.clip(images[..., 0] / 10, 0, 1).astype(np.float32)


@pytest.mark.usefixtures("without_pictures")
def test_every_split_has_its_part(small_config: ConfigDict, tmp_path: Path) -> None:
    """The threshold is that of validation, the baseline that of training, and both are scored on the test."""
    small_config.evaluate.threshold_rule = "validation"
    content = _scored(tmp_path, small_config, _tenth_of_uptake)
    chosen = content["threshold"]
    # Of 0.325 to 0.349 the nearest to 0.5. On the test it marks both squares.
    assert (chosen["value"], chosen["rule"], chosen["validation_dsc_pooled"]) == (0.349, "validation", 1.0)
    assert content["test"]["threshold"] == 0.349
    assert content["test"]["dsc_pooled"] == pytest.approx(2 / 3)
    assert content["threshold_baseline"]["threshold"] == 3.0
    assert content["threshold_baseline"]["dsc_pooled"] == pytest.approx(2 / 3)
    assert content["provenance"]["checkpoint_step"] == 7
    again = _scored(tmp_path, small_config, _tenth_of_uptake, split="validation")
    assert (again["split"], again["validation"]["dsc_pooled"]) == ("validation", 1.0)
    assert again["threshold_baseline"]["threshold"] == 3.0
    assert again["threshold_baseline"]["dsc_pooled"] == pytest.approx(2 / 3)


@pytest.mark.usefixtures("without_pictures")
def test_zero_input_is_scored_on_zeros(small_config: ConfigDict, tmp_path: Path) -> None:
    """A network of pixels falls to 0; one that knows the place scores as before, at the same threshold."""
    pixels = _scored(tmp_path, small_config, lambda images: (images[..., 0] > 2.5).astype(np.float32))
    assert pixels["test"]["dsc_pooled"] == pytest.approx(2 / 3)
    assert pixels["zero_input_dsc_pooled"] == 0.0

    def place(images: np.ndarray) -> np.ndarray:
        known = np.zeros(images.shape[:3], np.float32)
        known[:, 2:6, 2:6] = 0.375
        return known

    assert _scored(tmp_path, small_config, place)["zero_input_dsc_pooled"] == 0.0  # below 0.5
    assert _scored(tmp_path, small_config, place, threshold=0.25)["zero_input_dsc_pooled"] == 1.0


def test_rules_are_the_numbers_of_the_recipe(small_config: ConfigDict) -> None:
    small_config.evaluate.froc_peak_distance_mm = 9.0
    small_config.evaluate.froc_hit_distance_mm = 4.0
    small_config.evaluate.lesion_overlap_min = 0.2
    assert nan_to_null(rules(small_config)) == {
        "scored_mask": small_config.data.scored_mask,
        "scored_pixels": "field",
        "lesion_overlap_min": 0.2,
        "small_below_mm": 15.0,
        "large_above_mm": 30.0,
        "low_contrast_below": 5.0,
        "high_contrast_above": 10.0,
        "clustered_within_mm": 15.0,
        "surface_tolerance_mm": 5.0,
        "calibration_bins": 15,
        "froc_false_positives_per_scan": [0.25, 0.5, 1.0, 2.0, 4.0, 8.0],
        "froc_probability_min": 0.0001,
        "froc_peak_distance_mm": 9.0,
        "froc_hit_distance_mm": 4.0,
        "bootstrap_samples": small_config.evaluate.bootstrap_samples,
    }


@pytest.mark.parametrize(("simulated", "said"), [(True, "Simulated scans"), (False, "Imported scans")])
def test_every_number_stands_under_its_name(
    simulated: bool, said: str, small_config: ConfigDict, tmp_path: Path
) -> None:
    def result(level: float) -> Evaluation:
        maps = np.clip(SPLITS["test"].images / 10, 0, 1).astype(np.float32)
        return score(maps, SPLITS["test"], config=small_config, threshold=level)

    scored, baseline = result(0.25), result(0.5)
    facts = {"checkpoint_step": 7, "wall_seconds": 1.5, "devices": "1 x cpu", "host": "h", "python": "3", "seed": 3}
    facts |= {"versions": {"jax": None}, "model": "m", "dataset": "d", "variants": "v", "commit": "c"}
    threshold = Threshold(0.25, "given", 0.375)
    metrics = write_metrics(
        tmp_path,
        split="test",
        scored=scored,
        threshold=threshold,
        calibration=None,
        threshold_baseline=baseline,
        zero_input_dsc_pooled=0.125,
        config=small_config,
        provenance=Provenance(**facts),
        simulated=simulated,
    )
    assert repr(metrics) == repr(read_metrics(tmp_path))
    assert metrics.note == scores_notice(simulated=simulated) and metrics.note.startswith(said)
    for kept, given in ((metrics.scores, scored.summary), (metrics.threshold_baseline, baseline.summary)):
        np.testing.assert_equal(kept.values, {name: given.values[name] for name in kept.values})
        np.testing.assert_equal(kept.intervals, {name: given.intervals[name] for name in kept.intervals})
    assert len(metrics.scores.values) == len(scored.summary.values)
    assert (metrics.threshold, metrics.zero_input_dsc_pooled) == (threshold, 0.125)
    assert metrics.provenance == Provenance(**facts)
    assert [row.tp for row in metrics.images] == [row.tp for row in scored.images]
    undefined = next(n for n, row in enumerate(scored.images) if math.isnan(row.hd95_mm))
    assert metrics.images[undefined].hd95_mm is None
    lesions = (tmp_path / "lesions.csv").read_text().splitlines()
    assert lesions[0].startswith("image_id,patient,lesion,bone,size_mm,") and len(lesions) == 1 + len(scored.lesions)
    assert (tmp_path / "images.csv").read_text().splitlines()[0].startswith("image_id,patient,view,tp,fp,fn,dsc,")


def test_json_has_no_infinity() -> None:
    values = {"a": [1.0, float("nan"), (float("inf"), 2)], "b": {"c": -float("inf"), "d": "nan", "e": 0.0}}
    assert nan_to_null(values) == {"a": [1.0, None, [None, 2]], "b": {"c": None, "d": "nan", "e": 0.0}}
