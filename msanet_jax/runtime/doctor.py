"""Looks at the installation: versions, devices, and what commonly goes wrong with them."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import platform
from pathlib import Path

from msanet_jax.runtime.versions import version

EXAMINED = (
    "msanet-jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "scipy",
    "tensorflow-datasets",
    "pydicom",
    "python-gdcm",
    "highdicom",
    "nibabel",
    "pillow",
    "scikit-image",
    "flatbuffers",
)
# Device files that the drivers make; the JAX platform that should then be in use; the extra that brings it.
ACCELERATORS = {
    "/dev/nvidia0": ("gpu", "cuda"),
    "/dev/accel0": ("tpu", "tpu"),
    "/dev/vfio/0": ("tpu", "tpu"),
}


@dataclasses.dataclass(frozen=True)
class Findings:
    """What was found.

    Attributes:
      facts: lines to print.
      problems: one sentence each, with the remedy.
    """

    facts: tuple[str, ...]
    problems: tuple[str, ...]


def examine() -> Findings:
    """Examines packages, devices and decoders; computes one small product on every device."""
    facts = [f"python {platform.python_version()} on {platform.platform()}"]
    problems = []
    for package in EXAMINED:
        facts.append(f"{package} {version(package) or 'is missing'}")
        if version(package) is None:
            problems.append(f"{package} is not installed: pip install -e .")
    if importlib.util.find_spec("gdcm") is None:
        problems.append("compressed DICOM cannot be read: pip install python-gdcm")
    if version("tensorflow") is not None and version("tensorflow-cpu") is not None:
        problems.append(
            "tensorflow and tensorflow-cpu are both installed and overwrite each other: pip uninstall -y tensorflow "
            "tensorflow-cpu && pip install tensorflow-cpu"
        )
    device_facts, device_problems = _examine_devices()
    return Findings((*facts, *device_facts), (*problems, *device_problems))


def unused_accelerators(platform_in_use: str, present: dict[str, bool]) -> list[str]:
    """One sentence per accelerator whose driver is there while JAX computes elsewhere.

    Args:
      platform_in_use: jax.default_backend().
      present: device file -> whether it exists.
    """
    return [
        f"{file} exists but JAX computes on {platform_in_use}: pip install -e '.[{extra}]', and see that the versions "
        "of jax and jaxlib agree"
        for file, (wanted, extra) in ACCELERATORS.items()
        if present.get(file) and platform_in_use != wanted
    ]


def _examine_devices() -> tuple[list[str], list[str]]:
    try:
        import jax
        import jax.numpy as jnp
    except ImportError as error:
        return [], [f"JAX cannot be imported ({error}): pip install -e ."]
    facts, problems = [], []
    try:
        for device in jax.devices():
            facts.append(f"device {device.id}: {device.platform}, {device.device_kind}")
            with jax.default_device(device):
                if float(jnp.dot(jnp.arange(3.0), jnp.arange(3.0))) != 5.0:
                    problems.append(f"device {device.id} computes wrongly")
    except RuntimeError as error:
        lines = str(error).splitlines() or ["no reason given"]
        return facts, [f"the devices cannot be used ({lines[0][:200]}): unset JAX_PLATFORMS, check the driver"]
    problems += unused_accelerators(jax.default_backend(), {file: Path(file).exists() for file in ACCELERATORS})
    if jax.default_backend() == "gpu":
        preallocated = os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
        facts.append(f"JAX takes most of the GPU's memory at start: {preallocated} (XLA_PYTHON_CLIENT_PREALLOCATE)")
    return facts, problems
