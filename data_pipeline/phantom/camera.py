"""The gamma camera: attenuation, distance-dependent blur, scatter. One jitted function per view.

An analytic (ray-sum) model, not Monte Carlo. Tissue is cut into slabs parallel to the detector. Of the slab at depth k

  primary   P = sum_k g_k * (a_k E_k),              a_k = exp(-(sum_{j<k} mu_j + mu_k / 2) dy)
  scatter   S = h * sum_k g_k * (c t_k a_k E_k),    cut to the shadow of the body

with E the activity, g_k the Gaussian of the collimator-detector response at the slab's distance, t_k the
water-equivalent depth, c the scatter-to-primary ratio per depth, and h the radial kernel whose line-spread function is
exp(-|x| / lambda) / (2 lambda): its Fourier transform is 1 / (1 + (2 pi lambda f)^2). Blurring is done in Fourier
space, where the sum over slabs needs a single inverse transform.

Everything keeps the precision of its arguments. The simulator calls with float64: a result that two processors round
differently in its last bit then differs by less than 1e-9 counts, and the same counts are drawn on both.

Sources: hole geometry of GE and Siemens LEHR collimators as SIMIND tabulates it; response formula of
Cherry, Sorenson and Phelps; scatter fraction linear in depth with a mono-exponential line-spread (Kojima 1991).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline.errors import RequestError

MU_LEAD_PER_MM = 2.17
"""Lead at 140 keV: shortens the holes' effective length by 2 / mu."""

FWHM_TO_SIGMA = 1.0 / (2.0 * np.sqrt(2.0 * np.log(2.0)))
SCATTER_PER_MM = 0.0042
"""Scatter-to-primary ratio per mm of water-equivalent depth: 0.42 at 10 cm (cited band 0.3 to 0.6)."""

SCATTER_LENGTH_MM = 15.0
SHADOW_MM = 20.0
"""Thickness at which the body's scatter reaches 1 - 1/e of its full value."""

WATER_MU_PER_MM = 0.0150


@dataclasses.dataclass(frozen=True)
class Camera:
    """Low-energy high-resolution collimator and detector; lengths in mm."""

    hole_diameter_mm: float
    hole_length_mm: float
    intrinsic_fwhm_mm: float

    def fwhm_mm(self, distance_mm: np.ndarray | float) -> np.ndarray | float:
        """System resolution sqrt(R_i^2 + R_c^2), R_c = d (L_e + b) / L_e, L_e = L - 2 / mu, at distance b."""
        effective = self.hole_length_mm - 2.0 / MU_LEAD_PER_MM
        collimator = self.hole_diameter_mm * (effective + distance_mm) / effective
        return np.sqrt(self.intrinsic_fwhm_mm**2 + collimator**2)


CAMERAS = {
    "ge": Camera(hole_diameter_mm=1.5, hole_length_mm=35.0, intrinsic_fwhm_mm=3.8),
    "siemens": Camera(hole_diameter_mm=1.11, hole_length_mm=24.05, intrinsic_fwhm_mm=3.8),
}


def slab_sigmas_px(camera: Camera, *, slabs: int, slab_mm: float, gap_mm: float, pixel_mm: float) -> np.ndarray:
    """`[slabs]`: standard deviation of the response at each slab's middle, in pixels."""
    distance = gap_mm + (np.arange(slabs) + 0.5) * slab_mm
    return np.asarray(camera.fwhm_mm(distance) * FWHM_TO_SIGMA / pixel_mm)


@contextlib.contextmanager
def on_the_cpu() -> Iterator[None]:
    """JAX computes in float64 on the CPU, whatever accelerator there is: the same bytes on every machine.

    Raises:
      RequestError: JAX was told to leave the CPU out.
    """
    try:
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        platforms = os.environ.get("JAX_PLATFORMS", "")
        raise RequestError(
            f"scans are simulated on the CPU, which JAX_PLATFORMS={platforms} leaves out; say {platforms},cpu"
        ) from error
    with jax.enable_x64(True), jax.default_device(device):
        yield


@jax.jit
def project(
    activity: jax.Array, mu_per_mm: jax.Array, sigmas_px: jax.Array, slab_mm: jax.Array, pixel_mm: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Noise-free image of one view, slab 0 nearest to the detector.

    Args:
      activity: `[slabs, rows, columns]` float32, or float64 where JAX is told to use it.
      mu_per_mm: likewise.
      sigmas_px: `[slabs]`, see `slab_sigmas_px`.
      slab_mm: thickness of a slab.
      pixel_mm: side of a pixel.

    Returns:
      Primary and scattered image `[rows, columns]`, and the attenuation `[slabs, rows, columns]` in (0, 1].
    """
    rows, columns = activity.shape[1:]
    sigmas_px = sigmas_px.astype(activity.dtype)
    squared = jnp.fft.fftfreq(rows)[:, None] ** 2 + jnp.fft.fftfreq(columns)[None] ** 2

    def deeper(
        carry: tuple[jax.Array, jax.Array, jax.Array], slab: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], jax.Array]:
        depth, mu_sum, spectrum = carry
        emitted, mu, sigma = slab
        middle = depth + 0.5 * mu * slab_mm
        attenuation = jnp.exp(-middle)
        seen = emitted * attenuation
        # Two real images share one complex transform: the response is real and even, so they stay apart.
        pair = jax.lax.complex(seen, SCATTER_PER_MM / WATER_MU_PER_MM * middle * seen)
        response = jnp.exp(-2.0 * jnp.pi**2 * sigma**2 * squared)
        return (depth + mu * slab_mm, mu_sum + mu, spectrum + jnp.fft.fft2(pair) * response), attenuation

    zeros = jnp.zeros((rows, columns), activity.dtype)
    start = (zeros, zeros, jax.lax.complex(zeros, zeros))
    # Summed slab by slab: the order of a reduction depends on the number of cores, and with it the last bit.
    (_, mu_sum, spectrum), attenuation = jax.lax.scan(deeper, start, (activity, mu_per_mm, sigmas_px))
    blurred = jnp.fft.ifft2(spectrum)
    kernel = 1.0 / (1.0 + (2.0 * jnp.pi * SCATTER_LENGTH_MM / pixel_mm) ** 2 * squared)
    image = jnp.maximum(blurred.real, 0.0)
    shadow = 1.0 - jnp.exp(-mu_sum * slab_mm / (WATER_MU_PER_MM * SHADOW_MM))
    scattered_image = jnp.maximum(jnp.fft.ifft2(jnp.fft.fft2(blurred.imag) * kernel).real, 0.0) * shadow
    return image, scattered_image, attenuation


@functools.partial(jax.jit, static_argnames="slabs")
def tissue_volume(
    front: jax.Array, back: jax.Array, value: jax.Array, first_mm: jax.Array, slab_mm: jax.Array, *, slabs: int
) -> jax.Array:
    """`[slabs, rows, columns]`: sum over tissues of value x the share of each slab that the tissue fills.

    Args:
      front: `[tissues, rows, columns]` mm; empty where `front >= back`.
      back: likewise.
      value: `[tissues]`; a tissue inside another carries the difference.
      first_mm: y where slab 0 begins.
      slab_mm: thickness of a slab.
      slabs: number of slabs.
    """
    begin = first_mm + jnp.arange(slabs)[:, None, None] * slab_mm
    total = jnp.zeros((slabs, *front.shape[1:]), front.dtype)
    for tissue in range(front.shape[0]):
        overlap = jnp.minimum(back[tissue], begin + slab_mm) - jnp.maximum(front[tissue], begin)
        total = total + value[tissue] * jnp.clip(overlap / slab_mm, 0.0, 1.0)
    return total
