"""Compiles the real train iteration for a TPU without a TPU and says what the compiler says about it.

python -m benchmarks.tpu_compile --topology=v5e:2x2 --config=configs/msanet.py --per_device_batch=8,32

Needs the extra `tpu-compile`. Memory, operations and layouts are the compiler's; times are a roofline from published
peak figures, an estimate: nothing is run. A compilation takes one to fifteen minutes of one core, the variant `tpu`
longest, and 3 GB.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import sys
import time
from pathlib import Path
from typing import Any

# The compiler needs no TPU, but looks for one and for its neighbours unless it is told.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no device is opened, so several may compile at once

import jax
import jax.numpy as jnp
from absl import app, flags
from jax.experimental import topologies
from ml_collections import ConfigDict, config_flags

from benchmarks.chips import CHIPS, roofline
from benchmarks.hlo import Instruction, collectives, convolutions, padding, traffic_bytes
from benchmarks.tables import markdown_table, write_results
from data_pipeline.errors import RequestError
from msanet_jax.training.devices import map_iteration
from msanet_jax.training.state import create_networks, create_state
from msanet_jax.training.steps import train_iteration

config_flags.DEFINE_config_file("config", "configs/msanet.py", "Recipe.")
TOPOLOGY = flags.DEFINE_string("topology", "v5e:2x2", "Chip and slice, e.g. v5e:2x2, v6e:2x4, v4:2x2x1, tpu7x:2x2x1.")
BATCHES = flags.DEFINE_list("per_device_batch", ["32"], "Images per device; several with commas.")
FORM = flags.DEFINE_enum("form", "pmap", ["pmap", "shard_map"], "How the step is mapped over the devices.")
OUT = flags.DEFINE_string("out", "runs/tpu_compile", "Folder of the results.")
SAVE_HLO = flags.DEFINE_boolean("save_hlo", False, "Also keep the compiled program's text (7 MB each).")
NAME = flags.DEFINE_string("name", "tpu_compile", "Name of the result files.")

STEPS_PER_EPOCH = 15
"""Only shapes matter here; schedules need some number."""

LISTED_CONVOLUTIONS = 20


def main(arguments: list[str]) -> None:
    """Compiles each batch size and writes JSON and Markdown."""
    del arguments
    if TOPOLOGY.value.partition(":")[0] not in CHIPS:
        raise RequestError(f"--topology={TOPOLOGY.value}: no peak figures; known are {', '.join(CHIPS)}")
    results = []
    for batch in BATCHES.value:
        print(f"{TOPOLOGY.value}: compiling for {batch} images per device", file=sys.stderr)
        results.append(examine(flags.FLAGS.config, topology=TOPOLOGY.value, per_device_batch=int(batch)))
    paths = write_results(Path(OUT.value), NAME.value, data=results, page=page(results))
    print(paths[1].read_text())
    print(*paths)


def examine(config: ConfigDict, *, topology: str, per_device_batch: int) -> dict[str, Any]:
    """Compiles one step and reads it.

    Returns:
      JSON-able facts; `fits` is False and `refusal` holds the compiler's line where the memory does not suffice.
    """
    devices = _devices(topology)
    facts: dict[str, Any] = {
        "topology": topology,
        "devices": len(devices),
        "per_device_batch": per_device_batch,
        "form": FORM.value,
        "variants": config.variants,
        "dtype": f"{config.generator.dtype}, {config.discriminator.dtype}",
        "image_size_px": config.data.image_size_px,
        "jax": jax.__version__,
    }
    begin = time.perf_counter()
    networks = create_networks(config, steps_per_epoch=STEPS_PER_EPOCH)
    state = jax.eval_shape(lambda: create_state(networks))
    side = config.data.image_size_px
    leading = (len(devices), per_device_batch) if FORM.value == "pmap" else (len(devices) * per_device_batch,)
    batch = {key: jax.ShapeDtypeStruct((*leading, side, side, 1), jnp.float32) for key in ("image", "mask")}
    mapped = map_iteration(
        functools.partial(train_iteration, networks, mapped=True), form=FORM.value, devices=tuple(devices)
    )
    try:
        compiled = mapped.lower(state, batch).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return facts | {"fits": False, "refusal": str(error).splitlines()[0][:300]}
    text = compiled.as_text()
    if SAVE_HLO.value:
        Path(OUT.value).mkdir(parents=True, exist_ok=True)
        (Path(OUT.value) / f"{NAME.value}_{per_device_batch}.hlo").write_text(text)
    parameters = {
        name: sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(getattr(state, f"{name}_params")))
        for name in ("generator", "discriminator")
    }
    facts |= {"fits": True, "compile_s": round(time.perf_counter() - begin, 1), "parameter_bytes": parameters}
    return facts | read_program(
        text, compiled.cost_analysis(), compiled.memory_analysis(), topology=topology, facts=facts
    )


def read_program(text: str, cost: Any, memory: Any, *, topology: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Memory, traffic, collectives, padding and the roofline of a compiled program."""
    chip = CHIPS[topology.partition(":")[0]]
    between, found = collectives(text), convolutions(text)
    plain, padded = traffic_bytes(text)
    reduced = sum(array.bytes for instruction in between for array in instruction.results)
    line = roofline(chip, flops=cost["flops"], hbm_bytes=padded, reduced_bytes=reduced, devices=facts["devices"])
    total = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )
    images = facts["per_device_batch"]
    return {
        "memory_bytes": {
            "total": total,
            "temporary": memory.temp_size_in_bytes,
            "arguments": memory.argument_size_in_bytes,
            "donated": memory.alias_size_in_bytes,
            "code": memory.generated_code_size_in_bytes,
            "hbm": chip.hbm_bytes / chip.devices,
        },
        "flops": cost["flops"],
        "bytes_accessed_xla": cost["bytes accessed"],
        "hbm_bytes": padded,
        "hbm_bytes_unpadded": plain,
        "hbm_bytes_per_image": padded / images,
        "collectives": _count_collectives(
            between, smallest_network=min(filter(None, facts["parameter_bytes"].values()))
        ),
        "reduced_bytes": reduced,
        "convolutions": len(found),
        "convolution_padding": padding(found),
        "convolution_shapes": _shapes(found),
        "roofline_estimate": dataclasses.asdict(line) | {"images_per_s_per_device": images / line.step_s},
    }


def page(results: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    first = results[0]
    lines = [
        f"# The train iteration compiled for {first['topology']}, {first['devices']} devices, without a TPU\n",
        f"`{first['form']}`, variants `{first['variants'] or 'none'}`, {first['dtype']}, {first['image_size_px']} px, "
        f"jax {first['jax']}. Memory, operations and layouts are the compiler's. **Times are an estimate**: a roofline "
        "from published peak figures (`benchmarks/chips.py`); nothing was run on a TPU.\n",
        markdown_table([_row(result) for result in results]),
    ]
    for result in (result for result in results if result["fits"]):
        counts = result["collectives"]
        lines += [
            f"## {result['per_device_batch']} images per device\n",
            "Collectives of one iteration: "
            + ", ".join(f"{entry['count']} {name} ({entry['bytes']} bytes)" for name, entry in counts.items())
            + ".\n",
            f"Convolutions by the memory their results take ({LISTED_CONVOLUTIONS} largest of "
            f"{len(result['convolution_shapes'])} kinds):\n",
            markdown_table(result["convolution_shapes"][:LISTED_CONVOLUTIONS]),
        ]
    return "\n".join(lines)


def _devices(topology: str) -> list[Any]:
    try:
        found = topologies.get_topology_desc(topology_name=topology, platform="tpu").devices
    except (jax.errors.JaxRuntimeError, RuntimeError, NotImplementedError) as error:
        raise RequestError(
            f"--topology={topology}: {str(error).splitlines()[0][:200]}; the compiler comes with "
            "pip install -e '.[tpu-compile]'"
        ) from error
    return list(found)


def _count_collectives(between: list[Instruction], *, smallest_network: int) -> dict[str, dict[str, int]]:
    """Count and bytes by what is exchanged: a network's gradients (by size), batch statistics (by name), sums."""
    counts: dict[str, dict[str, int]] = collections.defaultdict(lambda: {"count": 0, "bytes": 0})
    for instruction in between:
        size = sum(array.bytes for array in instruction.results)
        kind = (
            "gradient" if 2 * size > smallest_network else "batch-statistics" if "norm" in instruction.source else "sum"
        )
        counts[f"{kind} {instruction.opcode}"]["count"] += 1
        counts[f"{kind} {instruction.opcode}"]["bytes"] += size
    return dict(counts)


def _shapes(found: list[Instruction]) -> list[dict[str, Any]]:
    """The convolutions' results grouped by network, shape and layout, the most memory first."""
    groups: dict[tuple[str, str], list[Instruction]] = collections.defaultdict(list)
    for instruction in found:
        array = instruction.results[0]
        network = "discriminator" if "Discriminator" in instruction.source else "generator"
        order = ",".join(str(dimension) for dimension in array.order)
        groups[network, f"{array.dtype}{list(array.shape)} {{{order}}}"].append(instruction)
    rows = [
        {
            "network": network,
            "result": shape,
            "convolutions": len(group),
            "MiB": sum(i.results[0].bytes for i in group) / 2**20,
            "MiB with padding": sum(i.results[0].padded_bytes for i in group) / 2**20,
            "lane padding": group[0].results[0].lane_padding,
            "padding": padding(group),
        }
        for (network, shape), group in groups.items()
    ]
    return sorted(rows, key=lambda row: -row["MiB with padding"])


def _row(result: dict[str, Any]) -> dict[str, Any]:
    row = {"images per device": result["per_device_batch"], "fits": "yes" if result["fits"] else "**no**"}
    if not result["fits"]:
        return row | {"memory GiB": result["refusal"]}
    line, memory = result["roofline_estimate"], result["memory_bytes"]
    return row | {
        "memory GiB": f"{memory['total'] / 2**30:.2f} of {memory['hbm'] / 2**30:.1f}",
        "GFLOP": result["flops"] / 1e9,
        "HBM GB": result["hbm_bytes"] / 1e9,
        "of that padding": f"{1 - result['hbm_bytes_unpadded'] / result['hbm_bytes']:.0%}",
        "HBM MB per image": result["hbm_bytes_per_image"] / 1e6,
        "convolution padding": result["convolution_padding"],
        "all-reduces": sum(entry["count"] for entry in result["collectives"].values()),
        "compute ms (est.)": 1e3 * line["compute_s"],
        "memory ms (est.)": 1e3 * line["memory_s"],
        "collectives ms (est.)": 1e3 * line["collectives_s"],
        "images/s per device (est., at most)": line["images_per_s_per_device"],
        "compile s": result["compile_s"],
    }


def run() -> None:
    """The command line; a request that cannot be carried out ends in one line and code 2."""
    try:
        app.run(main)
    except RequestError as error:
        print(f"tpu_compile: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    run()
