"""A PyTorch twin of both networks: the opponent of our benchmarks and a second opinion.

Written as a PyTorch user would write it (NCHW modules, channels_last memory, fused AdamW), equal in every number:
with the parameters copied across, outputs, losses and gradients agree (tests/training/test_twin.py). Submodules carry
the names of the Flax modules, which is what lets `load_flax` copy by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ml_collections import ConfigDict
from torch import nn
from torch.nn import functional

SPECTRAL_SQUARINGS = 8
LEAK = 0.2


class ConvNorm(nn.Module):
    """Convolution, batch norm and, by default, ReLU."""

    def __init__(
        self, inputs: int, features: int, *, kernel: int = 3, dilation: int = 1, activate: bool = True
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(inputs, features, kernel, padding=padding, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm2d(features)
        self.activate = activate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[b, c, h, w]` -> `[b, features, h, w]`."""
        x = self.norm(self.conv(x))
        return functional.relu(x) if self.activate else x


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, features)
        self.second = ConvNorm(features, features, activate=False)
        self.shortcut = ConvNorm(inputs, features, kernel=1, activate=False) if inputs != features else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[b, c, h, w]` -> `[b, features, h, w]`."""
        return functional.relu(self.shortcut(x) + self.second(self.first(x)))


class MultiScaleModule(nn.Module):
    """Parallel dilated branches on equal shares of the channels, fused."""

    def __init__(self, channels: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.dilations = dilations
        self.share = max(1, channels // (len(dilations) + 1))
        total = self.share * (len(dilations) + 1)
        self.reduce = ConvNorm(channels, total, kernel=1)
        for dilation in dilations:
            branch = nn.Conv2d(self.share, self.share, 3, padding=dilation, dilation=dilation, bias=False)
            setattr(self, f"branch_{dilation}", branch)
        self.norm = nn.BatchNorm2d(total)
        self.fuse = ConvNorm(total, channels, kernel=1, activate=False)
        self.gain = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[b, c, h, w]` -> `[b, c, h, w]`."""
        first, *parts = torch.split(self.reduce(x), self.share, dim=1)
        branches = [getattr(self, f"branch_{d}")(part) for d, part in zip(self.dilations, parts, strict=True)]
        fused = self.fuse(functional.relu(self.norm(torch.cat([first, *branches], dim=1))))
        return functional.relu(x + self.gain[:, None, None] * fused)


class CascadeDilatedConvolution(nn.Module):
    """Dilated convolutions in cascade, all results summed with gains."""

    def __init__(self, channels: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.dilations = dilations
        for dilation in dilations:
            setattr(self, f"dilated_{dilation}", ConvNorm(channels, channels, dilation=dilation))
            setattr(self, f"gain_{dilation}", nn.Parameter(torch.zeros(channels)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[b, c, h, w]` -> `[b, c, h, w]`."""
        total, y = x, x
        for dilation in self.dilations:
            y = getattr(self, f"dilated_{dilation}")(y)
            total = total + getattr(self, f"gain_{dilation}")[:, None, None] * y
        return total


class Generator(nn.Module):
    """Twin of `msanet_jax.networks.generator.Generator` with batch norm; takes the recipe's `generator` section."""

    def __init__(self, section: ConfigDict) -> None:
        super().__init__()
        self.section = section
        self._cascade_level = min(section.cascade_level, section.depth)
        widths = [min(section.width * 2**level, section.max_width) for level in range(section.depth + 1)]
        channels = section.fold_px**2
        for level in range(section.depth):
            setattr(self, f"encoder_{level}", ResidualBlock(channels, widths[level]))
            channels = widths[level]
            if self._has_multi_scale(level):
                module = MultiScaleModule(channels, tuple(section.multi_scale_dilations))
                setattr(self, f"multi_scale_{level}", module)
            if level == self._cascade_level:
                self.cascade = self._make_cascade(channels)
        self.bottleneck = ResidualBlock(channels, widths[-1])
        channels = widths[-1]
        if section.depth == self._cascade_level:
            self.cascade = self._make_cascade(channels)
        self.dropout = nn.Dropout(section.dropout_rate)
        for level in reversed(range(section.depth)):
            setattr(self, f"reduce_{level}", nn.Conv2d(channels, widths[level], 1, bias=False))
            channels = widths[level]
            setattr(self, f"decoder_{level}", ResidualBlock(2 * channels, channels))
            if level == 0 or section.deep_supervision:
                logits = section.fold_px**2 if level == 0 else 1
                setattr(self, f"head_{level}", nn.Conv2d(channels, logits, 1))

    def _make_cascade(self, channels: int) -> nn.Module:
        dilations = tuple(self.section.cascade_dilations)
        return CascadeDilatedConvolution(channels, dilations) if dilations else nn.Identity()

    def _has_multi_scale(self, level: int) -> bool:
        return bool(self.section.multi_scale_dilations) and level >= self.section.multi_scale_from_level

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """`[b, 1, h, w]` -> logits of every head, finest first."""
        x, skips = functional.pixel_unshuffle(image, self.section.fold_px), []
        for level in range(self.section.depth):
            x = getattr(self, f"encoder_{level}")(x)
            if self._has_multi_scale(level):
                x = getattr(self, f"multi_scale_{level}")(x)
            if level == self._cascade_level:
                x = self.cascade(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.bottleneck(x)
        if self.section.depth == self._cascade_level:
            x = self.cascade(x)
        x = self.dropout(x)
        logits = []
        for level in reversed(range(self.section.depth)):
            x = _upsample2(getattr(self, f"reduce_{level}")(x))
            x = getattr(self, f"decoder_{level}")(torch.cat([x, skips[level]], dim=1))
            if level == 0 or self.section.deep_supervision:
                logits.append(getattr(self, f"head_{level}")(x))
        logits[-1] = functional.pixel_shuffle(logits[-1], self.section.fold_px)
        return logits[::-1]


class BoundedConv(nn.Module):
    """4 x 4 convolution with stride 2, kernel divided by its spectral norm where that exceeds 1."""

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features, inputs, 4, 4))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[b, c, h, w]` -> `[b, features, h / 2, w / 2]`."""
        kernel = self.weight / torch.clamp(_spectral_norm(self.weight), min=1.0)
        return functional.conv2d(x, kernel, self.bias, stride=2, padding=1)


class Discriminator(nn.Module):
    """Twin of `msanet_jax.networks.discriminator.Discriminator` with pairing `concat`, bound `spectral` and no norm."""

    def __init__(self, section: ConfigDict) -> None:
        super().__init__()
        if (section.pairing, section.bound, section.norm) != ("concat", "spectral", "none"):
            raise ValueError("the twin has pairing concat, bound spectral and norm none only")
        self.depth, self.fold_px = section.depth, section.fold_px
        channels = 2 * section.fold_px**2
        for stage in range(section.depth):
            features = section.width * 2**stage
            setattr(self, f"stage_{stage}", BoundedConv(channels, features))
            channels = features

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
        """Features of every stage of the pairs, both `[b, 1, h, w]`."""
        # PyTorch folds every channel by itself; ours keep the pair of a pixel together.
        folded = (functional.pixel_unshuffle(plane, self.fold_px) for plane in (image, mask))
        x = torch.stack(list(folded), dim=2).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        features = []
        for stage in range(self.depth):
            x = functional.leaky_relu(getattr(self, f"stage_{stage}")(x), LEAK)
            features.append(x)
        return features


def _spectral_norm(kernel: torch.Tensor) -> torch.Tensor:
    # Our kernels are [h, w, in, out] seen as [h w in, out]; the Gram matrix over outputs is the same in any row order.
    matrix = kernel.reshape(kernel.shape[0], -1)
    gram = matrix @ matrix.T
    power = gram.detach()
    for _ in range(SPECTRAL_SQUARINGS):
        power = power / (torch.trace(power) + 1e-12)
        power = power @ power
    vector = power @ torch.cos(torch.arange(1, gram.shape[0] + 1, dtype=kernel.dtype))
    vector = vector / (torch.linalg.norm(vector) + 1e-12)
    return torch.sqrt(vector @ gram @ vector + 1e-12)


def _upsample2(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def pyramid(x: torch.Tensor, levels: int) -> torch.Tensor:
    """`[b, 1, h, w]` -> `[levels b, 1, h, w]`: the levels stand behind each other in the batch."""
    stack = []
    for level in range(levels):
        low = functional.avg_pool2d(x, 2**level)
        for _ in range(level):
            low = _upsample2(low)
        stack.append(low)
    return torch.cat(stack)


def load_flax(module: nn.Module, params: Mapping[str, Any], statistics: Mapping[str, Any]) -> None:
    """Copies Flax parameters and running statistics into the module of the same structure; every entry is used once."""
    last = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    state = dict(module.state_dict())
    expected = {key for key in state if not key.endswith("num_batches_tracked")}
    for path, value in [*_leaves(params), *_leaves(statistics)]:
        parts = [part for number, part in enumerate(path[:-1]) if path[number - 1 : number] != (part,)]
        key = ".".join([*parts, last.get(path[-1], path[-1])])
        array = np.asarray(value)
        state[key] = torch.tensor(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array)
        expected.remove(key)
    if expected:
        raise ValueError(f"no Flax parameter for {sorted(expected)}")
    module.load_state_dict(state)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _leaves(tree: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found = []
    for name, value in tree.items():
        found += _leaves(value, (*prefix, name)) if isinstance(value, Mapping) else [((*prefix, name), value)]
    return found
