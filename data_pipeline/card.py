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
from data_pipeline.pages import render
from data_pipeline.phantom.patients import draw_patient
from data_pipeline.phantom.priors.lesions import TruthRules
from data_pipeline.reading import read_text
from data_pipeline.splits import SPLITS

BEGIN, END = "<!-- numbers: made by python -m data_pipeline.card -->", "<!-- end of numbers -->"
PATIENTS_SHOWN = 1000
_TEMPLATE = Path(__file__).with_name("templates") / "card_numbers.md.jinja"
SIZE_EDGES_MM = (0.0, 15.0, 30.0, np.inf)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 2 a request that cannot be met."""
    parser = argparse.ArgumentParser(prog="python -m data_pipeline.card", description=__doc__)
    parser.add_argument("--data_dir", default="data", help="where built sets are kept; a missing set is built first")
    parser.add_argument("--dataset", default="phantom_bone/full")
    parser.add_argument("--card", type=Path, default=Path("docs/phantom/card.md"))
    options = parser.parse_args(arguments)
    try:
        text = read_text(options.card, remedy="name the page with the card")
        if BEGIN not in text or END not in text:
            raise RequestError(f"{options.card}: the markers of the numbers are missing")
        splits = {split: load_split(options.dataset, split, options.data_dir) for split in SPLITS}
    except (RequestError, OSError) as error:
        print(f"card: {error}", file=sys.stderr)
        return ExitCode.REFUSED
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    write_text(options.card, f"{before}{BEGIN}\n\n{numbers(splits)}\n\n{END}{after}")
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


def numbers(splits: dict[str, BoneScans]) -> str:
    """The text between the markers."""
    images = {split: splits[split].rows for split in SPLITS}
    rows = {split: [row for image in images[split] for row in image.lesion_rows] for split in SPLITS}
    every = [row for split in SPLITS for row in rows[split]]
    masks = {name: np.concatenate([splits[s].masks[name] for s in SPLITS]) for name in splits["train"].masks}
    sizes = []
    for low, high in itertools.pairwise(SIZE_EDGES_MM):
        seen = [row.visible is True for row in every if row.size_mm is not None and low <= row.size_mm < high]
        sizes.append((low, high if np.isfinite(high) else None, len(seen), np.mean(seen) if seen else np.nan))
    pairs = {
        "reader 1 against reader 2": ("reader_1", "reader_2"),
        "reader 1 against the scored mask": ("reader_1", "lesions"),
        "reader 2 against the scored mask": ("reader_2", "lesions"),
        "isocontour against the scored mask": ("lesions_isocontour", "lesions"),
    }
    return render(
        _TEMPLATE,
        version=phantom.VERSION,
        digest=set_hash(splits),
        splits=[
            (
                split,
                len({image.patient for image in images[split]}),
                len(images[split]),
                sum(not mask.any() for mask in splits[split].masks["lesions"]),
                sum(row.visible is True for row in rows[split]),
            )
            for split in SPLITS
        ],
        quantiles={
            key: np.quantile([getattr(row, key) for row in every], [0.05, 0.5, 0.95]).tolist()
            for key in ("size_mm", "contrast", "area_px", "cnr")
        },
        visible_cnr=TruthRules().visible_cnr,
        hidden=np.mean([row.visible is False for row in every]),
        lesion_share=(masks["lesions"] > 0).mean(),
        benign_share=(masks["benign"] > 0).mean(),
        dice={label: pooled_dice(masks[one], masks[other]) for label, (one, other) in pairs.items()},
        sizes=sizes,
    ).rstrip("\n")


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
        values = np.maximum([getattr(row, key) for row in rows], 0.1)
        bins = np.geomspace(values.min(), values.max(), 30) if log else np.linspace(0, values.max(), 30)
        axis.hist(values, bins=bins, color="0.4")
        axis.set(xlabel=label, ylabel="lesions", xscale="log" if log else "linear")
        if log:
            axis.xaxis.set_minor_formatter(NullFormatter())
    most = max(len(image.lesion_rows) for image in images)
    axes[1, 1].hist([len(image.lesion_rows) for image in images], bins=np.arange(most + 2) - 0.5, color="0.4")
    axes[1, 1].set(xlabel="lesions per image", ylabel="images")
    sites = [str(row.bone).split("_")[0] for row in rows]
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
