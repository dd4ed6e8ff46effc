"""`python -m data_pipeline.card`: the numbers and histograms of the data-set card, from the built full set.

Only what stands between the markers of docs/phantom/card.md is replaced; the words around it are written by hand.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter
from scipy.spatial import distance

from data_pipeline import phantom
from data_pipeline.datasets import load_split
from data_pipeline.errors import ExitCode, RequestError
from data_pipeline.features import BoneScans
from data_pipeline.files import write_text
from data_pipeline.phantom.patients import draw_patient
from data_pipeline.phantom.priors import TruthRules
from data_pipeline.splits import SPLITS

BEGIN, END = "<!-- numbers: made by python -m data_pipeline.card -->", "<!-- end of numbers -->"
PATIENTS_SHOWN = 1000
SIZE_EDGES_MM = (0.0, 15.0, 30.0, np.inf)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 2 a request that cannot be met."""
    parser = argparse.ArgumentParser(prog="python -m data_pipeline.card", description=__doc__)
    parser.add_argument("--data_dir", default="data", help="where built sets are kept; a missing set is built first")
    parser.add_argument("--dataset", default="phantom_bone/full")
    parser.add_argument("--card", type=Path, default=Path("docs/phantom/card.md"))
    options = parser.parse_args(arguments)
    try:
        text = options.card.read_text(encoding="utf-8")
        if BEGIN not in text or END not in text:
            raise RequestError(f"{options.card}: the markers of the numbers are missing")
        splits = {split: load_split(options.dataset, split, options.data_dir) for split in SPLITS}
    except (RequestError, OSError) as error:
        print(f"card: {error}", file=sys.stderr)
        return ExitCode.REFUSED
    table = "\n".join(numbers(splits))
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    write_text(options.card, f"{before}{BEGIN}\n\n{table}\n\n{END}{after}")
    _draw_lesions(splits, options.card.with_name("lesions.png"))
    _draw_patients(options.card.with_name("patients.png"))
    print(f"{options.card} and its pictures written")
    return 0


def set_hash(splits: dict[str, BoneScans]) -> str:
    """SHA-256 over ids, counts and masks of all images, ordered by id."""
    digest = hashlib.sha256()
    for split in SPLITS:
        scans = splits[split]
        for number in np.argsort([row.image_id for row in scans.rows]):
            digest.update(f"{split} {scans.rows[number].image_id}".encode())
            digest.update(scans.counts[number].astype("<i4").tobytes())
            for name in sorted(scans.masks):
                digest.update(scans.masks[name][number].tobytes())
    return digest.hexdigest()


def pooled_dice(first: np.ndarray, second: np.ndarray) -> float:
    """Dice coefficient of two masks over all pixels of all images."""
    return 1.0 - float(distance.dice(first.ravel() > 0, second.ravel() > 0))


def numbers(splits: dict[str, BoneScans]) -> list[str]:
    """The lines between the markers."""
    rows = {split: [row for image in scans.rows for row in image.lesion_rows] for split, scans in splits.items()}
    every = [row for split in SPLITS for row in rows[split]]
    masks = {name: np.concatenate([splits[s].masks[name] for s in SPLITS]) for name in splits["train"].masks}
    lines = [
        f"Version {phantom.VERSION}, SHA-256 of ids, counts and masks `{set_hash(splits)}`.",
        "",
        "| split | patients | images | images without lesion | lesions seen |",
        "|---|---|---|---|---|",
    ]
    for split in SPLITS:
        scans = splits[split]
        empty = sum(not mask.any() for mask in scans.masks["lesions"])
        patients = len({image.patient for image in scans.rows})
        seen = sum(row["visible"] for row in rows[split])
        lines.append(f"| {split} | {patients} | {len(scans.rows)} | {empty} | {seen} |")
    lines += ["", "| per lesion and view, all splits | 5 % | median | 95 % |", "|---|---|---|---|"]
    for label, key in (
        ("size, mm", "size_mm"),
        ("contrast to the bone around", "contrast"),
        ("area of the scored mask, pixels", "area_px"),
        ("contrast-to-noise ratio", "cnr"),
    ):
        low, middle, high = np.quantile([row[key] for row in every], [0.05, 0.5, 0.95])
        lines.append(f"| {label} | {low:.1f} | {middle:.1f} | {high:.1f} |")
    hidden = np.mean([not row["visible"] for row in every])
    lines += [
        "",
        f"Hidden lesions (contrast-to-noise below {TruthRules().visible_cnr:g}): {100 * hidden:.0f} %. "
        f"Lesion pixels: {100 * (masks['lesions'] > 0).mean():.2f} % of all. "
        f"Benign pixels: {100 * (masks['benign'] > 0).mean():.2f} %.",
        "",
        "| DSC over all pixels of all images | |",
        "|---|---|",
        f"| reader 1 against reader 2 | {pooled_dice(masks['reader_1'], masks['reader_2']):.3f} |",
        f"| reader 1 against the scored mask | {pooled_dice(masks['reader_1'], masks['lesions']):.3f} |",
        f"| reader 2 against the scored mask | {pooled_dice(masks['reader_2'], masks['lesions']):.3f} |",
        f"| isocontour against the scored mask | {pooled_dice(masks['lesions_isocontour'], masks['lesions']):.3f} |",
        "",
        "| size of lesion | lesions | visible |",
        "|---|---|---|",
    ]
    for low, high in itertools.pairwise(SIZE_EDGES_MM):
        chosen = [row for row in every if low <= row["size_mm"] < high]
        label = f"{low:.0f} to {high:.0f} mm" if np.isfinite(high) else f"{low:.0f} mm and more"
        seen = 100 * np.mean([row["visible"] for row in chosen]) if chosen else float("nan")
        lines.append(f"| {label} | {len(chosen)} | {seen:.0f} % |")
    return lines


def _draw_lesions(splits: dict[str, BoneScans], path: Path) -> None:
    images = [image for split in SPLITS for image in splits[split].rows]
    rows = [row for image in images for row in image.lesion_rows]
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), layout="constrained")
    for axis, key, label, log in (
        (axes[0, 0], "size_mm", "size, mm", False),
        (axes[0, 1], "contrast", "contrast to bone around", True),
        (axes[0, 2], "cnr", "contrast-to-noise ratio", True),
        (axes[1, 0], "area_px", "area of scored mask, pixels", True),
    ):
        values = np.maximum([row[key] for row in rows], 0.1)
        bins = np.geomspace(values.min(), values.max(), 30) if log else np.linspace(0, values.max(), 30)
        axis.hist(values, bins=bins, color="0.4")
        axis.set(xlabel=label, ylabel="lesions", xscale="log" if log else "linear")
        if log:
            axis.xaxis.set_minor_formatter(NullFormatter())
    most = max(len(image.lesion_rows) for image in images)
    axes[1, 1].hist([len(image.lesion_rows) for image in images], bins=np.arange(most + 2) - 0.5, color="0.4")
    axes[1, 1].set(xlabel="lesions per image", ylabel="images")
    sites = [str(row["bone"]).split("_")[0] for row in rows]
    names = sorted(set(sites), key=sites.count)
    axes[1, 2].barh(names, [sites.count(name) for name in names], color="0.4")
    axes[1, 2].set(xlabel="lesions")
    figure.suptitle(f"PhantomBone {phantom.VERSION}, thorax images (simulated)")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _draw_patients(path: Path) -> None:
    patients = [draw_patient(0, index).as_dict() for index in range(PATIENTS_SHOWN)]
    panels = histogram_panels(patients)
    figure, axes = plt.subplots(7, 8, figsize=(18, 14), layout="constrained")
    for axis, (title, values) in zip(axes.flat, panels.items(), strict=False):
        if isinstance(values[0], str):
            names = sorted(set(values))
            axis.bar(names, [values.count(name) for name in names], color="0.4")
        else:
            axis.hist(values, bins=25, color="0.4")
        axis.set_title(title, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.set_yticks([])
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    figure.suptitle(f"{PATIENTS_SHOWN} virtual patients (simulated), every drawn parameter; mm, deg, ml as named")
    figure.savefig(path, dpi=70)
    plt.close(figure)


def histogram_panels(patients: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Title -> values of every parameter that varies; both sides (or both waves) of a pair go into one histogram."""
    panels: dict[str, list[Any]] = {}
    for key in patients[0]:
        values = [patient[key] for patient in patients]
        if isinstance(values[0], tuple):
            values = [float(part) for pair in values for part in pair]
        if len(set(values)) > 1:
            panels[key] = values
    return panels


if __name__ == "__main__":
    sys.exit(main())
