"""The labels of nnU-Net's dataset.json -> kinds of the numbers in its masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_pipeline.annotations.kinds import IGNORED, Labels, kind_of_label
from data_pipeline.annotations.words import Says, is_background, meaning
from data_pipeline.errors import RequestError
from data_pipeline.scan import ScanError

_IGNORE = "ignore"
"""nnU-Net's word for pixels that nobody annotated; it gets no kind, so that a mask with such pixels is refused."""


def nnunet_labels(document: Mapping[str, Any], told: Labels, source: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Kind of every number, and a note for each word that was taken for a lesion without saying so.

    Version 1 has `{"1": "lesion"}`, version 2 `{"lesion": 1}` and regions `{"spot": [1, 2], "lesion": [2]}`: of the
    regions that a number is in, the smallest says what it is. Any label but the background is a lesion, unless `told`
    or its own words say otherwise.

    Raises:
      RequestError: no label but the background, one that negates, numbers that are none, or two labels of one number.
    """
    regions: list[tuple[str, list[int]]] = []
    for label, value in document.items():
        numbered = str(label).strip().isdigit()
        word, numbers = (str(value), [label]) if numbered else (str(label), value)
        regions.append((word, _numbers(numbers, word, source)))
    if all(is_background(word) for word, _ in regions):
        raise RequestError(f"{source}: its labels name nothing but the background; add the lesion's number")
    kinds: dict[str, str] = {}
    notes: list[str] = []
    owner: dict[int, tuple[int, str]] = {}
    for word, numbers in sorted(regions, key=lambda region: len(region[1])):
        for number in numbers:
            size, other = owner.setdefault(number, (len(numbers), word))
            if size == len(numbers) and other != word:
                raise RequestError(f"{source}: {other!r} and {word!r} are both label {number}; give each its own")
    for number, (_, word) in sorted(owner.items()):
        kind, note = _kind(number, word, told, source)
        if kind:
            kinds[str(number)] = kind
        notes += [note] if note and note not in notes else []
    return kinds, tuple(notes)


def _numbers(value: Any, word: str, source: str) -> list[int]:
    try:
        return [int(str(number).strip()) for number in (value if isinstance(value, list | tuple) else [value])]
    except ValueError:
        raise RequestError(f"{source}: label {word!r} has no whole number; correct it") from None


def _kind(number: int, word: str, told: Labels, source: str) -> tuple[str, str]:
    """Kind of a number, empty where it has none, and what to say of it."""
    if number == 0 or is_background(word):
        if number == 0 and not is_background(word):
            raise RequestError(
                f"{source}: label 0 is {word!r}; nnU-Net's 0 is the background: number the others from 1"
            )
        return (IGNORED if number else ""), ""
    if word.strip().lower() == _IGNORE:
        return told.get(word, ""), ""
    if str(number) in told:
        return told[str(number)], ""
    try:
        return kind_of_label(word, told, source), ""
    except ScanError as error:
        if meaning(word) is Says.NEGATED:
            raise RequestError(str(error)) from None
    return (
        "lesions",
        f"label {number}, {word!r}, is taken for lesions; if it is none, say --labels {number}=benign (or =ignored)",
    )
