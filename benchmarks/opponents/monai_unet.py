"""MONAI's BasicUNet beside our U-Net of the same widths: a supervised training step and inference, on the processor."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import torch
from ml_collections import ConfigDict
from monai.networks.nets import BasicUNet

from benchmarks.both_sides import jax_steps, random_images
from benchmarks.interleave import interleaved, median_ratio
from benchmarks.opponents.process import Opponent, Steps
from configs.peers import get_config
from msanet_jax.training.state import create_networks, create_state

SIDE_PX, BATCH = 128, 8


def measure(*, repeats: int, side_px: int = SIDE_PX, batch: int = BATCH, width: int | None = None) -> dict[str, Any]:
    """Ratios, our time over MONAI's (below 1 we are faster), and both parameter counts.

    Args:
      repeats: paired repetitions.
      side_px: rows and columns of the images.
      batch: images.
      width: channels at the finest level of both; None for the recipe's.
    """
    config = get_config("unet,cpu")
    config.data.image_size_px, config.train.batch_size = side_px, batch
    config.generator.width = config.generator.width if width is None else width
    ratios = {}
    with Opponent(functools.partial(jax_steps, config)) as ours, Opponent(functools.partial(_steps, config)) as theirs:
        for kind in ("train", "inference"):
            turns = {"jax": functools.partial(ours.step, kind), "monai": functools.partial(theirs.step, kind)}
            times = interleaved(turns, repeats)
            ratios[f"{kind}_ratio"] = median_ratio(times["jax"], times["monai"])
    state = create_state(create_networks(config, steps_per_epoch=10))
    return {
        "setting": f"U-Net, width {config.generator.width}, {side_px} px, batch {batch}",
        **ratios,
        "our_parameters": sum(leaf.size for leaf in jax.tree.leaves(state.generator_params)),
        "monai_parameters": sum(parameter.numel() for parameter in _network(config).parameters()),
    }


def _network(config: ConfigDict) -> BasicUNet:
    width, depth = int(config.generator.width), config.generator.depth
    if depth != 4:
        raise ValueError("BasicUNet has four halvings")
    widths = [width * 2**level for level in range(depth + 1)]
    network = BasicUNet(
        spatial_dims=2, out_channels=1, features=(*widths, widths[0]), norm="batch", act="relu", dropout=0.0
    )
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _steps(config: ConfigDict) -> Steps:
    network = _network(config)
    image, mask = (torch.tensor(array).permute(0, 3, 1, 2) for array in random_images(config))
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)

    def train() -> None:
        logits = network.train()(image)
        probability = torch.sigmoid(logits)
        dice = 1.0 - (2.0 * (probability * mask).sum() + 1.0) / (probability.sum() + mask.sum() + 1.0)
        (dice + torch.nn.functional.binary_cross_entropy_with_logits(logits, mask)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def infer() -> np.ndarray:
        with torch.inference_mode():
            return torch.sigmoid(network.eval()(image)).numpy()

    return {"train": train, "inference": infer}
