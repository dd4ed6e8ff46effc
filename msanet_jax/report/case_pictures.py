"""Pictures of a run: cases and TensorBoard panels. Imports no network."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from data_pipeline.grid import GridSplit
from data_pipeline.normalize import black_level
from data_pipeline.pages.palette import FAINT, FALSE, HIT, INK, LINE, MISSED, TRUTH
from msanet_jax.evaluation.field_maps import marks
from msanet_jax.evaluation.lesions import touching
from msanet_jax.evaluation.results import Evaluation, ImageScores
from msanet_jax.report.figure import save

WINDOW = 3.0
"""Normalised uptake shown black; the square root of counts, body level at 1."""

CASES = 3
PANELS = 4


@dataclasses.dataclass(frozen=True)
class Case:
    """What a case's pictures show.

    Attributes:
      counts: `[rows, columns]` of the scan.
      ids: `[rows, columns]` lesion ids, 0 where there is no lesion.
      marked: `[rows, columns]` bool, the prediction.
      missed: `[rows, columns]` bool, the lesions that were not detected.
    """

    counts: np.ndarray
    ids: np.ndarray
    marked: np.ndarray
    missed: np.ndarray


def write_pictures(folder: Path, evaluation: Evaluation, split: GridSplit, footer: str) -> None:
    """Writes the worst, median and best cases by DSC, one PNG each, and overview.png with all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = _choose_cases(evaluation)
    cases = {number: _case(evaluation, split, number) for _, number in chosen}
    for label, number in chosen:
        figure = Figure(figsize=(9.6, 4.2), layout=_layout(4.2))
        axes = figure.subplots(1, 3)
        _draw_case(axes, cases[number])
        _legend(axes)
        _title(axes, evaluation.images[number], label)
        save(figure, folder / f"{label}.png", footer)
    height = 3.6 * len(chosen) + 0.5
    figure = Figure(figsize=(9.6, height), layout=_layout(height))
    grid = figure.subplots(len(chosen), 3, squeeze=False)
    for axes, (label, number) in zip(grid, chosen, strict=True):
        _draw_case(axes, cases[number])
        _title(axes, evaluation.images[number], label)
    _legend(grid[-1])
    save(figure, folder / "overview.png", footer)


def validation_panels(evaluation: Evaluation, split: GridSplit) -> dict[str, np.ndarray]:
    """TensorBoard panels `[n, rows, 3 columns, 1]`: scan, truth and probability side by side."""
    lesion_pixels = np.array([row.tp + row.fn for row in evaluation.images])
    panels = []
    for number in np.argsort(-lesion_pixels, kind="stable")[:PANELS].tolist():
        scan = np.clip(1.0 - split.images[number] / WINDOW, 0.0, 1.0)
        panels.append(np.concatenate([scan, split.masks[number], evaluation.probabilities[number]], axis=1))
    return {"validation": np.stack(panels)[..., None].astype(np.float32)}


def _choose_cases(evaluation: Evaluation) -> list[tuple[str, int]]:
    """(label, image number), worst to best; images without lesion and prediction have no DSC and are left out.

    Where no image has a DSC, the first ones.
    """
    scores = np.array([row.dsc for row in evaluation.images], float)
    order = [int(number) for number in np.argsort(scores, kind="stable") if not np.isnan(scores[number])]
    if not order:
        return [(f"undefined_{number + 1}", number) for number in range(min(CASES, len(scores)))]
    count = min(CASES, len(order) // 3) or min(1, len(order))
    middle = (len(order) - count) // 2
    groups = {"worst": order[:count], "median": order[middle : middle + count], "best": order[len(order) - count :]}
    return [(f"{name}_{place}", number) for name, numbers in groups.items() for place, number in enumerate(numbers, 1)]


def _case(evaluation: Evaluation, split: GridSplit, number: int) -> Case:
    ids, image = split.ids[number], evaluation.images[number].image_id
    missed = [row.lesion for row in evaluation.lesions if row.image_id == image and not row.detected]
    marked = marks(evaluation.probabilities[number], evaluation.summary["threshold"])
    return Case(split.counts[number], ids, marked, np.isin(ids, missed))


def _draw_case(axes: np.ndarray, case: Case) -> None:
    """Scan | truth | prediction, lesions black as nuclear medicine shows them, outlines as in the overlay of a scan."""
    black = math.sqrt(black_level(case.counts))
    for axis, name in zip(axes, ("scan", "truth", "prediction"), strict=True):
        axis.imshow(np.sqrt(case.counts), cmap="gray_r", vmin=0.0, vmax=black, interpolation="bicubic")
        axis.set_title(f"\n{name}", fontsize=10, color=FAINT)
        axis.set(xticks=[], yticks=[], autoscale_on=False)
        axis.spines[:].set_color(LINE)
    _outline(axes[1], case.ids > 0, TRUTH)
    hit = touching(case.ids, case.marked)
    for mask, colour in ((case.missed, MISSED), (case.marked & ~hit, FALSE), (hit, HIT)):
        _outline(axes[2], mask, colour)


def _legend(axes: np.ndarray) -> None:
    """Below the pictures, so that it covers nothing."""
    names = {"truth": TRUTH, "hit": HIT, "missed": MISSED, "false": FALSE}
    keys = [Line2D([], [], color=colour, label=name) for name, colour in names.items()]
    axes[1].legend(
        handles=keys,
        ncols=len(keys),
        fontsize=9,
        labelcolor=INK,
        frameon=False,
        handlelength=1.2,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.02),
    )


def _outline(axis: Axes, mask: np.ndarray, colour: str) -> None:
    """A frame of zeros closes the outlines that reach the edge."""
    if mask.any():
        rows, columns = (np.arange(-1, size + 1) for size in mask.shape)
        axis.contour(columns, rows, np.pad(mask, 1).astype(float), levels=[0.5], colors=[colour], linewidths=1.3)


def _layout(height: float) -> ConstrainedLayoutEngine:
    """With room above for the title, of which the layout knows nothing; `height` in inches."""
    return ConstrainedLayoutEngine(h_pad=0.1, rect=(0.0, 0.0, 1.0, 1.0 - 0.15 / height))


def _title(axes: np.ndarray, row: ImageScores, label: str) -> None:
    """Above the names of the pictures, which keep a line free for it; it may be longer than one of them is wide."""
    text = f"{label.replace('_', ' ')}: {row.image_id}   {_score(row, 3)}\n"
    axes[0].set_title(text, fontsize=10, color=INK, loc="left", parse_math=False).set_in_layout(False)


def _score(row: ImageScores, digits: int) -> str:
    """What a picture is headed by; DSC says nothing of a scan without lesion."""
    false = f"{row.false_positives} false"
    if not row.lesions:
        return f"no lesion, {false}" if row.fp else "no lesion, none marked"
    return f"DSC {row.dsc:.{digits}f}, {row.detected} of {row.lesions} found, {false}"
