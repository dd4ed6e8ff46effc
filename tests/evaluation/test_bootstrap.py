"""Bootstrap over patients and the statistics it works on."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy.stats import bootstrap, t

from msanet_jax.evaluation.bootstrap import (
    CrossedWeights,
    PatientWeights,
    bootstrap_weights,
    expanded_level,
    expanded_p,
    interval,
    mean,
    median,
    ratio,
    sampled,
    value,
)

PATIENTS = ["a", "a", "b", "c"]


def test_patients_are_drawn_with_all_their_images() -> None:
    weights = bootstrap_weights(PATIENTS, samples=300, seed=0)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()  # as many patients as there are
    assert weights[:, 2].mean() == pytest.approx(1.0, abs=0.15)
    np.testing.assert_array_equal(weights, bootstrap_weights(PATIENTS, samples=300, seed=0))
    assert (weights != bootstrap_weights(PATIENTS, samples=300, seed=1)).any()


def test_weights_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap_weights(PATIENTS, samples=50, seed=4)
    monkeypatch.setattr("msanet_jax.evaluation.bootstrap.CELLS", 7 * len(PATIENTS))
    parts = list(PatientWeights(PATIENTS, samples=50, seed=4))
    assert [len(part) for part in parts] == [7] * 7 + [1]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_crossed_weights_are_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trainings on three patients: a row's weight is its training's times its patient's, whatever the parts."""
    trainings, patients = ["0", "0", "0", "1", "1", "1"], ["c", "a", "b", "b", "a", "c"]
    crossed = CrossedWeights(trainings, patients, samples=400, seed=3)
    (whole,) = list(crossed)
    assert crossed.trainings == 2
    assert (whole.sum(axis=1) == 6).all()
    first, second = whole[:, :3], whole[:, [5, 4, 3]]  # both in the order c, a, b
    for one, other in ((first, second), (second, first)):
        drawn = other.sum(axis=1) / 3  # how often that training was drawn
        assert set(drawn) == {0.0, 1.0, 2.0}
        np.testing.assert_array_equal(one * drawn[:, None], other * (2 - drawn)[:, None])
    assert np.ptp(whole[:, 0]) > 2  # some sample has both often
    monkeypatch.setattr("msanet_jax.evaluation.bootstrap.CELLS", 7 * 6)
    parts = list(crossed)
    assert [len(part) for part in parts[:2]] == [7, 7]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(sampled(lambda part: part.sum(axis=1), crossed), np.full(400, 6.0))


def test_expanded_interval_is_students() -> None:
    """Bootstrap values of a mean are about normal with sd s sqrt((n - 1) / n) / sqrt(n)."""
    values = np.random.default_rng(5).normal(size=6)
    centre, spread = values.mean(), values.std() / np.sqrt(6)
    normal = centre + spread * np.random.default_rng(6).normal(size=1_000_000)
    exact = t.interval(0.95, 5, loc=centre, scale=values.std(ddof=1) / np.sqrt(6))
    assert interval(normal, expanded_level(6)) == pytest.approx(exact, abs=0.005 * np.ptp(exact))
    # Twice the share beyond 2 standard deviations of the bootstrap is, for 6 trainings, the p of t = 2 sqrt(5 / 6).
    assert expanded_p(0.0455003, 6) == pytest.approx(2 * t.sf(2 * np.sqrt(5 / 6), 5), abs=1e-6)
    assert np.isnan(expanded_p(float("nan"), 6))


def test_weights_are_repetitions() -> None:
    """A statistic with weights is NumPy's on the repeated values."""
    random = np.random.default_rng(0)
    values = random.normal(size=9)
    values[4] = np.nan
    weights = random.integers(0, 4, size=(50, 9))
    repeated = [np.repeat(values, row) for row in weights]
    np.testing.assert_allclose(mean(weights, values), [np.nanmean(row) for row in repeated])
    np.testing.assert_allclose(median(weights, values), [np.nanmedian(row) for row in repeated])
    below = np.arange(9.0)
    np.testing.assert_allclose(ratio(weights, np.ones(9), below), [row.sum() / (row * below).sum() for row in weights])


def test_undefined_values() -> None:
    nothing = np.full(3, np.nan)
    weights = np.array([[1, 1, 1], [0, 0, 3]])
    assert np.isnan(mean(weights, nothing)).all()
    assert np.isnan(median(weights, nothing)).all()
    half = median(weights, np.array([1.0, 2.0, np.nan]))
    assert half[0] == 1.5
    assert np.isnan(half[1])
    assert np.isnan(ratio(weights, np.ones(3), np.zeros(3))).all()
    assert np.isnan(interval(nothing)).all()
    assert interval(np.array([np.nan, 2.0, 2.0])) == (2.0, 2.0)
    assert value(functools.partial(median, values=np.array([1.0, 5.0, np.nan])), 3) == 3.0


def test_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).exponential(size=60)
    weights = bootstrap_weights([str(n) for n in range(60)], samples=4000, seed=2)
    expected = bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=3).confidence_interval
    assert interval(mean(weights, values)) == pytest.approx(expected, abs=0.02)


def test_bootstrap_covers_the_mean() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(100):
        weights = bootstrap_weights([str(n) for n in range(40)], samples=300, seed=trial)
        low, high = interval(mean(weights, random.normal(size=40)))
        covered += low <= 0.0 <= high
    assert 87 <= covered <= 99


def test_ends_are_the_outer_fortieths() -> None:
    """Of 0, 1, ... 1000 from 25 to 975, in whatever order; one that is undefined changes nothing."""
    values = np.random.default_rng(0).permutation(1001).astype(float)
    assert interval(values) == pytest.approx((25.0, 975.0))
    assert interval(np.append(values, np.nan)) == pytest.approx((25.0, 975.0))


def test_two_patients_are_both_drawn_half_of_the_time() -> None:
    """Ten images of a and one of b: a quarter of the samples is a twice, a quarter b twice."""
    weights = bootstrap_weights(["a"] * 10 + ["b"], samples=4000, seed=0)
    assert weights.shape == (4000, 11)
    for times in range(3):
        assert (weights[:, 0] == times).mean() == pytest.approx((1 / 4, 1 / 2, 1 / 4)[times], abs=0.03)
    assert (weights[:, 0] + weights[:, 10] == 2).all()
    found = ratio(weights, np.array([1.0] * 10 + [0.0]), np.ones(11))
    assert interval(found) == (0.0, 1.0)


def test_median_of_an_even_number_is_between_the_middle_ones() -> None:
    weights = np.array([[1, 1, 1, 1], [1, 0, 0, 3], [2, 2, 0, 0], [1, 1, 1, 0]])
    assert median(weights, np.array([4.0, 1.0, 2.0, 8.0])).tolist() == [3.0, 8.0, 2.5, 2.0]
