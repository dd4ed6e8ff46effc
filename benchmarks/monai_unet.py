"""MONAI's BasicUNet beside our U-Net of the same widths: a supervised training step and inference, on the processor."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from monai.networks.nets import BasicUNet

from benchmarks.interleave import interleaved, median_ratio
from benchmarks.peak import use_cpu
from configs.peers import get_config
from msanet_jax.devices import compile_train_iteration, place_state
from msanet_jax.state import create_networks, create_state
from msanet_jax.steps import evaluation_step

SIDE_PX, BATCH = 128, 8


def measure(*, repeats: int, side_px: int = SIDE_PX, batch: int = BATCH, width: int | None = None) -> dict[str, Any]:
    """Ratios, our time over MONAI's (below 1 we are faster), and both parameter counts.

    Args:
      repeats: paired repetitions.
      side_px: rows and columns of the images.
      batch: images.
      width: channels at the finest level of both; None for the recipe's.
    """
    use_cpu()
    config = get_config("unet,cpu")
    config.data.image_size_px, config.train.batch_size = side_px, batch
    config.generator.width = config.generator.width if width is None else width
    networks = create_networks(config, steps_per_epoch=10)
    state = create_state(networks)
    width, depth = int(config.generator.width), config.generator.depth
    widths = [width * 2**level for level in range(depth + 1)]
    if depth != 4:
        raise ValueError("BasicUNet has four halvings")
    theirs = BasicUNet(
        spatial_dims=2, out_channels=1, features=(*widths, widths[0]), norm="batch", act="relu", dropout=0.0
    )
    theirs.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = {
        "our_parameters": sum(leaf.size for leaf in jax.tree.leaves(state.generator_params)),
        "monai_parameters": sum(parameter.numel() for parameter in theirs.parameters()),
    }
    random = np.random.default_rng(0)
    shape = (batch, side_px, side_px, 1)
    image, mask = random.normal(1.0, 0.3, shape).astype(np.float32), (random.random(shape) < 0.05).astype(np.float32)
    torch_image, torch_mask = (torch.tensor(array).permute(0, 3, 1, 2) for array in (image, mask))
    optimizer = torch.optim.AdamW(theirs.parameters(), fused=True)
    evaluate = jax.jit(functools.partial(evaluation_step, networks))
    iterate, current = compile_train_iteration(networks), [place_state(jax.tree.map(jnp.copy, state))]

    def train_jax() -> None:
        current[0], metrics = iterate(current[0], {"image": image, "mask": mask})
        jax.block_until_ready(metrics)

    def train_torch() -> None:
        logits = theirs.train()(torch_image)
        probability = torch.sigmoid(logits)
        dice = 1.0 - (2.0 * (probability * torch_mask).sum() + 1.0) / (probability.sum() + torch_mask.sum() + 1.0)
        (dice + torch.nn.functional.binary_cross_entropy_with_logits(logits, torch_mask)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def predict_torch() -> None:
        with torch.inference_mode():
            torch.sigmoid(theirs.eval()(torch_image))

    def predict_jax() -> None:
        jax.block_until_ready(evaluate(state, image))

    ratios = {}
    for kind, ours, rival in (("train", train_jax, train_torch), ("inference", predict_jax, predict_torch)):
        times = interleaved({"jax": ours, "monai": rival}, repeats)
        ratios[f"{kind}_ratio"] = median_ratio(times["jax"], times["monai"])
    return {"setting": f"U-Net, width {width}, {side_px} px, batch {batch}", **ratios, **parameters}
