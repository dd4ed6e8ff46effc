"""Poisson counts by the inverse distribution, against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import poisson

from data_pipeline.phantom.imaging.counting import SUMMED_BELOW, poisson_quantile


def test_equals_the_quantile_of_scipy() -> None:
    random = np.random.default_rng(0)
    expected = np.concatenate([random.uniform(0.01, 3.0, 4000), random.uniform(3.0, 600.0, 4000), [1e3, 2e4, 499.999]])
    assert (expected > SUMMED_BELOW).sum() > 100
    probability = random.random(expected.shape)
    ours = poisson_quantile(probability.reshape(-1, 1), expected.reshape(-1, 1))
    assert ours.shape == (len(expected), 1) and ours.dtype == np.int32
    np.testing.assert_array_equal(ours[:, 0], poisson.ppf(probability, expected))


def test_by_hand() -> None:
    # P(K = 0) = exp(-ln 2) = 1/2, P(K <= 1) = (1 + ln 2) / 2 = 0.8466.
    expected = np.full(4, np.log(2.0))
    np.testing.assert_array_equal(poisson_quantile(np.array([0.0, 0.49, 0.51, 0.85]), expected), [0, 0, 1, 2])
    np.testing.assert_array_equal(poisson_quantile(np.array([0.999]), np.zeros(1)), [0])


def test_the_highest_numbers_end() -> None:
    highest = np.full(3, 1.0 - 2.0**-53)
    counts = poisson_quantile(highest, np.array([1e-9, 10.0, 499.0]))
    np.testing.assert_array_equal(counts, poisson.ppf(1.0 - 1e-12, [1e-9, 10.0, 499.0]))


def test_a_pixel_depends_on_its_own_expectation_only() -> None:
    random = np.random.default_rng(1)
    expected = random.uniform(0.0, 60.0, 1000)
    changed = expected.copy()
    changed[10] += 40.0
    probability = random.random(1000)
    differs = poisson_quantile(probability, expected) != poisson_quantile(probability, changed)
    assert np.flatnonzero(differs).tolist() == [10]


@pytest.mark.parametrize("mean", [0.2, 9.0, 300.0])
def test_mean_and_variance(mean: float) -> None:
    counts = poisson_quantile(np.random.default_rng(2).random(100_000), np.full(100_000, mean))
    assert counts.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / 1e5))
    assert counts.var() == pytest.approx(mean, rel=0.03)
