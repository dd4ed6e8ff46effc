"""Masks and spots against closed forms: a sphere's area, recovery, bones, a batch of patients."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from scipy.integrate import quad

from data_pipeline.phantom.anatomy import build_anatomy
from data_pipeline.phantom.imaging.acquisition import Faults, column_sensitivity, displaced
from data_pipeline.phantom.imaging.camera import CAMERAS, project, slab_sigmas_px
from data_pipeline.phantom.lesions import draw_metastases
from data_pipeline.phantom.patients import draw_patient
from data_pipeline.phantom.priors.distributions import LogNormal
from data_pipeline.phantom.priors.lesions import LesionPriors, TruthRules
from data_pipeline.phantom.simulate import simulate_patient
from data_pipeline.phantom.skeleton import load_skeleton
from data_pipeline.phantom.truth import Projection, project_spot
from data_pipeline.phantom.uptake import assign_uptake
from data_pipeline.scan import View

PIXEL_MM = 2.0
SIGMA_PX = 1.6
FIELD_OF_VIEW = (13, 243)


def _ball(radius_mm: float) -> Projection:
    """A homogeneous ball of activity, one unit per mm3, from points on a fine lattice."""
    step = radius_mm / 16.0
    axis = np.arange(-radius_mm, radius_mm + step, step)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    points = points[np.linalg.norm(points, axis=1) < radius_mm]
    weight = np.full(len(points), step**3)
    seen = project_spot(
        64.0 + points[:, 2] / PIXEL_MM, 64.0 + points[:, 0] / PIXEL_MM, weight, sigma_px=SIGMA_PX, shape=(128, 128)
    )
    assert seen is not None
    return seen


@pytest.mark.parametrize("radius_mm", [12.0, 20.0, 32.0])
def test_mask_of_a_sphere_has_the_area_of_the_formula(radius_mm: float) -> None:
    """The chord 2 sqrt(R^2 - r^2) exceeds the share f of 2 R within r < R sqrt(1 - f^2)."""
    fraction = TruthRules().projection_fraction
    seen = _ball(radius_mm)
    area = (seen.geometric > fraction * seen.geometric.max()).sum() * PIXEL_MM**2
    assert area == pytest.approx(np.pi * radius_mm**2 * (1.0 - fraction**2), rel=0.06)


def test_recovery_coefficient_rises_with_diameter_as_integrated() -> None:
    """Peak of the blurred ball over its unblurred peak 2 R, against the integral of chord times Gaussian."""
    sigma = SIGMA_PX * PIXEL_MM
    measured = []
    for radius in (4.0, 6.0, 9.0, 14.0, 24.0):
        peak = _ball(radius).counts.max() / PIXEL_MM**2
        measured.append(peak / (2.0 * radius))

        def integrand(r: float, radius: float = radius) -> float:
            return 2.0 * np.sqrt(radius**2 - r**2) * np.exp(-(r**2) / (2 * sigma**2)) * r / sigma**2

        # Sharing a point bilinearly blurs by another sixth of a pixel squared.
        assert measured[-1] == pytest.approx(quad(integrand, 0.0, radius)[0] / (2.0 * radius), rel=0.06)
    assert np.all(np.diff(measured) > 0)
    assert measured[-1] > 0.95


def test_no_lesion_leaves_its_bone() -> None:
    skeleton = load_skeleton()
    found = 0
    for index in range(6):
        patient = draw_patient(8, index)
        anatomy = build_anatomy(patient, skeleton, seed=8, index=index)
        uptake = assign_uptake(patient, skeleton, seed=8, index=index)
        for spot in draw_metastases(skeleton, anatomy, uptake.points, LesionPriors(), seed=8, index=index):
            bone = anatomy.points[skeleton.bone == skeleton.names.index(spot.bone)]
            assert {tuple(point) for point in spot.position} <= {tuple(point) for point in bone}
            assert spot.bone != "costal_cartilage"
            found += 1
    assert found >= 10


def test_shares_of_cold_centres_and_clusters_follow_the_priors() -> None:
    long = LogNormal(median=40.0, spread=1.1, low=31.0, high=60.0)
    priors = dataclasses.replace(
        LesionPriors(), share_without=0.0, share_solitary=0.0, share_multiple=0.0, length_mm=long
    )
    skeleton = load_skeleton()
    anatomy = build_anatomy(draw_patient(8, 0), skeleton, seed=8, index=0)
    activity = np.ones(len(skeleton.points))
    patients = [draw_metastases(skeleton, anatomy, activity, priors, seed=9, index=index) for index in range(150)]
    assert all(len(spots) > 8 for spots in patients)

    cold = [spot for spots in patients for spot in spots if spot.cold_centre]
    share = len(cold) / sum(map(len, patients))
    assert share == pytest.approx(priors.cold_centre_probability, abs=0.03)  # three standard deviations
    assert all((spot.activity < 0).any() and (spot.activity > 0).any() for spot in cold)

    clusters = [members for spots in patients if (members := [spot for spot in spots if spot.cluster is not None])]
    assert len(clusters) / len(patients) == pytest.approx(priors.cluster_probability, abs=0.12)
    for first, *others in clusters:
        assert 2 <= len(others) <= 5
        for spot in others:
            nearest = np.linalg.norm(spot.position - first.position.mean(axis=0), axis=1).min()
            assert nearest < priors.cluster_radius_mm


def test_patients_can_be_projected_as_a_batch() -> None:
    random = np.random.default_rng(1)
    activity = random.gamma(0.3, size=(3, 6, 32, 32)).astype(np.float32)
    mu = (0.015 * random.random(activity.shape)).astype(np.float32)
    sigmas = slab_sigmas_px(CAMERAS["siemens"], slabs=6, slab_mm=9.0, gap_mm=30.0, pixel_mm=PIXEL_MM)
    batch = jax.vmap(project, in_axes=(0, 0, None, None, None))(activity, mu, sigmas, 9.0, PIXEL_MM)
    for index in range(3):
        for together, alone in zip(batch, project(activity[index], mu[index], sigmas, 9.0, PIXEL_MM), strict=True):
            np.testing.assert_allclose(together[index], alone, rtol=1e-5, atol=1e-5)


def test_faults_are_stripes_and_one_displacement() -> None:
    plain, striped, moved = (
        simulate_patient(seed=8, index=1, views=(View.ANTERIOR,), faults=faults, field_of_view=FIELD_OF_VIEW).views[
            View.ANTERIOR
        ]
        for faults in (Faults(), Faults(uniformity=0.05), Faults(motion_mm=20.0))
    )
    inside = slice(*FIELD_OF_VIEW)
    ratio = striped.expected[:, inside] / plain.expected[:, inside]
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1], ratio.shape), rtol=1e-5)
    assert column_sensitivity(np.random.default_rng(0), 256, 0.05).std() == pytest.approx(0.05)
    assert ratio[0].std() == pytest.approx(0.05, rel=0.2)
    np.testing.assert_array_equal(striped.lesions, plain.lesions)

    pixels = round(20.0 / plain.scan.pixel_size_mm[0])
    changed = np.flatnonzero((moved.expected != plain.expected).any(axis=1))
    first = changed[0]
    assert 256 <= first <= 768
    assert len(changed) == 1024 - first
    shift = min(
        (pixels, -pixels), key=lambda s: np.abs(np.roll(plain.lesions[first:], s, 1) != moved.lesions[first:]).sum()
    )
    inner = slice(40, 216)
    np.testing.assert_array_equal(np.roll(plain.expected[first:], shift, 1)[:, inner], moved.expected[first:, inner])
    np.testing.assert_array_equal(np.roll(plain.benign[first:], shift, 1)[:, inner], moved.benign[first:, inner])
    assert moved.expected[:, : FIELD_OF_VIEW[0]].sum() == 0.0


def test_displacement_by_hand() -> None:
    image = np.arange(1, 9).reshape(2, 4)
    np.testing.assert_array_equal(displaced(image, 1, 1), [[1, 2, 3, 4], [0, 5, 6, 7]])
    np.testing.assert_array_equal(displaced(image, 0, -2), [[3, 4, 0, 0], [7, 8, 0, 0]])
    np.testing.assert_array_equal(displaced(image, 1, 0), image)


def test_impossible_faults_are_refused() -> None:
    with pytest.raises(ValueError, match="motion is 0 to 50 mm"):
        Faults(motion_mm=-1.0)
    with pytest.raises(ValueError, match="uniformity is a share"):
        Faults(uniformity=2.0)
