"""What a study of pairs can decide, by simulation, before anything is trained.

The model: the difference of a pair p in a patient j is d + a_p + b_j + e_pj, all three normal and independent. a_p is
the noise of two trainings, b_j the patient, e_pj what is the patient's in this pair alone. The estimate is the mean
over pairs and patients; its interval is that of the study, a crossed bootstrap at `bootstrap.expanded_level`.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from msanet_jax.evaluation.bootstrap import draws, expanded_level, interval


@dataclasses.dataclass(frozen=True)
class Design:
    """A study of pairs and the noise that is expected in it, in units of the score.

    Attributes:
      pairs: of trainings, at least 2.
      patients: that every training is scored on.
      training_sd: of one training's score around that of other trainings; a pair's difference has sqrt(2) times that.
      patient_sd: of a patient's contribution to a difference; N patients give the difference an sd of patient_sd /
        sqrt(N).
      residual_sd: of what a patient contributes in one pair alone.
    """

    pairs: int
    patients: int
    training_sd: float
    patient_sd: float
    residual_sd: float = 0.0


@dataclasses.dataclass(frozen=True)
class Operation:
    """How often the intervals of simulated studies do what they should.

    Attributes:
      power: share of the intervals that lie wholly on the side of zero where the true difference is.
      coverage: share of the intervals that hold the true difference.
    """

    power: float
    coverage: float


def operation(
    design: Design, *, difference: float, simulations: int = 2000, samples: int = 1000, seed: int = 0
) -> Operation:
    """Simulates studies with a true difference d > 0 and counts.

    Args:
      design: the study.
      difference: d.
      simulations: number of studies.
      samples: of the bootstrap in each.
      seed: of all draws.

    Example:
      >>> certain = Design(pairs=4, patients=50, training_sd=0.0, patient_sd=0.001)
      >>> operation(certain, difference=0.01, simulations=50, samples=200).power
      1.0
    """
    random = np.random.default_rng(seed)
    # Every study is resampled with the same draws, as the real one has a fixed seed.
    of_pairs, of_patients = (
        draws(things, samples=samples, random=random) / things for things in (design.pairs, design.patients)
    )
    level = expanded_level(design.pairs)
    excluded = covered = 0
    for _ in range(simulations):
        pairs = random.normal(scale=np.sqrt(2.0) * design.training_sd, size=design.pairs)
        patients = random.normal(scale=design.patient_sd, size=design.patients)
        estimates = difference + of_pairs @ pairs + of_patients @ patients
        if design.residual_sd:
            residual = random.normal(scale=design.residual_sd, size=(design.pairs, design.patients))
            estimates += np.einsum("sp,sp->s", of_pairs, of_patients @ residual.T)
        low, high = interval(estimates, level)
        excluded += low > 0.0
        covered += low <= difference <= high
    return Operation(power=excluded / simulations, coverage=covered / simulations)
