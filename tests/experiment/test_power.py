"""Coverage and power of the intervals of studies of pairs, by simulation against closed forms."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from msanet_jax.experiment.power import Design, operation


@pytest.mark.parametrize(
    ("training_sd", "patient_sd", "residual_sd"),
    [(0.007, 0.068, 0.0), (0.0035, 0.068, 0.0), (0.007, 0.01, 0.0), (0.005, 0.05, 0.05)],
    ids=["both", "mostly patients", "mostly trainings", "patients within pairs"],
)
def test_intervals_cover_as_often_as_they_say(training_sd: float, patient_sd: float, residual_sd: float) -> None:
    design = Design(16, 300, training_sd, patient_sd, residual_sd)
    simulations = 1200 if residual_sd == 0.0 else 400
    found = operation(design, difference=0.01, simulations=simulations, samples=600)
    assert 0.93 <= found.coverage <= 0.97


def test_power_is_that_of_a_t_test_where_patients_do_not_vary() -> None:
    """With trainings alone the interval is Student's: power from the noncentral t distribution."""
    pairs, training_sd, difference = 16, 0.007, 0.0075
    found = operation(Design(pairs, 20, training_sd, 0.0), difference=difference, simulations=1500, samples=1500)
    shift = difference / (math.sqrt(2.0) * training_sd) * math.sqrt(pairs)
    exact = stats.nct.sf(stats.t.ppf(0.975, pairs - 1), pairs - 1, shift)
    assert found.power == pytest.approx(exact, abs=0.03)


def test_power_is_that_of_a_z_test_where_trainings_do_not_vary() -> None:
    """Many patients and hardly any noise of training: the interval of 16 pairs is as wide as 2.2 standard errors."""
    patients, patient_sd, difference = 300, 0.068, 0.012
    found = operation(Design(16, patients, 0.0, patient_sd), difference=difference, simulations=1500, samples=1500)
    exact = stats.norm.sf(2.2014 - difference / (patient_sd / math.sqrt(patients)))
    assert found.power == pytest.approx(exact, abs=0.03)
