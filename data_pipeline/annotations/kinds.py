"""What an annotation means: its kind, how words and numbers name kinds, and what a reader of annotations returns."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Hashable, Mapping

import numpy as np
from scipy import ndimage

from data_pipeline.annotations.words import Says, meaning
from data_pipeline.phantom.truth import MASKS
from data_pipeline.readers import budget
from data_pipeline.reading import Finite
from data_pipeline.scan import ScanError

KINDS = MASKS
"""Kinds of masks, by the names that PhantomBone uses."""

MAX_LESIONS = 255
"""Instance ids are stored in 8 bits."""

IGNORED = "ignored"
"""What `--labels NAME=ignored` maps to."""

_EIGHT_CONNECTED = np.ones((3, 3), int)
Labels = Mapping[str, str]
"""Label of the user (a name, or a number as text) -> kind or `ignored`."""


@dataclasses.dataclass(frozen=True)
class WeakBox:
    """A box that is no mask: neither trained on nor scored.

    Attributes:
      kind: of its content.
      row, column: its corner, in pixels of the scan.
      rows, columns: its size.
    """

    kind: str
    row: Finite
    column: Finite
    rows: Finite
    columns: Finite


@dataclasses.dataclass(frozen=True)
class Annotation:
    """What one annotation says of one scan.

    Attributes:
      masks: by kind `[rows, columns]` uint8 instance ids, 0 where there is nothing. An empty mask says that there is
        nothing of that kind, which holds only if everything was understood.
      boxes: weak labels.
      warnings: what was assumed, one sentence each.
      used: shapes, segments or values that became a region or a box, or that the user told to ignore.
      not_understood: the first thing in it that was not, with what to do; empty if there is none.
    """

    masks: dict[str, np.ndarray]
    boxes: tuple[WeakBox, ...] = ()
    warnings: tuple[str, ...] = ()
    used: int = 0
    not_understood: str = ""

    def complete(self, source: str) -> Annotation:
        """Itself, if everything in it was understood.

        Raises:
          ScanError: names the first thing that was not. The rest may not be used either: a lesion would be lost.
        """
        if self.not_understood:
            raise ScanError(f"{source}: {self.not_understood}")
        return self


class Reading:
    """Regions and boxes of one scan as a reader finds them, and the first thing that it does not understand."""

    def __init__(self, shape: tuple[int, int], labels: Labels, source: str) -> None:
        self._shape, self._labels, self._source = shape, labels, source
        self._regions: dict[str, dict[Hashable, np.ndarray]] = {}
        self._boxes: list[WeakBox] = []
        self._used = 0
        self._not_understood = ""

    def puzzle(self, line: str) -> None:
        """Takes note of something that is not understood."""
        self._not_understood = self._not_understood or line

    def kind(self, label: str, what: str) -> str | None:
        """Kind that a label names; None where it is to be ignored, or is not understood."""
        budget.check_time()
        try:
            kind = kind_of_label(label, self._labels, what)
        except ScanError as error:
            self.puzzle(str(error))
            return None
        if kind == IGNORED:
            self._used += 1
            return None
        return kind

    def region(self, kind: str, key: Hashable, region: np.ndarray, what: str) -> None:
        """Adds a region `[rows, columns]` bool; regions of one key are one instance."""
        if not region.any():
            self.puzzle(f"{what} covers no pixel of the scan; draw it larger, or remove it")
            return
        found = self._regions.setdefault(kind, {})
        found[key] = found[key] | region if key in found else region
        check_number(len(found), self._source)
        self._used += 1

    def box(self, box: WeakBox) -> None:
        """Adds a weak label."""
        self._boxes.append(box)
        self._used += 1

    def annotation(self, *, lesions_seen: bool = True) -> Annotation:
        """The result; `lesions_seen` says whether no region of a lesion means that there is none."""
        regions = {kind: list(found.values()) for kind, found in self._regions.items()}
        if lesions_seen:
            regions.setdefault("lesions", [])
        masks = combine(regions, self._shape, self._source)
        return Annotation(masks, tuple(self._boxes), used=self._used, not_understood=self._not_understood)


def kind_of_label(label: str, labels: Labels, source: str) -> str:
    """Kind that a label names: by `labels`, else by its words (docs/your_data.md lists them).

    Raises:
      ScanError: not every word of the label is known, or they negate.
    """
    if (told := labels.get(label, labels.get(label.strip()))) is not None:
        return told
    if (name := re.sub(r"[\s-]+", "_", label.strip().lower())) in KINDS:
        return name
    said = meaning(label)
    if isinstance(said, str):
        return said
    why = "negates" if said is Says.NEGATED else "names neither lesions nor benign spots for certain"
    raise ScanError(f"{source}: label {label!r} {why}; say what it is: --labels {label}=lesions (or =benign, =ignored)")


def combine(masks: Mapping[str, list[np.ndarray]], shape: tuple[int, int], source: str) -> dict[str, np.ndarray]:
    """Regions `[rows, columns]` bool, one per instance, into id masks; where regions overlap the smaller one shows.

    Raises:
      ScanError: more than 255 instances of a kind.
    """
    combined = {}
    for kind, regions in masks.items():
        check_number(len(regions), source)
        ids = np.zeros(shape, np.uint8)
        for number in sorted(range(len(regions)), key=lambda index: -int(regions[index].sum())):
            ids[regions[number]] = number + 1
        combined[kind] = ids
    return combined


def connected_instances(region: np.ndarray, source: str) -> np.ndarray:
    """Instance ids of a binary mask: pixels that touch at an edge or a corner are one lesion.

    Raises:
      ScanError: more than 255.
    """
    ids, number = ndimage.label(region, _EIGHT_CONNECTED)
    check_number(number, source)
    return ids.astype(np.uint8)


def check_number(lesions: int, source: str) -> None:
    """Refuses more instances than ids.

    Raises:
      ScanError: as said.
    """
    if lesions > MAX_LESIONS:
        raise ScanError(
            f"{source}: {lesions} separate regions, at most {MAX_LESIONS} lesions can be kept; "
            "is it a mask? remove specks or merge regions"
        )
