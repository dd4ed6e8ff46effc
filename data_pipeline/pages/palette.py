"""The colours of every page and picture: Okabe and Ito's palette, told apart with any colour vision."""

from __future__ import annotations

BLUE, ORANGE, GREEN, YELLOW, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7"
SKY, GREY = "#56B4E9", "#444444"

INK, FAINT, LINE = "#1c2126", "#5d666f", "#d9dee3"
"""Text, secondary text, rules and borders."""

HIT, MISSED, FALSE = GREEN, BLUE, ORANGE
"""Lesion pixels that were found, that were not, and pixels marked where no lesion is."""

TRUTH = PURPLE
"""Outline of a true lesion."""

LESION, FIELD = ORANGE, BLUE
"""Outlines of marks and the border of the thorax field on a scan."""

MASKS = {"lesions": LESION, "benign": GREEN, "reader_1": SKY, "reader_2": PURPLE}
"""Outlines of the masks of a data set, by kind."""
WEAK_BOX = YELLOW


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of `#rrggbb`, each from 0 to 255."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue
