"""The adversarial objectives behind one interface: what the discriminator minimises and what the generator adds.

`multi_scale_l1`: the discriminator gives features of image-mask pairs and drives truth and prediction apart, the
generator brings them together (SegAN; MSA-Net over a pyramid). `patch_gan`: the discriminator gives a logit per patch
and tells truth from prediction, the generator wants its masks taken for truth (pix2pix).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from msanet_jax.networks.discriminator import stage_bounds
from msanet_jax.training.losses import cross_entropy_loss, lesion_weights, multi_scale_l1, pyramid
from msanet_jax.training.state import Networks, TrainState, Tree

Batch = Mapping[str, jax.Array]
"""image `[b, rows, columns, 1]` float32 normalised, mask `[b, rows, columns, 1]` float32 in {0, 1}; with
`loss.equal_lesions` also share, 1 / pixels of its lesion on lesion pixels."""


@dataclasses.dataclass(frozen=True)
class Game:
    """What an objective is computed from.

    Attributes:
      networks: modules and recipe.
      state: for the discriminator's running statistics.
      batch: image and truth.
      prediction: `[b, rows, columns, 1]` full-resolution probability.
      mapped: whether the call runs under the device axis.
    """

    networks: Networks
    state: TrainState
    batch: Batch
    prediction: jax.Array
    mapped: bool

    def discriminate(self, params: Tree, image: jax.Array, mask: jax.Array) -> tuple[tuple[jax.Array, ...], Tree]:
        """Output of the discriminator in training mode, and its new running statistics."""
        outputs, updates = self.networks.discriminator.apply(
            {"params": params, "batch_stats": self.state.discriminator_statistics},
            image,
            mask,
            mapped=self.mapped,
            mutable=["batch_stats"],
        )
        return outputs, updates.get("batch_stats", {})


class Adversary(Protocol):
    """An adversarial objective; both losses are minimised by their own network while the other stays."""

    def discriminator_loss(self, game: Game, params: Tree) -> tuple[jax.Array, Tree]:
        """Scalar loss of the discriminator with `params`, and its new running statistics."""

    def generator_loss(self, game: Game) -> jax.Array:
        """Scalar that the generator adds to its loss, before its weight."""


class MultiScaleL1:
    """The multi-scale L1 distance d >= 0 between truth and prediction over `adversary.pyramid_levels`.

    The discriminator minimises -d, the generator d (`losses.multi_scale_l1`, `losses.pyramid`). One level is SegAN's.
    With `adversary.stages=bounded` every stage is divided by the most it can be, so that d <= 1 and none dominates.

    Example:
      >>> from types import SimpleNamespace as Fake
      >>> critic = Fake(apply=lambda variables, image, mask, **options: ((mask,), {}))  # its feature is the mask
      >>> section = {"pyramid_levels": 1, "stages": "equal"}
      >>> networks = Fake(discriminator=critic, config=ConfigDict({"adversary": section}))
      >>> state = Fake(discriminator_params={}, discriminator_statistics={})
      >>> ones = jnp.ones((1, 2, 2, 1))
      >>> game = Game(networks, state, {"image": ones, "mask": ones}, prediction=0.25 * ones, mapped=False)
      >>> float(MultiScaleL1().generator_loss(game)), float(MultiScaleL1().discriminator_loss(game, {})[0])
      (0.75, -0.75)
    """

    def discriminator_loss(self, game: Game, params: Tree) -> tuple[jax.Array, Tree]:
        """Minus the distance."""
        distance, statistics = self._distance(game, params)
        return -distance, statistics

    def generator_loss(self, game: Game) -> jax.Array:
        """The distance."""
        return self._distance(game, game.state.discriminator_params)[0]

    def _distance(self, game: Game, params: Tree) -> tuple[jax.Array, Tree]:
        section = game.networks.config.adversary
        bounds = stage_bounds(game.networks.config.discriminator) if section.stages == "bounded" else None
        pixels = lesion_weights(game.batch["share"], mapped=game.mapped) if "share" in game.batch else None
        levels = section.pyramid_levels
        images = pyramid(game.batch["image"], levels)
        over_levels = jax.vmap(lambda image, mask: game.discriminate(params, image, mask))
        truth, statistics_truth = over_levels(images, pyramid(game.batch["mask"], levels))
        predicted, statistics_prediction = over_levels(images, pyramid(game.prediction, levels))
        statistics = jax.tree.map(
            lambda a, b: 0.5 * (a.mean(axis=0) + b.mean(axis=0)), statistics_truth, statistics_prediction
        )
        distance = multi_scale_l1(truth, predicted, bounds=bounds, pixels=pixels, mapped=game.mapped)
        return distance, jax.lax.stop_gradient(statistics)


class PatchGan:
    """Mean over patches of a loss against `true` = 1 or `false` = 0; Isola et al. 2017.

    `adversary.patch_loss` is `cross_entropy` (as published) or `least_squares`, (logit - label)^2 (Mao et al. 2017).

    Example:
      >>> from types import SimpleNamespace as Fake
      >>> critic = Fake(apply=lambda variables, image, mask, **options: ((mask,), {}))  # its logit is the mask
      >>> networks = Fake(discriminator=critic, config=ConfigDict({"adversary": {"patch_loss": "least_squares"}}))
      >>> state = Fake(discriminator_params={}, discriminator_statistics={})
      >>> ones = jnp.ones((1, 2, 2, 1))
      >>> game = Game(networks, state, {"image": ones, "mask": ones}, prediction=0.5 * ones, mapped=False)
      >>> float(PatchGan().generator_loss(game))  # (0.5 - 1)^2
      0.25
      >>> float(PatchGan().discriminator_loss(game, {})[0])  # ((1 - 1)^2 + (0.5 - 0)^2) / 2
      0.125
    """

    def discriminator_loss(self, game: Game, params: Tree) -> tuple[jax.Array, Tree]:
        """(loss(truth, 1) + loss(prediction, 0)) / 2."""
        image = game.batch["image"]
        (truth,), statistics_truth = game.discriminate(params, image, game.batch["mask"])
        (predicted,), statistics_prediction = game.discriminate(params, image, game.prediction)
        statistics = jax.tree.map(lambda a, b: 0.5 * (a + b), statistics_truth, statistics_prediction)
        loss = 0.5 * (self._loss(game, truth, 1.0) + self._loss(game, predicted, 0.0))
        return loss, jax.lax.stop_gradient(statistics)

    def generator_loss(self, game: Game) -> jax.Array:
        """loss(prediction, 1)."""
        (predicted,), _ = game.discriminate(game.state.discriminator_params, game.batch["image"], game.prediction)
        return self._loss(game, predicted, 1.0)

    def _loss(self, game: Game, logits: jax.Array, label: float) -> jax.Array:
        kind = game.networks.config.adversary.patch_loss
        if kind == "cross_entropy":
            return cross_entropy_loss(logits=logits, masks=jnp.full_like(logits, label))
        if kind == "least_squares":
            return jnp.square(logits - label).mean()
        raise RequestError(f"adversary.patch_loss is cross_entropy or least_squares, not {kind!r}")


ADVERSARIES: dict[str, Adversary] = {"multi_scale_l1": MultiScaleL1(), "patch_gan": PatchGan()}


def find_adversary(config: ConfigDict) -> Adversary:
    """The objective of the recipe.

    Raises:
      RequestError: there is none of that name.

    Example:
      >>> type(find_adversary(ConfigDict({"adversary": {"objective": "patch_gan"}}))).__name__
      'PatchGan'
    """
    name = config.adversary.objective
    if name not in ADVERSARIES:
        raise RequestError(f"adversary.objective={name!r} must be one of {', '.join(ADVERSARIES)}")
    return ADVERSARIES[name]
