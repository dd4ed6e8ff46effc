"""Published peak figures of TPU chips, and the roofline they give.

Sources, read 2025-11: cloud.google.com/tpu/docs/ v4, v5e, v5p, v6e and tpu7x ("key chip specifications"). The
interconnect figures there are for both directions together.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """Peaks of one chip.

    Attributes:
      flops_per_s: bfloat16. XLA multiplies float32 convolutions in one bfloat16 pass by default, at the same rate.
      hbm_bytes: main memory.
      hbm_bytes_per_s: its bandwidth.
      link_bytes_per_s: to all neighbours together, one direction.
      devices: that JAX shows per chip.
      source: of the figures.
    """

    flops_per_s: float
    hbm_bytes: float
    hbm_bytes_per_s: float
    link_bytes_per_s: float
    devices: int
    source: str


GIB = 2.0**30
DOCS = "https://cloud.google.com/tpu/docs/"
CHIPS = {
    "v4": Chip(275e12, 32 * GIB, 1200e9, 300e9, 2, DOCS + "v4"),
    "v5e": Chip(197e12, 16 * GIB, 819e9, 200e9, 1, DOCS + "v5e"),
    "v5p": Chip(459e12, 95 * GIB, 2765e9, 600e9, 1, DOCS + "v5p"),
    "v6e": Chip(918e12, 32 * GIB, 1638e9, 400e9, 1, DOCS + "v6e"),
    "tpu7x": Chip(2307e12, 192 * GIB, 7380e9, 600e9, 2, DOCS + "tpu7x"),
}
"""By the name before the colon of a topology."""


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Shortest times of one step in seconds, by what bounds it; an estimate, nothing was run.

    Attributes:
      compute_s: floating-point operations over the peak rate.
      memory_s: bytes over the bandwidth of the main memory.
      collectives_s: bytes of a ring all-reduce over the links; the time to start one is not in it.
      step_s: the longer of compute and memory, then the collectives.
    """

    compute_s: float
    memory_s: float
    collectives_s: float
    step_s: float


def roofline(chip: Chip, *, flops: float, hbm_bytes: float, reduced_bytes: float, devices: int) -> Roofline:
    """The roofline of a step.

    Args:
      chip: the peaks.
      flops: of one device.
      hbm_bytes: read and written by one device.
      reduced_bytes: that every device puts into all-reduces; a ring sends 2 (n - 1) / n of them.
      devices: n.
    """
    share = chip.devices
    compute = flops / (chip.flops_per_s / share)
    memory = hbm_bytes / (chip.hbm_bytes_per_s / share)
    collectives = 2.0 * (devices - 1) / devices * reduced_bytes / (chip.link_bytes_per_s / share)
    return Roofline(compute, memory, collectives, max(compute, memory) + collectives)
