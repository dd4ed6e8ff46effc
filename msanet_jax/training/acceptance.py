"""What is checked before a run begins: the recipe, the devices, the networks; the same on every process."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from data_pipeline.errors import RequestError
from data_pipeline.fields import field_shape
from data_pipeline.grid import GridSplit
from data_pipeline.normalize import binning_factor
from msanet_jax.networks.catalogue import BASELINES
from msanet_jax.runs.recipe import check_recipe, field_of, flatten
from msanet_jax.runtime.versions import IN_RECORDS, versions
from msanet_jax.training.devices import check_batch_size
from msanet_jax.training.state import create_networks, create_state
from msanet_jax.training.steps import train_iteration


def run_facts(config: ConfigDict) -> dict[str, str]:
    """What has to be the same on every process: the recipe and the versions."""
    recipe = {f"config.{key}": str(value) for key, value in flatten(config).items() if key != "variants"}
    installed = versions((*IN_RECORDS, "jaxlib", "optax", "tensorflow-datasets"))
    return recipe | {f"version of {name}": str(value) for name, value in installed.items()}


def data_facts(splits: Mapping[str, GridSplit]) -> dict[str, str]:
    """A digest of images and masks of every split; of one on disk, whose files have their own, of the images' names."""
    facts = {}
    for name, split in splits.items():
        digest = hashlib.sha256()
        for pixels in (split.counts, split.ids):
            digest.update(pixels.tobytes() if isinstance(pixels, np.ndarray) else b"")
        digest.update(" ".join(row.image_id for row in split.rows).encode())
        facts[f"images of {name}"] = f"{len(split.rows)} ({digest.hexdigest()[:12]})"
    return facts


def check_run(config: ConfigDict) -> None:
    """Refuses a recipe that cannot be trained and scored here, without data and without computing anything.

    Raises:
      RequestError: a key, a batch size or the networks; one line.
    """
    check_recipe(config)
    check_batch_size(config.train.batch_size, "config.train.batch_size")
    check_batch_size(config.evaluate.batch_size, "config.evaluate.batch_size")
    binning_factor(field_shape(field_of(config))[1], config.data.image_size_px)
    if config.model not in BASELINES:
        _check_networks(config)


def _check_networks(config: ConfigDict) -> None:
    """Traces one iteration; what does not fit shows in the shapes."""
    networks = create_networks(config, steps_per_epoch=1)
    rows, columns = field_shape(field_of(config))
    side = config.data.image_size_px
    image = jax.ShapeDtypeStruct((1, rows * side // columns, side, 1), jnp.float32)
    try:
        state = jax.eval_shape(lambda: create_state(networks))
        iteration = functools.partial(train_iteration, networks, mapped=False)
        jax.eval_shape(iteration, state, {"image": image, "mask": image})
    except RequestError:
        raise
    except (
        ValueError,
        TypeError,
        ArithmeticError,
        IndexError,
    ) as error:  # flax's and jax's own
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise RequestError(
            f"the networks of this recipe cannot be built for images of {image.shape[1]} x {side} pixels ({reason}); "
            "see the sections generator, discriminator and adversary in docs/configs.md"
        ) from error
