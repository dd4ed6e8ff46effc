"""An exported model built anew from its weights and recipes, for where its program cannot run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from data_pipeline.errors import RequestError
from data_pipeline.readers import budget
from msanet_jax.evaluation.field_maps import Probability
from msanet_jax.evaluation.results import Calibration
from msanet_jax.runs.model_file import read_member_recipe, read_weights
from msanet_jax.trained.ensemble import mean_probability
from msanet_jax.trained.restore import from_state
from msanet_jax.training.state import abstract_state, create_networks
from msanet_jax.training.weights import with_weights


def rebuilt(path: Path, calibrations: Sequence[Calibration | None]) -> Probability:
    """What the program computes, by this version's networks and this JAX's compiler.

    Args:
      path: a file that carries its weights.
      calibrations: of each of the networks that it is the mean of.

    Raises:
      RequestError: a member is missing or damaged, or its weights do not fit its recipe.
    """
    try:
        with budget.seconds():  # a recipe may ask for a network without end
            return mean_probability([_member(path, number, one) for number, one in enumerate(calibrations)])
    except RequestError:
        raise
    except (Exception, budget.OutOfTime) as error:  # keys of any type reach Flax
        raise RequestError(f"{path}: its recipe makes no network ({type(error).__name__}); export it again") from None


def _member(path: Path, member: int, calibration: Calibration | None) -> Probability:
    networks = create_networks(read_member_recipe(path, member), steps_per_epoch=1)
    empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract_state(networks))
    state = with_weights(empty, read_weights(path, member), source=str(path))
    return from_state(networks, state, {}, calibration=calibration).probability
