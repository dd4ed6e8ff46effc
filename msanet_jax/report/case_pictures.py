"""Pictures of a run: cases and TensorBoard panels. Imports no network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from data_pipeline.grid import GridSplit
from data_pipeline.pages.palette import FALSE, HIT, MISSED, TRUTH, rgb
from msanet_jax.evaluation.field_maps import marks
from msanet_jax.evaluation.results import Evaluation, ImageScores
from msanet_jax.report.figure import save

WINDOW = 3.0
"""Normalised uptake shown black; the square root of counts, body level at 1."""

FILL = 0.6
"""Opacity of marks: the uptake below stays visible."""

CASES = 3
PANELS = 4


def write_pictures(folder: Path, evaluation: Evaluation, split: GridSplit, footer: str) -> None:
    """Writes the worst, median and best cases by DSC, one PNG each, and overview.png with all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = _choose_cases(evaluation)
    threshold = evaluation.summary["threshold"]
    cases = {
        number: (split.images[number], split.masks[number], marks(evaluation.probabilities[number], threshold))
        for _, number in chosen
    }
    for label, number in chosen:
        figure = Figure(figsize=(9.6, 3.9), layout="constrained")
        axes = figure.subplots(1, 3)
        _draw_case(axes, *cases[number])
        _legend(axes)
        _title(figure, evaluation.images[number], label)
        save(figure, folder / f"{label}.png", footer)
    figure = Figure(figsize=(9.6, 3.25 * len(chosen) + 0.5), layout="constrained")
    grid = figure.subplots(len(chosen), 3, squeeze=False)
    for axes, (label, number) in zip(grid, chosen, strict=True):
        _draw_case(axes, *cases[number])
        axes[0].set_ylabel(f"{label.replace('_', ' ')}\n{_score(evaluation.images[number], 2)}", fontsize=9)
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


def _draw_case(axes: np.ndarray, uptake: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> None:
    """Scan | truth | prediction, lesions black as nuclear medicine shows them."""
    for axis, name in zip(axes, ("scan", "truth", "prediction"), strict=True):
        axis.imshow(uptake, cmap="gray_r", vmin=0.0, vmax=WINDOW, interpolation="nearest")
        axis.set_title(name, fontsize=9)
        axis.set(xticks=[], yticks=[])
    _outline(axes[1], truth, TRUTH)
    colours = np.zeros((*truth.shape, 4), np.float32)
    for where, colour in ((truth & prediction, HIT), (prediction & ~truth, FALSE)):
        colours[where] = (*(value / 255 for value in rgb(colour)), FILL)
    axes[2].imshow(colours, interpolation="nearest")
    # An outline leaves the uptake to be seen that the network passed over.
    _outline(axes[2], truth & ~prediction, MISSED)


def _legend(axes: np.ndarray) -> None:
    """Below the pictures, so that it covers nothing."""
    keys = [
        Patch(facecolor="none", edgecolor=TRUTH, label="truth"),
        Patch(facecolor=HIT, alpha=FILL, label="hit"),
        Patch(facecolor="none", edgecolor=MISSED, label="missed"),
        Patch(facecolor=FALSE, alpha=FILL, label="false"),
    ]
    axes[1].legend(
        handles=keys, ncols=len(keys), fontsize=9, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.02)
    )


def _outline(axis: Axes, mask: np.ndarray, colour: str) -> None:
    if mask.any():
        axis.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=1.0)


def _title(figure: Figure, row: ImageScores, label: str) -> None:
    figure.suptitle(f"{label.replace('_', ' ')}: {row.image_id}   {_score(row, 3)}", fontsize=10)


def _score(row: ImageScores, digits: int) -> str:
    """What a picture is headed by; DSC says nothing of a scan without lesion."""
    false = f"{row.false_positives} false"
    if not row.lesions:
        return f"no lesion, {false}" if row.fp else "no lesion, none marked"
    return f"DSC {row.dsc:.{digits}f}, {row.detected} of {row.lesions} found, {false}"
