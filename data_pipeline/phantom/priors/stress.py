"""Populations that no training sees: each differs from the usual one in one thing, which lies outside its priors.

A patient of a stress set is the patient of the same number in `reference`, with that one thing drawn anew. So a
difference between two sets comes from it alone. All ranges are our choice: beyond the limits of the priors, within
what a clinic may meet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from data_pipeline.phantom.priors.distributions import Prior, Uniform
from data_pipeline.phantom.priors.lesions import BENIGN_RATES, LesionPriors


@dataclasses.dataclass(frozen=True)
class Stress:
    """A shifted population.

    Attributes:
      about: what differs, for people.
      patient: attributes of a patient that are drawn from these priors instead; of pairs each side by itself.
      lesions: metastases and benign spots.
    """

    about: str
    patient: Mapping[str, Prior] = dataclasses.field(default_factory=dict)
    lesions: LesionPriors = dataclasses.field(default_factory=LesionPriors)


STRESSES: Mapping[str, Stress] = {
    "reference": Stress("nothing: new patients of the usual priors"),
    "blur": Stress(
        "camera: the patient is 110 to 150 mm from the detector",
        {"gap_anterior_mm": Uniform(110.0, 150.0), "gap_posterior_mm": Uniform(110.0, 150.0)},
    ),
    "pixels": Stress("camera: pixels of 2.9 to 3.4 mm", {"pixel_mm": Uniform(2.9, 3.4)}),
    "scatter": Stress("camera: 1.7 to 2.2 times as much scatter", {"scatter_scale": Uniform(1.7, 2.2)}),
    "counts": Stress("camera: 0.35 to 0.7 M counts a view", {"counts_per_view": Uniform(0.35e6, 0.7e6)}),
    "posture": Stress(
        "arms 40 to 60 degrees away, trunk and neck turned",
        {
            "arm_abduction_deg": Uniform(40.0, 60.0),
            "trunk_turn_deg": Uniform(13.0, 20.0),
            "neck_turn_deg": Uniform(30.0, 45.0),
        },
    ),
    "body": Stress("BMI 41 to 46, round back", {"bmi": Uniform(41.0, 46.0), "kyphosis_mm": Uniform(52.0, 65.0)}),
    "uptake": Stress(
        "healthy bone takes up very unevenly", {"uptake_spread": Uniform(1.7, 2.1), "texture": Uniform(0.3, 0.4)}
    ),
    "benign": Stress(
        "three times as many benign findings",
        lesions=LesionPriors(benign_rates={kind: 3.0 * rate for kind, rate in BENIGN_RATES.items()}),
    ),
    "lesions": Stress(
        "most lesions cold, with a cold centre, or a whole vertebra",
        lesions=LesionPriors(
            lytic_probability=0.3,
            cold_centre_probability=0.9,
            cold_centre_min_mm=15.0,
            whole_vertebra_probability=0.6,
        ),
    ),
    "young": Stress("16 to 25 years", {"age_years": Uniform(16.0, 25.0)}),
}
"""By name; `reference` is what the others are compared with."""
