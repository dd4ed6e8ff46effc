"""The twin's losses and alternating iteration: the numbers of `losses` and `steps` in `msanet_jax.training`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from ml_collections import ConfigDict
from torch import nn
from torch.nn import functional

from benchmarks.opponents.twin import Discriminator, Generator, pyramid

SMOOTH = 1.0
Network = Callable[..., list[torch.Tensor]]


def supervised_loss(logits: Sequence[torch.Tensor], mask: torch.Tensor, section: ConfigDict) -> torch.Tensor:
    """Dice + cross-entropy under deep supervision, logits finest first, `[b, 1, h / n, w / n]` with a whole n each."""
    raw = [section.deep_supervision_decay**level for level in range(len(logits))]
    total = torch.zeros(())
    for level, logit in enumerate(logits):
        truth = functional.avg_pool2d(mask, mask.shape[2] // logit.shape[2])
        probability = torch.sigmoid(logit)
        dice = 1.0 - (2.0 * (probability * truth).sum() + SMOOTH) / (probability.sum() + truth.sum() + SMOOTH)
        cross_entropy = functional.binary_cross_entropy_with_logits(logit, truth)
        total = total + raw[level] / sum(raw) * (
            section.dice_weight * dice + section.cross_entropy_weight * cross_entropy
        )
    return total


def multi_scale_l1(critic: Network, image: torch.Tensor, truth: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
    """Mean over stages of the mean absolute difference of features; all arguments are pyramids."""
    differences = [(a - b).abs().mean() for a, b in zip(critic(image, truth), critic(image, prediction), strict=True)]
    return torch.stack(differences).mean()


class Trainer:
    """Both networks, both optimisers and the moving average; `iterate` is one alternating iteration.

    Args:
      config: the recipe.
      generator: twin with its parameters.
      discriminator: twin with its parameters; None without an adversary.
      compiled: run both networks through torch.compile.
    """

    def __init__(
        self, config: ConfigDict, generator: Generator, discriminator: Discriminator | None, *, compiled: bool
    ) -> None:
        self.config = config
        self.generator, self.discriminator = generator.train(), discriminator
        self._forward: Network = torch.compile(generator) if compiled else generator
        self._average = [parameter.detach().clone() for parameter in generator.parameters()]
        self._generator_optimizer = _optimizer(generator, config.generator_optimizer)
        if discriminator is not None:
            self._critic: Network = torch.compile(discriminator) if compiled else discriminator
            self._discriminator_optimizer = _optimizer(discriminator, config.discriminator_optimizer)

    def iterate(self, image: torch.Tensor, mask: torch.Tensor) -> tuple[float, float]:
        """Discriminator step, generator step, moving average.

        Args:
          image: `[b, 1, h, w]` normalised.
          mask: `[b, 1, h, w]` in {0, 1}.

        Returns:
          Supervised loss and multi-scale L1 as the generator step sees them.
        """
        logits = self._forward(image)
        prediction = torch.sigmoid(logits[0])
        loss = supervised_loss(logits, mask, self.config.loss)
        distance = torch.zeros(())
        if self.discriminator is not None:
            levels = self.config.adversary.pyramid_levels
            images, truths = pyramid(image, levels), pyramid(mask, levels)
            self._discriminator_step(images, truths, pyramid(prediction.detach(), levels))
            distance = multi_scale_l1(self._critic, images, truths, pyramid(prediction, levels))
        parameters = list(self.generator.parameters())
        gradients = torch.autograd.grad(loss + self.config.adversary.weight * distance, parameters)
        _descend(parameters, gradients, self._generator_optimizer, self.config.generator_optimizer.clip_global_norm)
        with torch.no_grad():
            torch._foreach_lerp_(self._average, tuple(parameters), 1.0 - self.config.train.ema_decay)
        return loss.item(), distance.item()

    def _discriminator_step(self, images: torch.Tensor, truths: torch.Tensor, predictions: torch.Tensor) -> None:
        assert self.discriminator is not None
        parameters = list(self.discriminator.parameters())
        gradients = torch.autograd.grad(-multi_scale_l1(self._critic, images, truths, predictions), parameters)
        section = self.config.discriminator_optimizer
        _descend(parameters, gradients, self._discriminator_optimizer, section.clip_global_norm)


def _optimizer(module: nn.Module, section: ConfigDict) -> torch.optim.Optimizer:
    kernels = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in module.parameters() if parameter.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": section.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if section.name == "sgd":
        return torch.optim.SGD(module.parameters(), lr=section.peak_learning_rate)
    betas = (section.beta1, section.beta2)
    return torch.optim.AdamW(groups, lr=section.peak_learning_rate, betas=betas, fused=True)


def _descend(
    parameters: list[nn.Parameter],
    gradients: Sequence[torch.Tensor],
    optimizer: torch.optim.Optimizer,
    clip_global_norm: float,
) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    nn.utils.clip_grad_norm_(parameters, clip_global_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
