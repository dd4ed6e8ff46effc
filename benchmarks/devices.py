"""Weak and strong scaling of the real train iteration over devices, as pmap and as jit over shard_map.

python -m benchmarks.devices --config=configs/msanet.py:cpu --devices=1,2,4

On a machine without accelerator the devices are simulated, each count in a process of its own: they share the cores, so
only what splitting costs can be seen. On GPUs and TPUs the first n devices are taken. With several processes (the flags
of main.py, docs/scaling.md) all devices are taken: start it once per number of hosts, with the same --out, which keeps
the rows of earlier starts.

Every row compiles its own programs: on two cores without accelerator all rows of `cpu` for 1 and 2 devices take about
ten minutes the first time; --form=pmap --scaling=strong is a quarter of them.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
from absl import app, flags
from ml_collections import config_flags

from benchmarks.measure_step import measure
from benchmarks.scaling_page import draw, merge, page, with_efficiency
from benchmarks.tables import write_results
from data_pipeline.errors import RequestError
from msanet_jax.runtime import hosts

config_flags.DEFINE_config_file("config", "configs/msanet.py", "Recipe.")
COUNTS = flags.DEFINE_list("devices", None, "Numbers of devices; by default 1, 2, 4, ... all.")
STEPS = flags.DEFINE_integer("steps", 5, "Iterations in each timed loop.", lower_bound=1)
DTYPES = flags.DEFINE_list("dtype", ["float32"], "float32, bfloat16 or both.")
FORMS = flags.DEFINE_list("form", ["pmap", "shard_map"], "pmap, shard_map or both.")
SCALINGS = flags.DEFINE_list(
    "scaling", ["weak", "strong"], "weak (batch per device stays), strong (whole batch stays)."
)
BATCH = flags.DEFINE_integer("batch", None, "Images: per device (weak), in all (strong); the recipe's by default.")
OUT = flags.DEFINE_string("out", "runs/devices", "Folder of devices.json, devices.md and devices.png.")
MEASURED_TO = flags.DEFINE_string("measured_to", None, "Only measure, into this file (used for simulated devices).")
flags.DEFINE_boolean("distributed", None, "As in main.py.")
flags.DEFINE_string("coordinator_address", None, "As in main.py.")
flags.DEFINE_integer("num_processes", None, "As in main.py.")
flags.DEFINE_integer("process_id", None, "As in main.py.")

PROCESS_FLAGS = ("distributed", "coordinator_address", "num_processes", "process_id")


def main(arguments: list[str]) -> None:
    """Measures, joins with earlier rows in --out, and writes the results."""
    del arguments
    cache = str(pathlib.Path.home() / ".cache" / "msanet_jax")
    jax.config.update("jax_compilation_cache_dir", os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache))
    hosts.join(**{name: flags.FLAGS[name].value for name in PROCESS_FLAGS})
    if jax.default_backend() == "cpu":
        # Simulated devices share one thread pool; queued programs can starve an all-reduce until it aborts.
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    if MEASURED_TO.value is not None:
        rows = [row for count in _counts(jax.device_count()) for row in _measure(count)]
        Path(MEASURED_TO.value).write_text(json.dumps(rows))
        return
    simulated = jax.default_backend() == "cpu" and jax.process_count() == 1
    for count in _counts((os.cpu_count() or 1) if simulated else jax.device_count()):
        rows = _in_fresh_process(count) if simulated else _measure(count)
        if hosts.is_primary():
            _keep(rows)
    if hosts.is_primary():
        print((Path(OUT.value) / "devices.md").read_text())


def _keep(rows: list[dict[str, Any]]) -> None:
    """Joins the rows of one number of devices with what --out holds: a stopped benchmark keeps what it has."""
    folder = Path(OUT.value)
    rows = with_efficiency(merge(_earlier(folder / "devices.json"), rows))
    write_results(folder, "devices", data=rows, page=page(rows))
    draw(rows, folder / "devices.png")


def _counts(available: int) -> list[int]:
    """Numbers of devices to measure."""
    if jax.process_count() > 1:
        return [jax.device_count()]
    if COUNTS.value is not None:
        if not all(count.isdecimal() and int(count) for count in COUNTS.value):
            raise RequestError(f"--devices={','.join(COUNTS.value)}: positive numbers with commas, e.g. 1,2")
        return [int(count) for count in COUNTS.value]
    return [2**power for power in range(available.bit_length()) if 2**power <= available]


def _in_fresh_process(count: int) -> list[dict[str, Any]]:
    """The number of simulated devices is settled when JAX starts."""
    print(f"{count} simulated device(s)", file=sys.stderr)
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(count)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "benchmarks.devices", *sys.argv[1:], f"--devices={count}"]
        subprocess.run([*command, f"--measured_to={path}"], env=environment, check=True)
        return json.loads(path.read_text())


def _measure(count: int) -> list[dict[str, Any]]:
    if count > jax.device_count():
        raise RequestError(f"--devices={count}: there are {jax.device_count()}")
    rows = []
    for dtype in DTYPES.value:
        config = flags.FLAGS.config.copy_and_resolve_references()
        config.generator.dtype = config.discriminator.dtype = dtype
        images = BATCH.value or config.train.batch_size
        for scaling in SCALINGS.value:
            total = images * count if scaling == "weak" else images
            if total % count:
                print(f"{scaling}: {total} images do not divide over {count} devices: left out", file=sys.stderr)
                continue
            for form in FORMS.value:
                devices = jax.devices()[:count]
                rows.append(
                    measure(config, devices=devices, form=form, global_batch=total, steps=STEPS.value, scaling=scaling)
                )
                print(f"{scaling} {form} {dtype} {count}: {rows[-1]['images_per_s']:.2f} images/s", file=sys.stderr)
    return rows


def _earlier(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text()) if path.exists() else []


if __name__ == "__main__":
    try:
        app.run(main)
    except RequestError as error:
        print(f"devices: {error}", file=sys.stderr)
        sys.exit(2)
