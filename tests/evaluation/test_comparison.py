"""Paired comparison: by hand, under the null hypothesis, with several seeds, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from data_pipeline.errors import RequestError
from msanet_jax.evaluation.comparison import compare_runs, holm, two_sided_p
from msanet_jax.evaluation.lesions import GROUPS
from msanet_jax.evaluation.results import ImageScores
from msanet_jax.report.comparison_table import compare_folders, markdown, run_names
from tests.fakes import image_scores, write_scores

Row = ImageScores


def _rows(tp: list[int], *, lesion: int = 10, fp: int = 0, per_patient: int = 1, **more: Any) -> list[Row]:
    rows = []
    for number, found in enumerate(tp):
        row: dict[str, Any] = {"image_id": f"i{number}", "patient": f"p{number // per_patient}", "tp": found, "fp": fp}
        row |= {
            "fn": lesion - found,
            "dsc": 2 * found / (found + fp + lesion),
            "lesions": 1,
            "detected": int(found > 0),
        }
        row |= {"lesion_dsc_sum": 0.5, "false_positives": fp, "lesion_count_error": 0, "lesions_without_pixels": 0}
        for group in GROUPS:
            row |= {f"lesions_{group}": 1, f"detected_{group}": int(found > 0), f"lesion_dsc_sum_{group}": 0.5}
        rows.append(image_scores(**(row | more)))
    return rows


def test_difference_by_hand() -> None:
    runs = {"base": _rows([5, 5, 5]), "better": _rows([10, 10, 10])}
    (recall, dsc) = compare_runs(runs, scores=("recall_pooled", "dsc_pooled"))
    assert (recall.value, recall.reference_value, recall.difference) == (1.0, 0.5, 0.5)
    assert (recall.low, recall.high) == (0.5, 0.5)
    assert recall.p == pytest.approx(2 / 10001)
    assert dsc.difference == pytest.approx(1 - 10 / 15)
    assert (recall.patients, recall.images) == (3, 3)
    assert (recall.run, recall.reference) == ("better", "base")


def test_a_run_against_itself_shows_nothing() -> None:
    rows = _rows([1, 5, 9, 4])
    for entry in compare_runs({"a": rows, "b": list(reversed(rows))}):
        assert entry.difference == entry.low == entry.high == 0.0
        assert entry.p == entry.p_holm == 1.0


def test_pairing_is_sharper_than_two_intervals() -> None:
    """Images differ much, the runs by one pixel in each: the pairs see it."""
    base = [1, 2, 3, 4, 5, 6, 7, 8]
    (entry,) = compare_runs({"a": _rows(base), "b": _rows([n + 1 for n in base])}, scores=("recall_pooled",))
    assert (entry.low, entry.high) == pytest.approx((0.1, 0.1))
    assert entry.p < 0.001


def test_patients_are_the_unit() -> None:
    """One patient's many images cannot make an effect certain."""
    good, base = _rows([9] * 20 + [5], per_patient=20), _rows([5] * 21, per_patient=20)
    (entry,) = compare_runs({"a": base, "b": good}, scores=("recall_pooled",))
    assert entry.patients == 2
    assert entry.low == 0.0
    assert entry.p > 0.3


def test_p_is_uniform_under_the_null() -> None:
    """Of 200 comparisons without effect about 5 % reach 0.05."""
    random = np.random.default_rng(0)
    p = []
    for trial in range(200):
        tp = random.integers(0, 11, size=(2, 30))
        runs = {"a": _rows(tp[0].tolist()), "b": _rows(tp[1].tolist())}
        p.append(compare_runs(runs, scores=("recall_pooled",), samples=400, seed=trial)[0].p)
    assert 3 <= sum(value <= 0.05 for value in p) <= 20
    assert 80 <= sum(value <= 0.5 for value in p) <= 120


def test_several_seeds_are_paired_by_replicate() -> None:
    base = _rows([5, 5], replicate=0) + _rows([5, 5], replicate=1)
    other = _rows([6, 6], replicate=1) + _rows([8, 8], replicate=0)
    (entry,) = compare_runs({"a": base, "b": other}, scores=("recall_pooled",))
    assert entry.difference == pytest.approx(0.2)
    assert (entry.patients, entry.images) == (2, 4)
    with pytest.raises(RequestError, match="occurs twice"):
        compare_runs({"a": _rows([5]) + _rows([5]), "b": _rows([5]) + _rows([6])})


def test_pairs_of_trainings_are_drawn_too() -> None:
    """Two pairs, better by 0.2 and by 0.4 in every patient: their mean is sure only as far as two pairs are."""
    base = _rows([5, 5, 5], replicate=0) + _rows([5, 5, 5], replicate=1)
    better = _rows([7, 7, 7], replicate=0) + _rows([9, 9, 9], replicate=1)
    (pooled,) = compare_runs({"a": base, "b": better}, scores=("recall_pooled",), samples=400)
    (entry,) = compare_runs({"a": base, "b": better}, scores=("recall_pooled",), samples=400, crossed=True)
    assert pooled.difference == entry.difference == pytest.approx(0.3)
    assert (pooled.low, pooled.high) == pytest.approx((0.3, 0.3))
    assert (entry.low, entry.high) == pytest.approx((0.2, 0.4))
    # Every sample is above zero, z = 2.81 of 400 samples; with one degree of freedom that is little.
    assert entry.p == pytest.approx(2 * stats.t.sf(stats.norm.isf(1 / 401) / math.sqrt(2), 1))
    with pytest.raises(RequestError, match="needs two pairs or more, there is 1"):
        compare_runs({"a": base[:3], "b": better[:3]}, crossed=True)


def test_undefined_scores() -> None:
    runs = {"a": _rows([0, 0]), "b": _rows([0, 5])}
    (entry,) = compare_runs(runs, scores=("precision_pooled",))
    assert math.isnan(entry.reference_value)
    assert math.isnan(entry.difference)
    assert math.isnan(entry.p)
    assert "| - |" in markdown([entry])


def test_distances_are_compared_on_the_images_that_both_runs_have() -> None:
    """A run that marks two of eight images, both well, does not beat one that marks all eight by its own average."""
    few, all_ = _rows([5, 5, 0, 0, 0, 0, 0, 0]), _rows([5] * 8)
    near = [number < 2 for number in range(8)]
    few = [replace(row, hd95_mm=2.0 if n else None, nsd=1.0 if n else 0.0) for row, n in zip(few, near, strict=True)]
    all_ = [replace(row, hd95_mm=1.0 if n else 90.0, nsd=0.5) for row, n in zip(all_, near, strict=True)]
    distance, surface = compare_runs({"all": all_, "few": few}, scores=("hd95_mm_mean", "nsd_mean"), samples=400)
    assert (distance.value, distance.reference_value, distance.difference) == (2.0, 1.0, 1.0)
    assert (distance.low, distance.high) == (1.0, 1.0)
    assert (distance.images, distance.patients, surface.images) == (2, 2, 8)
    assert surface.difference == 2 / 8 - 0.5
    assert markdown([distance]).endswith("| 2 |")
    (reversed_,) = compare_runs({"few": few, "all": all_}, scores=("hd95_mm_mean",), samples=400)
    assert (reversed_.difference, reversed_.images) == (-1.0, 2)
    few = [replace(row, hd95_mm=None) for row in few]
    (nothing,) = compare_runs({"all": all_, "few": few}, scores=("hd95_mm_median",), samples=400)
    assert nothing.images == 0 and math.isnan(nothing.difference) and math.isnan(nothing.p)


def test_p_by_hand() -> None:
    assert two_sided_p(np.array([1.0, 2.0, 3.0, -1.0])) == pytest.approx(2 * 2 / 5)
    assert two_sided_p(np.array([-1.0] * 99)) == pytest.approx(0.02)
    assert math.isnan(two_sided_p(np.array([np.nan])))


def test_p_counts_samples_at_zero_on_both_sides() -> None:
    """Of six defined samples three are at most 0 and five at least 0; undefined ones count for nothing."""
    differences = np.array([0.0, 0.0, -1.0, 1.0, 2.0, 3.0, np.nan])
    assert two_sided_p(differences) == two_sided_p(-differences) == 1.0
    assert two_sided_p(np.array([0.0] * 2 + [1.0] * 17)) == pytest.approx(2 * (2 + 1) / (19 + 1))
    assert two_sided_p(np.array([0.0] * 2 + [-1.0] * 17 + [np.nan] * 9)) == pytest.approx(2 * (2 + 1) / (19 + 1))


def test_interval_of_the_difference_by_hand() -> None:
    """Two patients, the difference 0 in one and 0.4 in the other: each is drawn alone in a quarter of the samples."""
    runs = {"a": _rows([5, 5]), "b": _rows([5, 9])}
    (entry,) = compare_runs(runs, scores=("recall_pooled",), samples=400)
    assert (entry.value, entry.reference_value) == (0.7, 0.5)
    assert (entry.difference, entry.low, entry.high) == pytest.approx((0.2, 0.0, 0.4))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    corrected = holm([0.02, float("nan"), 0.01])
    assert corrected[0] == pytest.approx(0.02)
    assert math.isnan(corrected[1])
    assert corrected[2] == pytest.approx(0.02)


def test_holm_is_per_score_over_the_runs() -> None:
    runs = {"a": _rows([5] * 9), "b": _rows([6] * 9), "c": _rows([7] * 9), "d": _rows([8] * 9)}
    entries = compare_runs(runs, scores=("recall_pooled", "dsc_pooled"), reference="b")
    assert [entry.run for entry in entries] == ["a", "a", "c", "c", "d", "d"]
    assert all(entry.p_holm == pytest.approx(3 * entry.p) for entry in entries)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"a": _rows([5])}, "two runs or more"),
        ({"a": _rows([5, 5]), "b": _rows([5])}, "not scored on the same images: 1 differ, first i1"),
        ({"a": _rows([5]), "b": _rows([5], lesion=20)}, "another truth in i0"),
    ],
)
def test_what_cannot_be_compared(runs: dict[str, list[Row]], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        compare_runs(runs)


def test_unknown_score() -> None:
    with pytest.raises(RequestError, match="no such score: accuracy; there are dsc_pooled"):
        compare_runs({"a": _rows([5]), "b": _rows([5])}, scores=("accuracy",))


def test_folders(tmp_path: Path) -> None:
    first, second = write_scores(tmp_path / "unet", _rows([5] * 4)), write_scores(tmp_path / "msanet", _rows([6] * 4))
    text = compare_folders([first, second], scores=("recall_pooled",))
    assert "4 test patients, 4 images" in text
    assert "not comparable" in text
    numbers = "0.600 | unet | 0.500 | +0.100 | +0.100 to +0.100 | < 0.001 | < 0.001 | 4 |"
    assert f"| recall_pooled | msanet | {numbers}" in text
    content = json.loads(compare_folders([first, second], style="json"))
    assert content["split"] == "test"
    assert content["comparisons"][0]["difference"] == pytest.approx(12 / 16 - 10 / 15)
    with pytest.raises(RequestError, match="different splits"):
        compare_folders([first, write_scores(tmp_path / "other", _rows([6] * 4), split="validation")])
    with pytest.raises(RequestError, match="named twice"):
        compare_folders([first, first])
    assert run_names([tmp_path / "a" / "test", tmp_path / "b" / "test"]) == ["a", "b"]
    mixed = [Path("a/x"), Path("a/y"), Path("b/x")]
    assert run_names(mixed) == [str(path) for path in mixed]
    old = write_scores(tmp_path / "old", _rows([5]))
    (old / "metrics.json").write_text('{"schema_version": 1}')
    with pytest.raises(RequestError, match="schema version 1, expected 3"):
        compare_folders([first, old])
    with pytest.raises(RequestError, match=r"no metrics\.json"):
        compare_folders([first, tmp_path])


def test_versions_of_the_data_set(tmp_path: Path) -> None:
    """Two versions are refused; a run that records none is compared as ever."""
    old, new = (
        write_scores(tmp_path / "old", _rows([5, 6]), dataset_version="1.0.0"),
        write_scores(tmp_path / "new", _rows([5]), dataset_version="1.0.1"),
    )
    silent = write_scores(tmp_path / "silent", _rows([5, 6]))
    with pytest.raises(RequestError, match=r"versions of the data set \(old on 1\.0\.0, new on 1\.0\.1\)"):
        compare_folders([silent, old, new])
    assert "| recall_pooled | silent | 0.550 | old | 0.550 |" in compare_folders(
        [old, silent], scores=("recall_pooled",)
    )
