"""What a check found: images with their problems, notes, and the figures of the whole set."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from data_pipeline.annotations.kinds import KINDS
from data_pipeline.annotations.lesion_shape import LesionShape
from data_pipeline.intake.checking import quality
from data_pipeline.intake.checking.duplicates import Landmarks
from data_pipeline.intake.folder import SPLITS_FILE, DataSetFolder
from data_pipeline.intake.manifest import MANIFEST, ImageEntry
from data_pipeline.scan import View

FEW_LESIONS = 10
"""In validation, below which the best step of a training is chosen by chance."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something to mend.

    Attributes:
      file: file of the data set.
      what: is wrong.
      remedy: what to do.
    """

    file: str
    what: str
    remedy: str

    def line(self) -> str:
        """One line for people."""
        return f"{self.file}: {self.what}; {self.remedy}"


@dataclasses.dataclass
class CheckedImage:
    """An image as the page shows it.

    Attributes:
      entry: of the manifest.
      split: `train`, `validation`, `test` or `left_out`.
      counts: total; 0 where the file cannot be read.
      shape: rows and columns.
      digest: of the counts.
      marks: landmarks, by which copies are found.
      measured: whether it has a lesion mask that can be used.
      lesions: as measured.
      noise: of the counts.
      outside: lesions of which no pixel lies in the thorax field.
      problems: of this image.
    """

    entry: ImageEntry
    split: str
    counts: int = 0
    shape: tuple[int, int] = (0, 0)
    digest: str = ""
    marks: dict[str, Landmarks] = dataclasses.field(default_factory=dict)
    measured: bool = False
    lesions: list[LesionShape] = dataclasses.field(default_factory=list)
    noise: quality.Noise = dataclasses.field(default_factory=lambda: quality.Noise(float("nan"), float("nan")))
    outside: int = 0
    problems: list[Problem] = dataclasses.field(default_factory=list)

    def tell(self, file: str, what: str, remedy: str) -> None:
        """Notes a problem."""
        self.problems.append(Problem(file, what, remedy))


@dataclasses.dataclass(frozen=True)
class Report:
    """Result of a check.

    Attributes:
      data_set: what was checked.
      fingerprint: figures, JSON-able.
      images: in the manifest's order.
      set_problems: that concern no single image.
      notes: assumptions to know of, not to mend.
    """

    data_set: DataSetFolder
    fingerprint: dict[str, Any]
    images: list[CheckedImage]
    set_problems: list[Problem]
    notes: list[str]

    @property
    def problems(self) -> list[Problem]:
        """All of them."""
        return [*self.set_problems, *(problem for image in self.images for problem in image.problems)]


def notes(data_set: DataSetFolder, images: Sequence[CheckedImage]) -> list[str]:
    """Assumptions to know of, not to mend."""
    lines = []

    def count(test: Callable[[CheckedImage], bool], words: str) -> None:
        if number := sum(map(test, images)):
            lines.append(f"{number} {words}")

    count(
        lambda image: image.entry.pixel_size_from == "assumed",
        f"scans state no pixel size: it is assumed from their width; lengths in mm rest on that (edit {MANIFEST})",
    )
    count(lambda image: image.entry.view == View.UNKNOWN, f"scans state no view (edit {MANIFEST})")
    count(lambda image: bool(image.entry.weak_boxes), "scans have boxes: weak labels, neither trained on nor scored")
    chosen_by = [len(image.lesions) for image in images if image.split == "validation" and image.measured]
    if chosen_by and sum(chosen_by) < FEW_LESIONS:
        remedy = f"move patients to it in {SPLITS_FILE}, or import with a larger --validation-share"
        lines.append(f"validation has {sum(chosen_by)} lesions: too few to choose the best step by; {remedy}")
    outside = sum(image.outside for image in images)
    if outside:
        lines.append(f"lesions outside the thorax field: {outside}; data.field=whole_body would see them")
    kinds = data_set.mask_kinds()
    partial = [kind for kind in KINDS if kind not in kinds and any(kind in entry.masks for entry in data_set.entries)]
    lines += [f"{kind}: not every image has this mask, so it cannot be data.scored_mask" for kind in partial]
    return lines


def fingerprint(data_set: DataSetFolder, images: Sequence[CheckedImage]) -> dict[str, Any]:
    """Figures of the whole set, JSON-able."""
    read = [image for image in images if image.digest]
    masked = [image for image in read if image.measured]
    by_split: dict[str, int] = defaultdict(int)
    for image in images:
        by_split[image.split] += 1
    sizes = [round(lesion.length_mm, 2) for image in masked for lesion in image.lesions]
    return {
        "origin": data_set.origin,
        "scans": len(images),
        "patients": len({image.entry.patient for image in images}),
        "patients_by_split": {split: len(patients) for split, patients in data_set.splits.items()},
        "scans_by_split": {split: by_split[split] for split in data_set.splits if split in by_split},
        "views": _tally(str(image.entry.view) for image in images),
        "matrices_px": _tally(f"{image.shape[0]} x {image.shape[1]}" for image in read),
        "pixel_sizes_mm": _tally(f"{np.sqrt(np.prod(image.entry.pixel_size_mm)):.2f}" for image in images),
        "pixel_size_from": _tally(image.entry.pixel_size_from for image in images),
        "counts_per_scan": _spread([image.counts for image in read]),
        "noise_variance_over_mean": _spread([image.noise.variance_over_mean for image in read]),
        "noise_correlation": _spread([image.noise.correlation for image in read]),
        "masks": {kind: sum(kind in image.entry.masks for image in images) for kind in KINDS},
        "scans_with_lesion_mask": len(masked),
        "scans_with_empty_mask": sum(not image.lesions for image in masked),
        "lesions": len(sizes),
        "lesion_size_mm": _spread(sizes),
        "lesions_outside_thorax": sum(image.outside for image in images),
        "image_labels": _tally(image.entry.image_label for image in images if image.entry.image_label),
    }


def _tally(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not (known := [value for value in values if not np.isnan(value)]):
        return None
    figures = {"low": min(known), "median": float(np.median(known)), "high": max(known)}
    return json.loads(json.dumps({name: round(float(value), 3) for name, value in figures.items()}))
