"""What prediction needs of a trained network, whether it comes from checkpoints or from an exported file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.fields import field_shape
from data_pipeline.normalize import bin_counts, binning_factor, normalize
from msanet_jax.runs.recipe import config_digest, field_of


class Predictor(Protocol):
    """A generator with its recipe; `checkpoints.Predictor` is one."""

    @property
    def probability(self) -> Callable[[np.ndarray], np.ndarray]:
        """Images `[n, size, size, 1]` float32 normalised -> `[n, size, size]` in [0, 1]."""

    @property
    def config(self) -> ConfigDict:
        """The run's recipe."""

    @property
    def step(self) -> int:
        """Step of the checkpoint."""

    @property
    def provenance(self) -> dict[str, Any]:
        """JSON-able facts about the checkpoint."""


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
    """

    probability: Callable[[np.ndarray], np.ndarray]
    field: str
    image_size_px: int
    threshold: float
    batch_size: int
    provenance: dict[str, Any]


def from_predictor(predictor: Predictor, *, threshold: float | None = None) -> Model:
    """A model that bins and normalises on the host, then runs the predictor.

    Args:
      predictor: the generator.
      threshold: None for the recipe's.

    Raises:
      RequestError: the recipe's image side does not divide the field's.
    """
    config = predictor.config
    field, size = field_of(config), int(config.data.image_size_px)
    factor = binning_factor(field_shape(field)[1], size)

    def probability(fields: np.ndarray) -> np.ndarray:
        images = np.asarray(normalize(bin_counts(fields, factor, xp=np), xp=np), np.float32)
        return predictor.probability(images[..., None])

    return Model(
        probability=probability,
        field=field,
        image_size_px=size,
        threshold=float(config.evaluate.threshold) if threshold is None else threshold,
        batch_size=int(config.evaluate.batch_size),
        provenance={**predictor.provenance, "step": predictor.step, "config_sha256": config_digest(config)},
    )


def with_flips(model: Model) -> Model:
    """Flip test-time augmentation: the mean of p(x) and of p(mirrored x) mirrored back, left-right as in training."""

    def probability(fields: np.ndarray) -> np.ndarray:
        mirrored = model.probability(np.ascontiguousarray(fields[..., ::-1]))
        return (0.5 * (model.probability(fields) + mirrored[..., ::-1])).astype(np.float32)

    return dataclasses.replace(model, probability=probability, provenance={**model.provenance, "flips": True})
