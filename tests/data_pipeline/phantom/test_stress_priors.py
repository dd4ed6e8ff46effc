"""Stress sets: one thing out of range, all else the same patient."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from data_pipeline.phantom import simulate
from data_pipeline.phantom.imaging.acquisition import Faults
from data_pipeline.phantom.patients import draw_patient, redrawn
from data_pipeline.phantom.priors.distributions import Uniform
from data_pipeline.phantom.priors.lesions import LesionPriors
from data_pipeline.phantom.priors.patient import ACQUISITION, COUNTS_PER_VIEW, PHYSIOLOGY, POSTURE, SHAPE
from data_pipeline.phantom.priors.stress import STRESSES
from data_pipeline.phantom.simulate import AIR_COUNTS, COLUMNS, ROWS
from data_pipeline.phantom_bone import SHIFTED_SETS, SIZES, STRESS_SETS, planned_views
from data_pipeline.scan import View

USUAL = SHAPE | POSTURE | PHYSIOLOGY | ACQUISITION
RANGES = {name: (prior.low, prior.high) for name, prior in USUAL.items()} | {
    "counts_per_view": COUNTS_PER_VIEW,
    "scatter_scale": (1.0, 1.0),
}


@pytest.mark.parametrize("name", STRESSES)
def test_each_set_leaves_the_priors(name: str) -> None:
    stress = STRESSES[name]
    for attribute, prior in stress.patient.items():
        low, high = RANGES[attribute]
        assert prior.high < low or prior.low > high, attribute
    differs = bool(stress.patient) + (stress.lesions != LesionPriors())
    assert differs == (name != "reference")


def test_one_thing_is_drawn_anew() -> None:
    for index in range(3):
        usual = draw_patient(7, index)
        assert redrawn(usual, {}, seed=7, index=index) == usual
        changed = redrawn(usual, STRESSES["posture"].patient, seed=7, index=index)
        assert changed == redrawn(usual, STRESSES["posture"].patient, seed=7, index=index)
        right, left = changed.arm_abduction_deg
        assert min(right, left) >= 40.0 and max(right, left) <= 60.0 and right != left
        assert 13.0 <= changed.trunk_turn_deg <= 20.0
        differing = {
            field.name
            for field in dataclasses.fields(usual)
            if getattr(usual, field.name) != getattr(changed, field.name)
        }
        assert differing == set(STRESSES["posture"].patient)


def test_scatter_is_added_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Primary 1 everywhere, scatter 3 in the upper half: with scale 2 counts stand as 7 to 1."""
    primary, scatter = np.ones((ROWS, COLUMNS)), np.zeros((ROWS, COLUMNS))
    scatter[: ROWS // 2] = 3.0
    monkeypatch.setattr(simulate, "project", lambda activity, *_: (primary, scatter, np.ones(activity.shape)))
    patient = simulate.simulate_patient(
        seed=3,
        index=0,
        counts=4e6,
        views=(View.ANTERIOR,),
        faults=Faults(),
        field_of_view=(0, COLUMNS),
        changed={"scatter_scale": Uniform(2.0, 2.0)},
    )
    upper = patient.views[View.ANTERIOR].expected[: ROWS // 2]
    np.testing.assert_allclose(upper, 7 / 4 * 4e6 / (ROWS * COLUMNS) + AIR_COUNTS * 4 / 3, rtol=1e-5)


def test_sets_have_the_same_patients_and_views() -> None:
    plans = [planned_views(config) for config in STRESS_SETS if config.name != "stress_tuning"]
    assert len(plans) == len(STRESSES)
    assert all(plan == plans[0] for plan in plans)
    assert [len(views) for views in plans[0]["test"].values()] == [1] * 30
    (tuning,) = (config for config in STRESS_SETS if config.name == "stress_tuning")
    assert tuning.seed not in {config.seed for config in STRESS_SETS if config is not tuning}
    assert set(planned_views(tuning)) == {"validation"}


def test_shifted_patients_are_in_no_other_set() -> None:
    """Patients of a seed and a number are the same, so the seeds must differ."""
    shifted, unshifted = SHIFTED_SETS
    others = {config.seed for config in (*SIZES, *STRESS_SETS)}
    assert shifted.seed != unshifted.seed and not {shifted.seed, unshifted.seed} & others
    assert (shifted.stress, unshifted.stress) == ("uptake", "")
    assert {name: len(patients) for name, patients in planned_views(shifted).items()} == shifted.patients
