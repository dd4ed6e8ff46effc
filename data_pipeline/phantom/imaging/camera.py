"""The gamma camera: attenuation, distance-dependent blur, scatter. One jitted function per view.

An analytic (ray-sum) model, not Monte Carlo. Tissue is cut into slabs parallel to the detector. Of the slab at depth k

  primary   P = sum_k g_k * (a_k E_k),              a_k = exp(-(sum_{j<k} mu_j + mu_k / 2) dy)
  scatter   S = sum_j h_j * sum_k w_j(t_k) c t_k a_k E_k,    cut to the shadow of the body

with E the activity, g_k the Gaussian of the collimator-detector response at the slab's distance, t_k the
water-equivalent depth, c the scatter-to-primary ratio per depth, h_j the radial kernel with the line-spread function
exp(-|x| / lambda_j) / (2 lambda_j): its Fourier transform is 1 / (1 + (2 pi lambda_j f)^2). Scatter from deep is wider:
the kernels stand at a few depths, and w_j shares what lies between two of them linearly. Blurring is done in Fourier
space, where the sum over slabs needs a single inverse transform.

Everything keeps the precision of its arguments. The simulator calls with float64: a result that two processors round
differently in its last bit then differs by less than 1e-9 counts, and the same counts are drawn on both.

Sources: hole geometry of GE and Siemens LEHR collimators as SIMIND tabulates it; response formula of
Cherry, Sorenson and Phelps; scatter fraction linear in depth with a mono-exponential line-spread (Kojima 1991); ratio
and width by depth from an own Monte Carlo of Compton scatter in water with a 20 % window: 0.32, 0.62, 0.91 and 13, 23,
32 mm at 5, 10, 15 cm.
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
SCATTER_PER_MM = 0.0062
"""Scatter-to-primary ratio per mm of water-equivalent depth: 0.62 at 10 cm."""

SCATTER_DEPTHS_MM = (20.0, 50.0, 100.0, 150.0, 250.0)
SCATTER_LENGTHS_MM = (7.0, 13.0, 23.0, 32.0, 50.0)
"""Length lambda of the kernel at depths in water; the outer two continue the line through the inner three."""

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
    squared = jnp.fft.fftfreq(rows)[:, None] ** 2 + jnp.fft.rfftfreq(columns)[None] ** 2

    def deeper(
        carry: tuple[jax.Array, jax.Array, jax.Array, jax.Array], slab: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]:
        depth, mu_sum, spectrum, scattered = carry
        emitted, mu, sigma = slab
        middle = depth + 0.5 * mu * slab_mm
        attenuation = jnp.exp(-middle)
        seen = emitted * attenuation
        water_mm = middle / WATER_MU_PER_MM
        amount = SCATTER_PER_MM * water_mm * seen
        scattered = scattered + _shares(water_mm) * amount
        response = jnp.exp(-2.0 * jnp.pi**2 * sigma**2 * squared)
        return (depth + mu * slab_mm, mu_sum + mu, spectrum + jnp.fft.rfft2(seen) * response, scattered), attenuation

    zeros = jnp.zeros((rows, columns), activity.dtype)
    half = zeros[:, : columns // 2 + 1]
    start = (
        zeros,
        zeros,
        jax.lax.complex(half, half),
        jnp.zeros((len(SCATTER_LENGTHS_MM), rows, columns), zeros.dtype),
    )
    # Summed slab by slab: the order of a reduction depends on the number of cores, and with it the last bit.
    (_, mu_sum, spectrum, scattered), attenuation = jax.lax.scan(deeper, start, (activity, mu_per_mm, sigmas_px))
    image = jnp.maximum(jnp.fft.irfft2(spectrum, s=(rows, columns)), 0.0)
    total = jax.lax.complex(half, half)
    for number, length in enumerate(SCATTER_LENGTHS_MM):
        kernel = 1.0 / (1.0 + (2.0 * jnp.pi * length / pixel_mm) ** 2 * squared)
        total = total + jnp.fft.rfft2(scattered[number]) * kernel
    shadow = 1.0 - jnp.exp(-mu_sum * slab_mm / (WATER_MU_PER_MM * SHADOW_MM))
    scattered_image = jnp.maximum(jnp.fft.irfft2(total, s=(rows, columns)), 0.0) * shadow
    return image, scattered_image, attenuation


def _shares(depth_mm: jax.Array) -> jax.Array:
    """`[kernels, rows, columns]`: how much of each kernel of `SCATTER_LENGTHS_MM` a depth takes; they sum to 1."""
    knots = SCATTER_DEPTHS_MM
    shares = []
    for number, knot in enumerate(knots):
        rising = 1.0 if number == 0 else (depth_mm - knots[number - 1]) / (knot - knots[number - 1])
        falling = 1.0 if number == len(knots) - 1 else (knots[number + 1] - depth_mm) / (knots[number + 1] - knot)
        shares.append(jnp.broadcast_to(jnp.clip(jnp.minimum(rising, falling), 0.0, 1.0), depth_mm.shape))
    return jnp.stack(shares)


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
