"""A trained network as everything else sees it, whether it comes from checkpoints or from an exported file."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from data_pipeline.fields import field_shape
from data_pipeline.normalize import binning_factor
from msanet_jax.evaluation.field_maps import Network, Probability, calibrated, field_probability
from msanet_jax.evaluation.results import Calibration
from msanet_jax.runs.recipe import config_digest, field_of

if TYPE_CHECKING:  # an exported model needs neither Flax nor Optax
    from msanet_jax.training.state import Networks, TrainState


@dataclasses.dataclass(frozen=True)
class Model:
    """Counts of a field in, lesion probability on the field's grid out; binning and normalisation are inside.

    Attributes:
      probability: counts `[n, rows, columns]` of the field -> lesion probability of the same shape, float32 in [0, 1];
        calibrated where there is a calibration.
      field: what of a scan the model sees; its rows and columns are `fields.field_shape(field)`.
      image_size_px: columns of the network's grid.
      threshold: probability above which a pixel of the field is lesion.
      batch_size: fields in a call, by the recipe.
      provenance: JSON-able facts about where it comes from, `config_sha256` among them.
      config: the recipe; of several runs the first one's.
      calibration: that `probability` has; None for none, and for the mean of several, of which each has its own.
      networks: of a run, for exporting.
      state: of a run's best checkpoint, for exporting.
    """

    probability: Probability
    field: str
    image_size_px: int
    threshold: float
    batch_size: int
    provenance: dict[str, Any]
    config: ConfigDict = dataclasses.field(default_factory=ConfigDict)
    calibration: Calibration | None = None
    networks: Networks | None = None
    state: TrainState | None = None


def check_threshold(threshold: float) -> float:
    """The threshold, if it is a probability.

    Raises:
      RequestError: not between 0 and 1.
    """
    if not 0.0 < threshold < 1.0:
        raise RequestError(f"--threshold={threshold:g}: must lie between 0 and 1")
    return threshold


def from_network(
    network: Network,
    config: ConfigDict,
    provenance: dict[str, Any],
    *,
    threshold: float | None = None,
    calibration: Calibration | None = None,
) -> Model:
    """A model that bins, normalises and enlarges on the host (`field_probability`).

    Args:
      network: sees `data.image_size_px` columns.
      config: the recipe.
      provenance: JSON-able facts; the recipe's `config_sha256` is added.
      threshold: None for the recipe's.
      calibration: of the network's probabilities.

    Raises:
      RequestError: the recipe's image side does not divide the field's.
    """
    field, size = field_of(config), int(config.data.image_size_px)
    binning_factor(field_shape(field)[1], size)
    return Model(
        probability=calibrated(field_probability(network, size), calibration),
        field=field,
        image_size_px=size,
        threshold=float(config.evaluate.threshold) if threshold is None else threshold,
        batch_size=int(config.evaluate.batch_size),
        provenance={**provenance, "config_sha256": config_digest(config)},
        config=config,
        calibration=calibration,
    )


def with_flips(model: Model) -> Model:
    """Flip test-time augmentation: the mean of p(x) and of p(mirrored x) mirrored back, left-right as in training."""

    def probability(fields: np.ndarray) -> np.ndarray:
        mirrored = model.probability(np.ascontiguousarray(fields[..., ::-1]))
        mean: np.ndarray = 0.5 * (model.probability(fields) + mirrored[..., ::-1])
        return mean.astype(np.float32)

    return dataclasses.replace(model, probability=probability, provenance={**model.provenance, "flips": True})
