"""The simulator: camera against closed forms, truth inside the body, determinism."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from data_pipeline.errors import RequestError
from data_pipeline.phantom.anatomy import build_anatomy
from data_pipeline.phantom.imaging.acquisition import Faults
from data_pipeline.phantom.imaging.camera import (
    CAMERAS,
    FWHM_TO_SIGMA,
    SCATTER_DEPTHS_MM,
    SCATTER_LENGTHS_MM,
    SCATTER_PER_MM,
    SHADOW_MM,
    WATER_MU_PER_MM,
    on_the_cpu,
    project,
    slab_sigmas_px,
    tissue_volume,
)
from data_pipeline.phantom.imaging.volumes import deposit3
from data_pipeline.phantom.lesions import burden
from data_pipeline.phantom.patients import draw_patient
from data_pipeline.phantom.priors.lesions import LesionPriors, TruthRules
from data_pipeline.phantom.simulate import SimulatedPatient, simulate_patient
from data_pipeline.phantom.skeleton import load_skeleton
from data_pipeline.phantom.truth import MASKS
from data_pipeline.scan import View

SLABS, SLAB_MM, PIXEL_MM = 12, 9.0, 2.0
SHAPE = (SLABS, 64, 64)
FIELD_OF_VIEW = (13, 243)


@pytest.fixture(scope="module")
def patient() -> SimulatedPatient:
    return simulate_patient(seed=5, index=3, faults=Faults(), field_of_view=FIELD_OF_VIEW)


def _project(activity: np.ndarray, mu: float = 0.0, camera: str = "ge", gap_mm: float = 20.0) -> tuple[np.ndarray, ...]:
    sigmas = slab_sigmas_px(CAMERAS[camera], slabs=SLABS, slab_mm=SLAB_MM, gap_mm=gap_mm, pixel_mm=PIXEL_MM)
    volume = np.full(SHAPE, mu, np.float32)
    return tuple(np.asarray(array) for array in project(activity, volume, sigmas, SLAB_MM, PIXEL_MM))


def _point(slab: int) -> np.ndarray:
    activity = np.zeros(SHAPE, np.float32)
    activity[slab, 32, 32] = 1e4
    return activity


@pytest.mark.parametrize("camera", ["ge", "siemens"])
def test_system_resolution_at_10_cm(camera: str) -> None:
    assert 7.0 <= float(CAMERAS[camera].fwhm_mm(100.0)) <= 7.6


@pytest.mark.parametrize("camera", ["ge", "siemens"])
@pytest.mark.parametrize("slab", [2, 6, 11])
def test_point_source_width_follows_the_formula(camera: str, slab: int) -> None:
    image, _, _ = _project(_point(slab), camera=camera)
    profile = image.sum(axis=0)
    offset = (np.arange(64) - 32) * PIXEL_MM
    inner = np.abs(offset) < 30
    width = np.sqrt((profile * offset**2)[inner].sum() / profile[inner].sum())
    expected = float(CAMERAS[camera].fwhm_mm(20.0 + (slab + 0.5) * SLAB_MM)) * FWHM_TO_SIGMA
    assert width == pytest.approx(expected, rel=0.03)
    assert image.sum() == pytest.approx(1e4, rel=2e-3)  # blurring loses nothing


def test_attenuation_is_exponential_in_depth() -> None:
    for slab in (0, 5, 11):
        image, _, attenuation = _project(_point(slab), mu=0.015)
        expected = np.exp(-0.015 * (slab + 0.5) * SLAB_MM)
        assert attenuation[slab, 32, 32] == pytest.approx(expected, rel=1e-5)
        # Cutting negative ripples of the narrowest response adds half a per cent.
        assert image.sum() == pytest.approx(1e4 * expected, rel=6e-3)


def test_geometric_mean_of_opposite_views_does_not_depend_on_depth() -> None:
    means = []
    for slab in range(SLABS):
        front, _, _ = _project(_point(slab), mu=0.015)
        back, _, _ = _project(_point(SLABS - 1 - slab), mu=0.015)
        means.append(np.sqrt(front.sum() * back.sum()))
    np.testing.assert_allclose(means, 1e4 * np.exp(-0.015 * SLABS * SLAB_MM / 2), rtol=3e-3)


def test_scatter_rises_linearly_as_in_the_monte_carlo() -> None:
    ratios = []
    for slab in range(SLABS):
        image, scatter, _ = _project(_point(slab), mu=WATER_MU_PER_MM)
        shadow = 1.0 - np.exp(-SLABS * SLAB_MM / SHADOW_MM)
        ratios.append(scatter.sum() / image.sum() / shadow)
    depth = (np.arange(SLABS) + 0.5) * SLAB_MM
    np.testing.assert_allclose(ratios, SCATTER_PER_MM * depth, rtol=0.02)
    for at, expected in ((50.0, 0.32), (100.0, 0.62)):  # of an own Monte Carlo
        assert np.interp(at, depth, ratios) == pytest.approx(expected, rel=0.05)


def test_no_scatter_in_air() -> None:
    activity = _point(6)
    mu = np.zeros(SHAPE, np.float32)
    mu[:, :, :40] = WATER_MU_PER_MM
    sigmas = slab_sigmas_px(CAMERAS["ge"], slabs=SLABS, slab_mm=SLAB_MM, gap_mm=20.0, pixel_mm=PIXEL_MM)
    _, scatter, _ = project(activity, mu, sigmas, SLAB_MM, PIXEL_MM)
    assert np.asarray(scatter)[:, 40:].max() == 0.0


def test_camera_equals_a_plain_numpy_reference() -> None:
    random = np.random.default_rng(0)
    activity = random.gamma(0.3, size=SHAPE).astype(np.float32)
    mu = (0.015 * random.random(SHAPE)).astype(np.float32)
    sigmas = slab_sigmas_px(CAMERAS["ge"], slabs=SLABS, slab_mm=SLAB_MM, gap_mm=20.0, pixel_mm=PIXEL_MM)
    squared = np.fft.fftfreq(64)[:, None] ** 2 + np.fft.fftfreq(64)[None] ** 2
    depth, primary = np.zeros((64, 64)), np.zeros((64, 64))
    scattered = np.zeros((len(SCATTER_LENGTHS_MM), 64, 64))
    for k in range(SLABS):
        middle = depth + 0.5 * mu[k] * SLAB_MM
        seen = activity[k] * np.exp(-middle)
        response = np.exp(-2 * np.pi**2 * float(sigmas[k]) ** 2 * squared)
        primary += np.fft.ifft2(np.fft.fft2(seen) * response).real
        water = middle / WATER_MU_PER_MM
        for j in range(len(SCATTER_DEPTHS_MM)):
            share = np.interp(water, SCATTER_DEPTHS_MM, np.eye(len(SCATTER_DEPTHS_MM))[j])
            scattered[j] += share * SCATTER_PER_MM * water * seen
        depth += mu[k] * SLAB_MM
    scatter = np.zeros((64, 64))
    for j, length in enumerate(SCATTER_LENGTHS_MM):
        kernel = 1.0 / (1.0 + (2 * np.pi * length / PIXEL_MM) ** 2 * squared)
        scatter += np.fft.ifft2(np.fft.fft2(scattered[j]) * kernel).real
    scatter = np.maximum(scatter, 0) * (1 - np.exp(-depth / (WATER_MU_PER_MM * 20)))
    ours = project(activity, mu, sigmas, SLAB_MM, PIXEL_MM)
    np.testing.assert_allclose(ours[0], np.maximum(primary, 0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ours[1], scatter, rtol=1e-4, atol=1e-4)


def test_tissue_fills_slabs_by_overlap() -> None:
    front, back = np.full((1, 2, 2), 5.0, np.float32), np.full((1, 2, 2), 25.0, np.float32)
    volume = tissue_volume(front, back, np.array([2.0], np.float32), 0.0, 10.0, slabs=4)
    np.testing.assert_allclose(np.asarray(volume)[:, 0, 0], [1.0, 2.0, 1.0, 0.0])


def test_deposit_conserves_and_interpolates() -> None:
    volume = np.zeros((4, 5, 6), np.float32)
    deposit3(volume, np.array([1.25]), np.array([2.0]), np.array([3.5]), np.array([8.0], np.float32))
    assert volume.sum() == pytest.approx(8.0)
    assert volume[1, 2, 3] == pytest.approx(3.0)
    assert volume[2, 2, 4] == pytest.approx(1.0)


def test_skeleton_has_its_bones() -> None:
    skeleton = load_skeleton()
    for name in ("rib_1_left", "rib_12_right", "sternum", "thoracic_12", "lumbar_5", "scapula_left", "skull", "jaw"):
        assert name in skeleton.names
    assert sum(name.startswith("rib_") for name in skeleton.names) == 24
    assert skeleton.area_mm2[~skeleton.inner].sum() == pytest.approx(1.2346e6, rel=1e-3)
    left = skeleton.points[skeleton.of("rib_5_left")]
    assert left[:, 0].mean() > 40.0  # the patient's left is +x
    assert skeleton.points[skeleton.of("sternum"), 1].mean() < skeleton.points[skeleton.of("thoracic_6"), 1].mean() - 80


def test_same_arguments_same_bytes(patient: SimulatedPatient) -> None:
    again, other_noise = (
        simulate_patient(seed=5, index=3, noise_seed=noise, faults=Faults(), field_of_view=FIELD_OF_VIEW)
        for noise in (None, 9)
    )
    for view in View.ANTERIOR, View.POSTERIOR:
        first, second, third = (p.views[view] for p in (patient, again, other_noise))
        assert first.scan.counts.tobytes() == second.scan.counts.tobytes()
        assert first.scan.counts.tobytes() != third.scan.counts.tobytes()
        assert first.expected.tobytes() == third.expected.tobytes()
        assert first.lesions.tobytes() == third.lesions.tobytes()
        assert first.reader_1.tobytes() == third.reader_1.tobytes()


def test_counts_are_poisson_around_the_expectation(patient: SimulatedPatient) -> None:
    for view in patient.views.values():
        bright = view.expected > 5
        residual = (view.scan.counts - view.expected)[bright] / np.sqrt(view.expected[bright])
        assert residual.var() == pytest.approx(1.0, abs=0.03)
        assert view.expected.sum() == pytest.approx(patient.parameters["patient"]["counts_per_view"], rel=0.02)
        outside = view.scan.counts.copy()
        outside[:, slice(*FIELD_OF_VIEW)] = 0
        assert outside.sum() == 0


def test_noise_has_a_flat_power_spectrum(patient: SimulatedPatient) -> None:
    """Poisson residuals over their standard deviation: power 1 in every band of frequency, within 3 per cent."""
    view = patient.views[View.ANTERIOR]
    box = (slice(230, 486), slice(64, 192))
    expected = view.expected[box].astype(np.float64)
    assert (expected > 2.0).mean() > 0.9 and expected.min() > 0.0  # nearly all of it is body
    residual = (view.scan.counts[box] - expected) / np.sqrt(expected)
    power = np.abs(np.fft.fft2(residual)) ** 2 / residual.size
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(128)[None])
    bands = [power[(frequency > low) & (frequency <= low + 0.1)].mean() for low in (0.0, 0.1, 0.2, 0.3, 0.4)]
    np.testing.assert_allclose(bands, 1.0, atol=0.06)


def test_neighbouring_pixels_do_not_correlate(patient: SimulatedPatient) -> None:
    view = patient.views[View.ANTERIOR]
    bright = view.expected > 5
    residual = np.where(bright, (view.scan.counts - view.expected) / np.sqrt(np.maximum(view.expected, 1)), 0.0)
    for shifted in (np.roll(residual, 1, axis=0), np.roll(residual, 1, axis=1)):
        assert abs((residual * shifted)[bright].mean()) < 0.02


def test_posterior_is_mirrored(patient: SimulatedPatient) -> None:
    """What is seen at column c from the front lies at 255 - c from behind, rows stay; a body is not symmetrical."""
    front, back = (patient.views[view] for view in (View.ANTERIOR, View.POSTERIOR))
    off_centre = 0
    for row in front.lesion_rows:
        places = [np.argwhere(view.lesions == row.id) for view in (front, back)]
        if min(len(place) for place in places) < 5:
            continue
        (r0, c0), (r1, c1) = (place.mean(axis=0) for place in places)
        assert r0 == pytest.approx(r1, abs=4.0)
        assert c0 == pytest.approx(255.0 - c1, abs=4.0)
        off_centre += abs(c0 - 127.5) > 10.0
    assert off_centre >= 2
    np.testing.assert_array_equal(front.organs, back.organs[:, ::-1])
    as_mirrored, as_it_is = (
        np.corrcoef(front.expected.ravel(), image.ravel())[0, 1] for image in (back.expected[:, ::-1], back.expected)
    )
    assert as_mirrored > as_it_is + 0.005


@pytest.mark.parametrize(("site", "nearer"), [("sternum", View.ANTERIOR), ("thoracic", View.POSTERIOR)])
def test_sternum_is_hot_in_front_and_the_spine_behind(site: str, nearer: View) -> None:
    priors = dataclasses.replace(LesionPriors(), share_without=0.0, cluster_probability=0.0, sites={site: 1.0})
    made = simulate_patient(seed=5, index=3, priors=priors).views
    near, far = (
        sum(row.counts for row in made[view].lesion_rows if not row.cold_centre)
        for view in (nearer, View.POSTERIOR if nearer is View.ANTERIOR else View.ANTERIOR)
    )
    assert near > 1.5 * far > 0


def test_kidneys_are_seen_from_behind(patient: SimulatedPatient) -> None:
    front, back = (patient.views[view] for view in (View.ANTERIOR, View.POSTERIOR))
    for kidney in (1, 2):
        assert back.expected[back.organs == kidney].mean() > 1.1 * front.expected[front.organs == kidney].mean()


def test_every_mask_lies_in_the_body() -> None:
    skeleton = load_skeleton()
    for index in range(4):
        made = simulate_patient(seed=5, index=index, faults=Faults())
        anatomy = build_anatomy(draw_patient(5, index), skeleton, seed=5, index=index)
        # A mask is drawn 0.7 pixels wider than its points.
        body = binary_dilation(anatomy.body.front < anatomy.body.back, iterations=2)
        for name, view in made.views.items():
            outside = ~(body[:, ::-1] if name is View.POSTERIOR else body)
            for mask in (*MASKS, "organs"):
                assert not getattr(view, mask)[outside].any(), (index, name, mask)


def test_lesions_lie_on_bones(patient: SimulatedPatient) -> None:
    for view in patient.views.values():
        present = set(np.unique(view.lesions).tolist()) - {0}
        rows = {row.id: row for row in view.lesion_rows}
        assert present <= set(rows)
        for number in present:
            assert rows[number].bone in load_skeleton().names
            assert rows[number].area_px >= (view.lesions == number).sum() > 0


def test_hidden_lesions_are_in_the_mask_of_all_only() -> None:
    """Of 6 patients, whose visible and hidden lesions both cover pixels."""
    hidden_px = 0
    for index in range(6):
        view = simulate_patient(seed=5, index=index, views=(View.POSTERIOR,)).views[View.POSTERIOR]
        visible = {row.id for row in view.lesion_rows if row.visible}
        assert visible == {row.id for row in view.lesion_rows if row.cnr >= TruthRules().visible_cnr}
        hidden = (view.lesions_all > 0) & ~np.isin(view.lesions_all, list(visible))
        for mask in (view.lesions, view.lesions_isocontour):
            assert set(np.unique(mask).tolist()) - {0} <= visible
        assert np.array_equal(view.lesions[~hidden], view.lesions_all[~hidden])
        hidden_px += int(hidden.sum())
    assert hidden_px > 100


def test_field_of_view_cuts_columns_and_keeps_the_counts(patient: SimulatedPatient) -> None:
    whole, narrow = (
        simulate_patient(seed=5, index=3, views=(View.ANTERIOR,), field_of_view=columns, faults=Faults()).views[
            View.ANTERIOR
        ]
        for columns in ((0, 256), (60, 200))
    )
    assert whole.expected.min() > 0.0
    assert narrow.expected[:, :60].sum() == narrow.expected[:, 200:].sum() == 0.0
    for view in (whole, narrow):
        assert view.expected.sum() == pytest.approx(patient.parameters["patient"]["counts_per_view"], rel=0.02)
        np.testing.assert_array_equal(view.organs, patient.views[View.ANTERIOR].organs)


def test_lesion_numbers_follow_the_priors() -> None:
    random = np.random.default_rng(0)
    priors = LesionPriors()
    drawn = [burden(random, priors) for _ in range(4000)]
    counts = np.array([ill.lesions for ill in drawn])
    positive = counts[counts > 0]
    assert (counts == 0).mean() == pytest.approx(priors.share_without, abs=0.02)
    assert (positive == 1).mean() == pytest.approx(priors.share_solitary, abs=0.02)
    assert ((positive > 1) & (positive < 9)).mean() == pytest.approx(priors.share_multiple, abs=0.025)
    superscans = np.array([ill.superscan for ill in drawn])
    assert superscans[counts > 0].mean() == pytest.approx(priors.share_superscan, abs=0.01)
    assert counts[superscans].min() >= priors.superscan_lesions[0] > counts[~superscans].max() == priors.most


def test_stronger_lesions_are_seen_better() -> None:
    faint, strong = (
        simulate_patient(
            seed=5,
            index=3,
            views=(View.ANTERIOR,),
            priors=dataclasses.replace(
                LesionPriors(), contrast=dataclasses.replace(LesionPriors().contrast, median=m, low=m, high=m)
            ),
        )
        for m in (2.0, 8.0)
    )
    pairs = zip(faint.views[View.ANTERIOR].lesion_rows, strong.views[View.ANTERIOR].lesion_rows, strict=True)
    assert all(a.cnr < b.cnr for a, b in pairs if not a.cold_centre)


def test_overrides_and_refusals() -> None:
    assert draw_patient(0, 0, camera="siemens", counts=2e6).camera == "siemens"
    assert draw_patient(0, 0, counts=2e6).counts_per_view == 2e6
    with pytest.raises(ValueError, match="the field of view is two columns"):
        simulate_patient(seed=0, index=0, field_of_view=(20, 20))
    with pytest.raises(ValueError, match="camera is one of ge, siemens"):
        simulate_patient(seed=0, index=0, camera="pinhole")


def test_without_a_cpu_device_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_cpu(*, backend: str) -> list[jax.Device]:
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "local_devices", no_cpu)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(RequestError, match="JAX_PLATFORMS=cuda leaves out; say cuda,cpu"), on_the_cpu():
        pass
