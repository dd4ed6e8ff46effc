"""`python -m data_pipeline.phantom.validation`: the simulator beside closed forms and one real scan.

Writes validation.md with its pictures. The real scan is `JPEG-LL.dcm` of the PyPI package pydicom-data (a GE camera,
anterior view, lossless, a single patient without known lesions). Regions on it are boxes placed by hand; on simulated
scans the same regions follow from the bones. One patient fixes no population: the bands below are wide on purpose.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib

from data_pipeline.readers.example import packaged_scan

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter

from data_pipeline.errors import ExitCode, RequestError
from data_pipeline.files import write_text
from data_pipeline.pages import render
from data_pipeline.phantom import VERSION
from data_pipeline.phantom.imaging.camera import CAMERAS, SCATTER_PER_MM, project, slab_sigmas_px
from data_pipeline.phantom.validation.regions import REAL_BOXES, REAL_ROWS, REAL_THIGH, Person, regions, thigh
from data_pipeline.readers.formats.dicom import read_dicom
from data_pipeline.scan import View
from data_pipeline.terminal.progress import progress

_TEMPLATE = Path(__file__).with_name("templates") / "validation.md.jinja"
PATIENTS = 16
ROI_FACTOR = 2.0
"""Band of a region's median ratio: within this factor of the real patient's."""

SHARE_BAND = {"head": 0.03, "trunk and arms": 0.08, "legs": 0.08}
BACKGROUND_FACTOR = 1.5
PROFILE_CORRELATION_MIN = 0.6
MONTE_CARLO_SCATTER, SCATTER_TOLERANCE = 0.62, 0.15
"""Scatter to primary at 10 cm in water; `variety` holds other depths and the width."""

FWHM_BAND_MM = (7.0, 7.6)
NOISE_BAND = (0.97, 1.03)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 every figure within its band, 1 not, 2 a request that cannot be met."""
    parser = argparse.ArgumentParser(prog="python -m data_pipeline.phantom.validation", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/phantom"), help="folder of validation.md")
    parser.add_argument("--scan", type=Path, help="JPEG-LL.dcm (default: from the package pydicom-data)")
    options = parser.parse_args(arguments)
    try:
        real = read_dicom(options.scan or packaged_scan())[0].counts
        options.out.mkdir(parents=True, exist_ok=True)
    except (RequestError, OSError) as error:
        print(f"validate: {error}", file=sys.stderr)
        return ExitCode.REFUSED
    people = [Person(index) for index in progress(range(PATIENTS), title="simulating", unit="patient")]
    rows = figures(real, people)
    _draw_scans(real, people, options.out / "validation_scans.png")
    _draw_profiles(real, people, options.out / "validation_profiles.png")
    write_text(options.out / "validation.md", page(rows))
    missed = [row.figure for row in rows if not row.within]
    print(f"{options.out / 'validation.md'}: {len(rows) - len(missed)} of {len(rows)} figures within their bands")
    if missed:
        print(f"outside: {', '.join(missed)}", file=sys.stderr)
    return ExitCode.SOME_FAILED if missed else ExitCode.DONE


@dataclasses.dataclass(frozen=True)
class Row:
    """A figure of the page: what it is of the real scan (or expected), what of simulated ones, and the band."""

    figure: str
    real: str
    simulated: str
    band: str
    within: bool


def figures(real: np.ndarray, people: list[Person]) -> list[Row]:
    """The page's table.

    Args:
      real: counts of the real scan, `[1024, 256]`.
      people: simulated patients.
    """
    return [
        *_camera_rows(),
        _noise_row(people),
        *_share_rows(real, people),
        *_region_rows(real, people),
        _background_row(real, people),
        _profile_row(real, people),
    ]


def _camera_rows() -> list[Row]:
    rows: list[Row] = []
    for name, camera in CAMERAS.items():
        pixel, slabs = 1.0, 1
        activity = np.zeros((slabs, 128, 128), np.float32)
        activity[0, 64, 64] = 1e6
        sigmas = slab_sigmas_px(camera, slabs=slabs, slab_mm=1.0, gap_mm=99.5, pixel_mm=pixel)
        image = np.asarray(project(activity, np.zeros_like(activity), sigmas, 1.0, pixel)[0])
        profile, offset = image.sum(axis=0), np.arange(128) - 64
        width = 2.3548 * np.sqrt((profile * offset**2).sum() / profile.sum())
        good = FWHM_BAND_MM[0] <= width <= FWHM_BAND_MM[1] and abs(width / float(camera.fwhm_mm(100.0)) - 1) < 0.03
        formula = f"{float(camera.fwhm_mm(100.0)):.2f} (formula)"
        rows.append(Row(f"FWHM at 10 cm, {name}, mm", formula, f"{width:.2f}", "7.0 to 7.6, formula 3 %", good))
    ratio = SCATTER_PER_MM * 100.0
    good = abs(ratio / MONTE_CARLO_SCATTER - 1.0) <= SCATTER_TOLERANCE
    expected = f"{MONTE_CARLO_SCATTER:.2f} (Monte Carlo)"
    return [*rows, Row("scatter to primary at 10 cm", expected, f"{ratio:.2f}", "15 %", good)]


def _noise_row(people: list[Person]) -> Row:
    ratios = []
    for person in people:
        view = person.made[View.ANTERIOR]
        bright = view.expected > 5
        ratios.append(float(((view.scan.counts - view.expected)[bright] ** 2 / view.expected[bright]).mean()))
    mean = float(np.mean(ratios))
    real = "0.93 abdomen, 1.01 thigh (detrended)"
    within = NOISE_BAND[0] <= mean <= NOISE_BAND[1]
    return Row("noise variance over mean", real, f"{mean:.3f}", "0.97 to 1.03", within)


def _shares(image: np.ndarray, rows: dict[str, int]) -> dict[str, float]:
    by_row, total = image.sum(axis=1), image.sum()
    head, legs = by_row[: rows["chin"]].sum() / total, by_row[rows["ischium"] :].sum() / total
    return {"head": float(head), "trunk and arms": float(1.0 - head - legs), "legs": float(legs)}


def _share_rows(real: np.ndarray, people: list[Person]) -> list[Row]:
    theirs = _shares(real, REAL_ROWS)
    ours = [_shares(person.expected, person.rows) for person in people]
    rows: list[Row] = []
    for name, band in SHARE_BAND.items():
        values = np.array([share[name] for share in ours])
        good = bool(abs(np.median(values) - theirs[name]) <= band)
        real_text, band_text = f"{100 * theirs[name]:.1f} %", f"real +- {100 * band:.0f} points"
        rows.append(Row(f"share of counts, {name}", real_text, _spread(100 * values), band_text, good))
    return rows


def _region_rows(real: np.ndarray, people: list[Person]) -> list[Row]:
    def of_real(box: tuple[int, int, int, int]) -> float:
        return float(real[box[0] : box[1], box[2] : box[3]].mean())

    thighs = np.array([person.mean(thigh(person)) for person in people])
    rows: list[Row] = []
    for name, region in regions().items():
        theirs = of_real(REAL_BOXES[name]) / of_real(REAL_THIGH)
        ours = np.array([person.mean(region(person)) for person in people]) / thighs
        quotient = float(np.nanmedian(ours)) / theirs
        good = 1.0 / ROI_FACTOR <= quotient <= ROI_FACTOR
        rows.append(Row(f"{name} / thigh", f"{theirs:.2f}", _spread(ours), f"factor {ROI_FACTOR:g}", good))
    return rows


def _background_row(real: np.ndarray, people: list[Person]) -> Row:
    theirs = float(real[gaussian_filter(real.astype(float), 2.0) > 5.0].mean())
    ours = np.array([float(p.expected[gaussian_filter(p.expected, 2.0) > 5.0].mean()) for p in people])
    quotient = float(np.median(ours)) / theirs
    good = 1.0 / BACKGROUND_FACTOR <= quotient <= BACKGROUND_FACTOR
    band = f"factor {BACKGROUND_FACTOR:g}"
    return Row("mean counts of a body pixel at 3.6 M", f"{theirs:.1f}", _spread(ours), band, good)


def _profile(image: np.ndarray, rows: dict[str, int]) -> np.ndarray:
    """Counts per row from chin to ischium, on 100 steps, mean 1."""
    part = image[rows["chin"] : rows["ischium"]].sum(axis=1).astype(float)
    steps = np.interp(np.linspace(0, len(part) - 1, 100), np.arange(len(part)), gaussian_filter(part, 2.0))
    return steps / steps.mean()


def _profile_row(real: np.ndarray, people: list[Person]) -> Row:
    theirs = _profile(real, REAL_ROWS)
    ours = np.array([np.corrcoef(theirs, _profile(p.expected, p.rows))[0, 1] for p in people])
    good = float(np.median(ours)) >= PROFILE_CORRELATION_MIN
    band = f"at least {PROFILE_CORRELATION_MIN:g}"
    return Row("row profile chin to ischium, correlation", "1", _spread(ours), band, good)


def _spread(values: np.ndarray) -> str:
    low, middle, high = np.nanquantile(values, [0.05, 0.5, 0.95])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _draw_scans(real: np.ndarray, people: list[Person], path: Path) -> None:
    images = [("real, anterior", real)]
    for person in people[:2]:
        images += [(f"simulated, {view}", made.scan.counts) for view, made in person.made.items()]
    figure, axes = plt.subplots(1, len(images), figsize=(3.0 * len(images), 10.5), layout="constrained")
    for axis, (title, image) in zip(axes, images, strict=True):
        axis.imshow(np.minimum(image, 120.0) ** 0.6, cmap="gray_r", interpolation="nearest")
        axis.set_title(title, fontsize=9)
        axis.set_ylim(940, 40)
        axis.set_axis_off()
    figure.suptitle("Same grey scale, 3.6 M counts. Simulated scans are not patients.", fontsize=10)
    figure.savefig(path, dpi=75)
    plt.close(figure)


def _draw_profiles(real: np.ndarray, people: list[Person], path: Path) -> None:
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    step = np.linspace(0, 1, 100)
    for number, person in enumerate(people):
        label = f"{PATIENTS} simulated" if number == 0 else None
        axis.plot(step, _profile(person.expected, person.rows), color="0.7", linewidth=0.8, label=label)
    axis.plot(step, _profile(real, REAL_ROWS), color="tab:red", linewidth=1.6, label="real scan")
    axis.set(xlabel="chin (0) to ischium (1)", ylabel="counts per row / mean", title="Row profile, anterior view")
    axis.legend()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def page(rows: Sequence[Row]) -> str:
    """The text of validation.md."""
    return render(_TEMPLATE, version=VERSION, patients=PATIENTS, rows=rows)
