"""A trained network as everything else sees it, whether it comes from checkpoints or from an exported file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from data_pipeline.fields import field_shape
from data_pipeline.normalize import bin_counts, binning_factor, normalize
from msanet_jax.runs.recipe import config_digest, field_of

if TYPE_CHECKING:  # an exported model needs neither Flax nor Optax
    from msanet_jax.training.state import Networks, TrainState


def _counts_only(images: np.ndarray) -> np.ndarray:
    raise RequestError("this model takes counts alone, not normalised images; score the run that it was made from")


@dataclasses.dataclass(frozen=True)
class Model:
    """Counts of a field in, lesion probability out; binning and normalisation are inside.

    Attributes:
      probability: counts `[n, rows, columns]` float32 of the field -> `[n, rows / f, columns / f]` float32 in [0, 1].
      field: what of a scan the model sees; its rows and columns are `fields.field_shape(field)`.
      image_size_px: columns of the network's grid, columns / f.
      threshold: probability above which a pixel is lesion, by the recipe.
      batch_size: fields in a call, by the recipe.
      provenance: JSON-able facts about where it comes from, `config_sha256` among them.
      config: the recipe; of several runs the first one's.
      network: what is inside `probability`, for scoring: normalised images `[n, rows / f, columns / f, 1]` float32 ->
        `[n, rows / f, columns / f]`; refuses where the model is an exported file.
      networks: of a run, for exporting.
      state: of a run's best checkpoint, for exporting.
    """

    probability: Callable[[np.ndarray], np.ndarray]
    field: str
    image_size_px: int
    threshold: float
    batch_size: int
    provenance: dict[str, Any]
    config: ConfigDict = dataclasses.field(default_factory=ConfigDict)
    network: Callable[[np.ndarray], np.ndarray] = _counts_only
    networks: Networks | None = None
    state: TrainState | None = None


def from_network(
    network: Callable[[np.ndarray], np.ndarray],
    config: ConfigDict,
    provenance: dict[str, Any],
    *,
    threshold: float | None = None,
) -> Model:
    """A model that bins and normalises on the host, then runs the network.

    Args:
      network: normalised images `[n, size, size, 1]` float32 -> probability `[n, size, size]`.
      config: the recipe.
      provenance: JSON-able facts; the recipe's `config_sha256` is added.
      threshold: None for the recipe's.

    Raises:
      RequestError: the recipe's image side does not divide the field's.
    """
    field, size = field_of(config), int(config.data.image_size_px)
    factor = binning_factor(field_shape(field)[1], size)

    def probability(fields: np.ndarray) -> np.ndarray:
        images = np.asarray(normalize(bin_counts(fields, factor, xp=np), xp=np), np.float32)
        return network(images[..., None])

    return Model(
        probability=probability,
        field=field,
        image_size_px=size,
        threshold=float(config.evaluate.threshold) if threshold is None else threshold,
        batch_size=int(config.evaluate.batch_size),
        provenance={**provenance, "config_sha256": config_digest(config)},
        config=config,
        network=network,
    )


def with_flips(model: Model) -> Model:
    """Flip test-time augmentation: the mean of p(x) and of p(mirrored x) mirrored back, left-right as in training."""

    def flipped(function: Callable[[np.ndarray], np.ndarray], columns: int) -> Callable[[np.ndarray], np.ndarray]:
        def mean(inputs: np.ndarray) -> np.ndarray:
            mirrored = function(np.ascontiguousarray(np.flip(inputs, columns)))
            return (0.5 * (function(inputs) + mirrored[..., ::-1])).astype(np.float32)

        return mean

    return dataclasses.replace(
        model,
        probability=flipped(model.probability, -1),
        network=flipped(model.network, -2),
        provenance={**model.provenance, "flips": True},
    )
