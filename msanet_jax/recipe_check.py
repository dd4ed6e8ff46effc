"""Numbers of a recipe that cannot mean anything, refused before work begins."""

from __future__ import annotations

from ml_collections import ConfigDict

from data_pipeline.errors import RequestError

POSITIVE = (
    "data.image_size_px",
    "generator.width",
    "generator.max_width",
    "generator.depth",
    "generator.fold_px",
    "discriminator.width",
    "discriminator.depth",
    "discriminator.fold_px",
    "adversary.pyramid_levels",
    "adversary.discriminator_steps",
    "generator_optimizer.peak_learning_rate",
    "discriminator_optimizer.peak_learning_rate",
    "train.total_epochs",
    "train.log_every_steps",
    "train.validate_every_epochs",
    "train.checkpoint_every_epochs",
    "train.image_every_epochs",
    "train.keep_checkpoints",
    "evaluate.bootstrap_samples",
)
"""Keys whose value has to be above 0 wherever a recipe has them; batch sizes are `devices.check_batch_size`'s."""


def check_recipe(config: ConfigDict) -> None:
    """Refuses sizes, rates and intervals that are not positive.

    Raises:
      RequestError: names the key and its value.
    """
    for path in POSITIVE:
        section, key = path.split(".")
        value = config.get(section, {}).get(key)
        if value is not None and not value > 0:
            raise RequestError(f"config.{path}={value} must be above 0")
