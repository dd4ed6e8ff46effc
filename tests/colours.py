"""How well a colour can be read on another, by WCAG 2."""

from __future__ import annotations

import re

import numpy as np


def contrast(ink: str, paper: str) -> float:
    """From 1 to 21, of two colours as a browser gives them, `rgb(r, g, b)`."""
    light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance."""
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))
