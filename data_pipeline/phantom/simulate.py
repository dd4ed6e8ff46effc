"""One virtual patient to two views with their truth: the function that the rest of the project calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_pipeline.errors import RequestError
from data_pipeline.phantom.anatomy import Anatomy, build_anatomy
from data_pipeline.phantom.benign import draw_benign
from data_pipeline.phantom.imaging.acquisition import Faults, column_sensitivity, displaced, draw_motion
from data_pipeline.phantom.imaging.camera import CAMERAS, on_the_cpu, project, slab_sigmas_px
from data_pipeline.phantom.imaging.counting import poisson_quantile
from data_pipeline.phantom.imaging.volumes import SLAB_MM, SLABS, Volumes, soft_texture
from data_pipeline.phantom.lesions import Spot, draw_burden, draw_metastases
from data_pipeline.phantom.outline import ROWS
from data_pipeline.phantom.patients import COLUMNS, Patient, draw_patient, redrawn, stream
from data_pipeline.phantom.priors.distributions import Prior
from data_pipeline.phantom.priors.lesions import LesionPriors, TruthRules
from data_pipeline.phantom.skeleton import load_skeleton
from data_pipeline.phantom.truth import MASKS, Masks, draw_masks, project_spot
from data_pipeline.phantom.uptake import assign_uptake
from data_pipeline.scan import Scan, View

EXCRETING = ("kidney_right", "kidney_left", "bladder")
"""Organs that are hot without being ill; ids 1, 2, 3 of `SimulatedView.organs`."""

AIR_COUNTS = 0.15
"""Mean of room background and septal tail, counts per pixel at 3 M counts (measured 0.1 to 0.7 on a real scan)."""


@dataclasses.dataclass(frozen=True)
class SimulatedView(Masks):
    """A view with everything known about it; arrays are `[1024, 256]`.

    Attributes:
      scan: Poisson counts.
      expected: float32, noise-free counts.
      organs: uint8, 1 right kidney, 2 left kidney, 3 bladder: where the organ is thicker than the fraction of its
        greatest thickness at which lesions are drawn.
    """

    scan: Scan
    expected: np.ndarray
    organs: np.ndarray


@dataclasses.dataclass(frozen=True)
class SimulatedPatient:
    """A patient: key, all drawn parameters (JSON-able), and the views."""

    key: str
    parameters: dict[str, Any]
    views: dict[View, SimulatedView]


def simulate_patient(
    *,
    seed: int,
    index: int,
    noise_seed: int | None = None,
    camera: str | None = None,
    counts: float | None = None,
    views: Sequence[View] = (View.ANTERIOR, View.POSTERIOR),
    priors: LesionPriors | None = None,
    rules: TruthRules | None = None,
    faults: Faults | None = None,
    field_of_view: tuple[int, int] | None = None,
    changed: Mapping[str, Prior] | None = None,
) -> SimulatedPatient:
    """Simulates patient `index` of `seed`; a pure function of its arguments.

    Args:
      seed: of the population.
      index: of the patient.
      noise_seed: of the Poisson noise alone; default `seed`.
      camera: `ge` or `siemens`; default drawn.
      counts: expected counts per view; default drawn.
      views: which to make.
      priors: of lesions; default `LesionPriors()`.
      rules: of masks; default `TruthRules()`.
      faults: of the acquisition; default drawn. `Faults()` is none.
      field_of_view: first column with counts and first without; the counts per view are those within. Default drawn.
      changed: attributes of `Patient` that are drawn from other priors (`priors.stress`).

    Raises:
      RequestError: no such camera, or no such columns.
    """
    _check(camera, field_of_view)
    priors, rules = priors or LesionPriors(), rules or TruthRules()
    skeleton = load_skeleton()
    patient = redrawn(draw_patient(seed, index, camera=camera, counts=counts), changed or {}, seed=seed, index=index)
    faults = faults or Faults(patient.motion_mm, patient.uniformity)
    field_of_view = field_of_view or patient.field_of_view
    anatomy = build_anatomy(patient, skeleton, seed=seed, index=index)
    ill = draw_burden(priors, seed=seed, index=index)
    uptake = assign_uptake(patient, skeleton, seed=seed, index=index, superscan=ill.superscan)
    lesions = draw_metastases(skeleton, anatomy, uptake.points, priors, seed=seed, index=index)
    benign = draw_benign(skeleton, anatomy, uptake.points, uptake.soft, priors, seed=seed, index=index)
    muscles = soft_texture(patient, stream(seed, index, "soft texture"))
    volumes = Volumes(patient, anatomy, uptake, skeleton.area_mm2, [*lesions, *benign], muscles)
    organs = _organ_ids(anatomy, rules.projection_fraction)
    key = f"phantom-{seed}-{index:05d}"
    noise_seed = seed if noise_seed is None else noise_seed

    def make(view: View) -> SimulatedView:
        readers, broken, noise = (
            stream(seed, index, f"readers {view}"),
            stream(seed, index, f"faults {view}"),
            stream(noise_seed, index, f"noise {view}"),
        )
        seen = _simulate_view(view, patient, volumes, lesions, benign, organs, rules, field_of_view, readers)
        seen = _with_faults(seen, faults, field_of_view, patient.pixel_mm, broken)
        return _add_noise(seen, patient, key, view, noise)

    made = {view: make(view) for view in views}
    parameters = {
        "seed": seed,
        "index": index,
        "noise_seed": noise_seed,
        "faults": dataclasses.asdict(faults),
        "field_of_view": list(field_of_view),
        "superscan": ill.superscan,
        "patient": patient.as_dict(),
        "lesions": [dataclasses.asdict(spot.facts()) for spot in lesions],
        "benign": [dataclasses.asdict(spot.facts()) for spot in benign],
    }
    return SimulatedPatient(key=key, parameters=parameters, views=made)


def _check(camera: str | None, field_of_view: tuple[int, int] | None) -> None:
    if camera is not None and camera not in CAMERAS:
        raise RequestError(f"camera is one of {', '.join(CAMERAS)}, not {camera!r}")
    if field_of_view and not 0 <= field_of_view[0] < field_of_view[1] <= COLUMNS:
        first, end = field_of_view
        raise RequestError(f"the field of view is two columns 0 <= first < end <= {COLUMNS}, not {first} and {end}")


@dataclasses.dataclass(frozen=True)
class _Noiseless:
    """A view before counting."""

    expected: np.ndarray
    masks: Masks
    organs: np.ndarray


def _organ_ids(anatomy: Anatomy, fraction: float) -> np.ndarray:
    """Seen from the front."""
    ids = np.zeros((ROWS, COLUMNS), np.uint8)
    for number, name in enumerate(EXCRETING, start=1):
        organ = anatomy.organs[name]
        thickness = np.where(organ.front < organ.back, organ.back - organ.front, 0.0)
        ids[thickness > fraction * thickness.max()] = number
    return ids


def _simulate_view(
    view: View,
    patient: Patient,
    volumes: Volumes,
    lesions: list[Spot],
    benign: list[Spot],
    organs: np.ndarray,
    rules: TruthRules,
    field_of_view: tuple[int, int],
    readers: np.random.Generator,
) -> _Noiseless:
    posterior = view is View.POSTERIOR
    # Seen from behind, the last slab is the nearest and left and right change places.
    oriented = [np.ascontiguousarray(v[::-1, :, ::-1]) if posterior else v for v in (volumes.activity, volumes.mu)]
    gap = (
        patient.gap_posterior_mm - volumes.back_gap_mm if posterior else patient.gap_anterior_mm - volumes.front_gap_mm
    )
    sigmas = slab_sigmas_px(
        CAMERAS[patient.camera], slabs=SLABS, slab_mm=SLAB_MM, gap_mm=gap, pixel_mm=patient.pixel_mm
    )
    with on_the_cpu():
        primary, scatter, attenuation = (
            np.asarray(array) for array in project(*oriented, sigmas, SLAB_MM, patient.pixel_mm)
        )
    image = primary + patient.scatter_scale * scatter
    image[:, : field_of_view[0]] = 0.0
    image[:, field_of_view[1] :] = 0.0
    per_activity = patient.counts_per_view / image.sum()
    expected = image * per_activity
    expected[:, slice(*field_of_view)] += AIR_COUNTS * patient.counts_per_view / 3e6
    seen = []
    for spots in (lesions, benign):
        projections = []
        for spot in spots:
            slab, column = volumes.slab_of(spot.position[:, 1]), spot.column
            if posterior:
                slab, column = SLABS - 1 - slab, COLUMNS - 1 - column
            k = np.clip(np.round(slab).astype(int), 0, SLABS - 1)
            r = np.clip(np.round(spot.row).astype(int), 0, ROWS - 1)
            c = np.clip(np.round(column).astype(int), 0, COLUMNS - 1)
            weight = spot.activity * attenuation[k, r, c] * per_activity
            seen_spot = project_spot(
                spot.row, column, weight, sigma_px=float(sigmas[int(np.median(k))]), shape=(ROWS, COLUMNS)
            )
            if seen_spot is not None:
                projections.append((spot, seen_spot))
        seen.append(projections)
    masks = draw_masks(seen[0], seen[1], expected, rules, readers)
    return _Noiseless(expected, masks, organs[:, ::-1] if posterior else organs)


def _with_faults(
    view: _Noiseless, faults: Faults, field_of_view: tuple[int, int], pixel_mm: float, random: np.random.Generator
) -> _Noiseless:
    """Motion carries the masks along; the detector's edges stay where they are."""
    expected, masks, organs = view.expected, view.masks, view.organs
    if faults.uniformity > 0:
        expected = expected * column_sensitivity(random, COLUMNS, faults.uniformity)
    if faults.motion_mm > 0:
        first_row, pixels = draw_motion(random, ROWS, faults.motion_mm, pixel_mm)
        expected = displaced(expected, first_row, pixels)
        expected[:, : field_of_view[0]] = 0.0
        expected[:, field_of_view[1] :] = 0.0
        organs = displaced(organs, first_row, pixels)
        moved: dict[str, Any] = {name: displaced(getattr(masks, name), first_row, pixels) for name in MASKS}
        masks = dataclasses.replace(masks, **moved)
    return _Noiseless(expected, masks, organs)


def _add_noise(
    noiseless: _Noiseless, patient: Patient, key: str, view: View, random: np.random.Generator
) -> SimulatedView:
    """Poisson counts around the expectation; nothing is done to them afterwards."""
    scan = Scan(
        counts=poisson_quantile(random.random(noiseless.expected.shape), noiseless.expected),
        pixel_size_mm=(patient.pixel_mm, patient.pixel_mm),
        view=view,
        patient=key,
        source=f"PhantomBone {key} {view}",
    )
    return SimulatedView(
        scan=scan,
        expected=noiseless.expected.astype(np.float32),
        **vars(noiseless.masks),
        organs=np.ascontiguousarray(noiseless.organs),
    )
