"""`python -m data_pipeline.phantom.validation.variety`: how varied the simulated patients are, beside one real scan.

Prints a table of figure, value and aim, and with `--picture` draws anterior views beside the real scan. `measures`
defines the figures. The aims are our choice, except for scatter (an own Monte Carlo) and the figures of the real scan.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from data_pipeline.errors import RequestError
from data_pipeline.phantom import VERSION
from data_pipeline.phantom.anatomy import build_anatomy
from data_pipeline.phantom.imaging.camera import CAMERAS, project, slab_sigmas_px
from data_pipeline.phantom.patients import draw_patient
from data_pipeline.phantom.simulate import SimulatedView, simulate_patient
from data_pipeline.phantom.skeleton import load_skeleton
from data_pipeline.phantom.validation.measures import (
    BANDS_MM,
    Spots,
    asymmetry,
    band_power,
    components_for,
    explained,
    nearest_distances,
    planar_contrasts,
    thorax_vector,
)
from data_pipeline.readers.example import packaged_scan
from data_pipeline.readers.formats.dicom import read_dicom
from data_pipeline.scan import Scan, View
from data_pipeline.terminal.progress import progress

SEED = 60
PATIENTS, NEWCOMERS, COMPONENTS = 60, 20, 40
SCATTER_DEPTHS_MM = (50.0, 100.0, 150.0)
SCATTER_RATIOS = (0.32, 0.62, 0.91)
SCATTER_WIDTHS_MM = (13.0, 23.0, 32.0)
TABLE_TOLERANCE = 0.15
DEPTHS_MM = {
    "lumbar spinous processes": (20.0, 40.0),
    "sacrum": (20.0, 45.0),
    "posterior iliac spines": (20.0, 50.0),
    "sternum": (8.0, 25.0),
}
"""Median depth under the skin of the part of a bone nearest to it, over patients: our reading of adult anatomy."""

BANDS_AIM = (0.6, 1.4)


@dataclasses.dataclass(frozen=True)
class Figure:
    """A row of the table: what was measured, as text, the aim, and whether it is met."""

    name: str
    value: str
    aim: str
    met: bool


def scatter_table() -> tuple[list[float], list[float]]:
    """Scatter-to-primary ratio and e-fold length, mm, of a point source at `SCATTER_DEPTHS_MM` in 22 cm of water."""
    slab_mm, pixel_mm, slabs = 10.0, 2.0, 22
    mu = np.full((slabs, 256, 256), 0.015)
    sigmas = slab_sigmas_px(CAMERAS["ge"], slabs=slabs, slab_mm=slab_mm, gap_mm=20.0, pixel_mm=pixel_mm)
    ratios, widths = [], []
    for depth in SCATTER_DEPTHS_MM:
        activity = np.zeros_like(mu)
        for slab in (int(depth / slab_mm) - 1, int(depth / slab_mm)):
            activity[slab, 128, 128] = 1e6
        primary, scatter, _ = (
            np.asarray(array, np.float64) for array in project(activity, mu, sigmas, slab_mm, pixel_mm)
        )
        profile = scatter.sum(axis=0)
        offset = (np.arange(256) - 128) * pixel_mm
        ratios.append(float(scatter.sum() / primary.sum()))
        widths.append(float(np.sqrt((profile * offset**2).sum() / profile.sum() / 2.0)))
    return ratios, widths


def depth_table(patients: int) -> dict[str, float]:
    """Median depth under the skin, mm, of the parts of `DEPTHS_MM`."""
    skeleton = load_skeleton()
    lumbar = ("lumbar_2", "lumbar_3", "lumbar_4")
    parts = dict(zip(DEPTHS_MM, (lumbar, ("sacrum",), ("hip",), ("sternum",)), strict=True))
    depths: dict[str, list[float]] = {name: [] for name in parts}
    for index in range(patients):
        patient = draw_patient(SEED, index)
        anatomy = build_anatomy(patient, skeleton, seed=SEED, index=index)
        row, column = np.round(anatomy.row).astype(int), np.round(anatomy.column).astype(int)
        inside = (row >= 0) & (row < 1024) & (column >= 0) & (column < 256)
        for name, prefixes in parts.items():
            chosen = np.flatnonzero(inside & skeleton.of(*prefixes))
            pixel = (row[chosen], column[chosen])
            if name == "sternum":
                depth = anatomy.points[chosen, 1] - anatomy.body.front[pixel]
            else:
                depth = anatomy.body.back[pixel] - anatomy.points[chosen, 1]
            depths[name].append(float(np.quantile(depth[np.isfinite(depth)], 0.02)))
    return {name: float(np.median(values)) for name, values in depths.items()}


def measure(real: Scan, patients: int = PATIENTS) -> list[Figure]:
    """The whole table; a second a patient."""
    views: list[SimulatedView] = []
    malignant, benign = list[float](), list[float]()
    for index in progress(range(patients + NEWCOMERS), title="simulating", unit="patient"):
        view = simulate_patient(seed=SEED, index=index, views=(View.ANTERIOR,)).views[View.ANTERIOR]
        views.append(view)
        malignant += planar_contrasts(view, view.lesions)
        benign += planar_contrasts(view, view.benign)
    spots = Spots(np.array(malignant), np.array(benign), len(views))
    vectors = np.stack([thorax_vector(view.scan) for view in views])
    return [
        *_variance_figures(vectors[:patients], vectors[patients:], thorax_vector(real)),
        *_spot_figures(spots),
        *_texture_figures(real, [view.scan for view in views]),
        *_depth_figures(min(patients, 24)),
        *_scatter_figures(),
    ]


def _variance_figures(vectors: np.ndarray, newcomers: np.ndarray, real: np.ndarray) -> list[Figure]:
    components = components_for(vectors, 0.90)
    count = min(COMPONENTS, len(vectors) - 1)
    theirs = explained(vectors, real, count)
    ours = float(np.median([explained(vectors, newcomer, count) for newcomer in newcomers]))
    among = nearest_distances(vectors, newcomers)
    apart = float(nearest_distances(vectors, real[None])[0])
    sides = np.array([asymmetry(vector) for vector in np.concatenate([vectors, newcomers])])
    side = asymmetry(real)
    low, high = float(sides.min()), float(sides.max())
    return [
        Figure("components for 90 % of variance", str(components), "more than 25", components > 25),
        Figure(f"real scan explained by {count} components", f"{theirs:.2f}", "at least 0.75", theirs >= 0.75),
        Figure(
            f"newcomer explained by {count} components", f"{ours:.2f}", "about the real scan's", ours - theirs < 0.1
        ),
        Figure(
            "distance of the real scan from its nearest neighbour",
            f"{apart:.3f}",
            f"at most {among.max():.3f}, the farthest newcomer (median {np.median(among):.3f})",
            apart <= float(among.max()),
        ),
        Figure(
            "left-right difference of the real scan",
            f"{side:.3f}",
            f"within {low:.3f} to {high:.3f} of the simulated",
            low <= side <= high,
        ),
    ]


def _spot_figures(spots: Spots) -> list[Figure]:
    auc = spots.auc()
    benign, malignant = (len(found) / spots.views for found in (spots.benign, spots.malignant))
    middle = np.median(spots.benign), np.median(spots.malignant)
    return [
        Figure("AUC by planar contrast, malignant over benign", f"{auc:.2f}", "0.40 to 0.60", 0.4 <= auc <= 0.6),
        Figure("visible benign spots per view", f"{benign:.1f}", "2.5 to 4.5", 2.5 <= benign <= 4.5),
        Figure("visible metastases per view", f"{malignant:.1f}", "1.4 to 5", 1.4 <= malignant <= 5.0),
        Figure(
            "median planar contrast, benign and malignant",
            f"{middle[0]:.2f}, {middle[1]:.2f}",
            "within 0.25 of each other",
            abs(middle[0] - middle[1]) < 0.25,
        ),
    ]


def _texture_figures(real: Scan, scans: list[Scan]) -> list[Figure]:
    theirs = band_power(real)
    ours = [band_power(scan) for scan in scans]
    figures = []
    for name in BANDS_MM:
        ratio = float(np.median([power[name] for power in ours])) / theirs[name]
        met = BANDS_AIM[0] <= ratio <= BANDS_AIM[1]
        figures.append(Figure(f"power at {name} mm over the real scan's", f"{ratio:.2f}", "0.6 to 1.4", met))
    return figures


def _depth_figures(patients: int) -> list[Figure]:
    figures = []
    for name, depth in depth_table(patients).items():
        low, high = DEPTHS_MM[name]
        figures.append(Figure(f"depth of {name}, mm", f"{depth:.0f}", f"{low:.0f} to {high:.0f}", low <= depth <= high))
    return figures


def _scatter_figures() -> list[Figure]:
    ratios, widths = scatter_table()
    figures = []
    for depth, ratio, width, aim, aim_width in zip(
        SCATTER_DEPTHS_MM, ratios, widths, SCATTER_RATIOS, SCATTER_WIDTHS_MM, strict=True
    ):
        at = f"at {depth / 10:.0f} cm"
        met = abs(ratio / aim - 1.0) <= TABLE_TOLERANCE
        figures.append(Figure(f"scatter to primary {at}", f"{ratio:.2f}", f"{aim:.2f}, 15 %", met))
        met = abs(width / aim_width - 1.0) <= TABLE_TOLERANCE
        figures.append(Figure(f"width of scatter {at}, mm", f"{width:.1f}", f"{aim_width:.0f}, 15 %", met))
    return figures


def draw_sheet(real: Scan, path: Path) -> None:
    """Anterior views beside the real scan, one grey scale."""
    images = [("real scan", real.counts)]
    for index in range(12):
        made = simulate_patient(seed=SEED, index=index, counts=3.6e6, views=(View.ANTERIOR,))
        images.append((f"simulated {index}", made.views[View.ANTERIOR].scan.counts))
    columns = 7
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.9 * columns, 7.0 * rows), layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (title, image) in zip(axes.flat, images, strict=False):
        axis.imshow(np.minimum(image, 130.0) ** 0.6, cmap="gray_r", interpolation="nearest")
        axis.set_title(title, fontsize=8)
    figure.suptitle(f"PhantomBone {VERSION}: anterior views, 3.6 M counts, one grey scale (simulated)", fontsize=10)
    figure.savefig(path, dpi=70)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 every aim met, 1 not, 2 a request that cannot be met."""
    parser = argparse.ArgumentParser(prog="python -m data_pipeline.phantom.validation.variety", description=__doc__)
    parser.add_argument("--patients", type=int, default=PATIENTS, help="simulated patients (default: %(default)s)")
    parser.add_argument("--picture", type=Path, help="draws a sheet of anterior views there")
    options = parser.parse_args(arguments)
    try:
        real = read_dicom(packaged_scan())[0]
        if options.patients < 2:
            raise RequestError(f"--patients={options.patients}: at least 2 are needed to tell how they differ")
        if options.picture:
            draw_sheet(real, options.picture)
        figures = measure(real, options.patients)
    except (RequestError, OSError) as error:
        print(f"variety: {error}", file=sys.stderr)
        return 2
    print(f"| PhantomBone {VERSION}, {options.patients} patients | now | aim | met |\n|---|---|---|---|")
    for figure in figures:
        print(f"| {figure.name} | {figure.value} | {figure.aim} | {'yes' if figure.met else '**no**'} |")
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
