"""What an annotation means: its kind, how words and numbers name kinds, and what a reader of annotations returns."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from data_pipeline.phantom.truth import MASKS
from data_pipeline.scan import ScanError

KINDS = MASKS
"""Kinds of masks, by the names that PhantomBone uses."""

MAX_LESIONS = 255
"""Instance ids are stored in 8 bits."""

IGNORED = "ignored"
"""What `--labels NAME=ignored` maps to."""

_EIGHT_CONNECTED = np.ones((3, 3), int)
_WORDS = {
    "lesions": "lesion lesions metastasis metastases metastatic met mets malignant abnormal tumor tumour bm "
    "mask masks seg segmentation label labels annotation annotations gt truth groundtruth",
    "benign": "benign normal physiological physiologic degenerative",
}
_KIND_OF_WORD = {word: kind for kind, words in _WORDS.items() for word in words.split()}

Labels = Mapping[str, str]
"""Label of the user (a name, or a number as text) -> kind or `ignored`."""


@dataclasses.dataclass(frozen=True)
class Annotation:
    """Instance masks of one scan.

    Attributes:
      masks: by kind `[rows, columns]` uint8 instance ids, 0 where there is nothing.
      boxes: weak labels, `{"kind", "row", "column", "rows", "columns"}` in pixels.
      warnings: what was left out or assumed, one sentence each.
    """

    masks: dict[str, np.ndarray]
    boxes: tuple[dict[str, object], ...] = ()
    warnings: tuple[str, ...] = ()


def kind_of_label(label: str, labels: Labels, source: str) -> str:
    """Kind that a label names: by `labels`, else by its words (docs/your_data.md lists them).

    Raises:
      ScanError: nothing is known of the label.
    """
    if label in labels:
        return labels[label]
    if (name := re.sub(r"[\s-]+", "_", label.strip().lower())) in KINDS:
        return name
    found = {_KIND_OF_WORD[word] for word in re.findall(r"[a-z]+", label.lower()) if word in _KIND_OF_WORD}
    if len(found) == 1:
        return found.pop()
    raise ScanError(
        f"{source}: label {label!r} names neither lesions nor benign spots; say what it is: --labels {label}=lesions"
    )


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
