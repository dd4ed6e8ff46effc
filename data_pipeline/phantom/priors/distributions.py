"""Kinds of priors."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class LogNormal:
    """A log-normal variable, cut to [low, high]."""

    median: float
    spread: float  # geometric standard deviation
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Normal:
    """A normal variable, cut to [low, high]."""

    mean: float
    spread: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Uniform:
    """An even variable between two limits."""

    low: float
    high: float


Prior = LogNormal | Normal | Uniform
