"""Training step and inference beside the PyTorch twin, step by step in turn, each in a process of its own.

python -m benchmarks.against_torch [--quick] [--out=FOLDER]

For each setting: the alternating iteration and the inference of both, equal weights, equal batch, float32, all cores;
PyTorch eager and through torch.compile, channels_last, fused AdamW. A ratio is our time over PyTorch's, the faster of
eager and compiled; below 1 we are faster. Every repetition measures each opponent once, and the ratio is the median of
the repetitions' ratios, so that a machine that slows down slows all of them. Both sides run under the same settings of
the allocator and on the processor: JAX is kept there where the machine has an accelerator too (`backends` in the
results). Inference is the product's own way from images to probabilities, on all cores.

`train_gflop` and `inference_gflop` are the operations that XLA counts in our compiled programs. Over a median time and
over `gemm_gflops`, the rate of the largest matrix product, they give `..._share_of_gemm`: the share of the machine's
measured peak that a side reaches. PyTorch's share takes our count, the work being the same.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.both_sides import jax_steps, random_images, torch_steps
from benchmarks.extras import require
from benchmarks.interleave import interleaved, median_ratio
from benchmarks.opponents.process import Opponent, Steps
from benchmarks.peak import compiled_gflop, describe_backends, gemm_gflops, share_of_peak, use_cpu
from benchmarks.tables import markdown_table, write_results
from configs.msanet import get_config
from msanet_jax.runtime.huge_pages import restart_with_huge_pages
from msanet_jax.training.state import create_networks, create_state
from msanet_jax.training.steps import evaluation_step, train_iteration

SETTINGS: dict[str, tuple[str, Mapping[str, int]]] = {
    "width16": ("", {"width": 16, "batch": 4}),
    "recipe": ("", {"batch": 4}),
    "width32": ("", {"width": 32, "batch": 4}),
    "cpu": ("cpu", {}),
}
"""Name: variants of configs/msanet.py and what is changed in them."""


def main() -> None:
    """Measures, prints JSON and writes JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the cpu setting only, eager only, three repetitions")
    parser.add_argument("--eager", action="store_true", help="leave out torch.compile, which takes minutes to start")
    listing = "; ".join(map(_describe, SETTINGS))
    parser.add_argument(
        "--setting",
        action="append",
        choices=list(SETTINGS),
        metavar="NAME",
        help=f"only this one, repeatable: {listing}",
    )
    parser.add_argument("--repeats", type=int, default=9, help="paired repetitions (default: 9)")
    parser.add_argument("--out", type=Path, default=Path("benchmark_results"), help="folder of the results")
    options = parser.parse_args()
    require(parser, "torch", "monai", extra="bench")
    use_cpu()
    names = ["cpu"] if options.quick else options.setting or list(SETTINGS)
    repeats = 3 if options.quick else options.repeats
    peak, compiled = gemm_gflops(), not (options.quick or options.eager)
    result: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "backends": describe_backends(),
        "jax": jax.__version__,
        "torch": version("torch"),
        "gemm_gflops": peak,
        "settings": [],
    }
    for name in names:
        row = measure_setting(_config(name), repeats=repeats, with_compiled=compiled, peak_gflops=peak)
        result["settings"].append({"setting": _describe(name), **row})
        # After each: a setting takes minutes, and whoever stops the run keeps what it has.
        write_results(options.out, "against_torch", data=result, page=_page(result))
    from benchmarks.opponents import monai_unet  # needs what `require` asked for

    result["monai"] = monai_unet.measure(repeats=repeats)
    print(json.dumps(result, indent=2))
    write_results(options.out, "against_torch", data=result, page=_page(result))


def measure_setting(config: ConfigDict, *, repeats: int, with_compiled: bool, peak_gflops: float) -> dict[str, Any]:
    """Times of every opponent in milliseconds, ratios with their spread, shares of the peak, the adversary's cost."""
    # A copy: what is compiled later must not see this change.
    alone = config.copy_and_resolve_references()
    alone.adversary.enabled = False
    makers: dict[str, Callable[[], Steps]] = {
        "jax": functools.partial(jax_steps, config),
        "torch": functools.partial(torch_steps, config, compiled=False),
        "jax, generator only": functools.partial(jax_steps, alone),
    }
    if with_compiled:
        makers["torch compiled"] = functools.partial(torch_steps, config, compiled=True)
    with contextlib.ExitStack() as stack:
        rivals = {name: stack.enter_context(Opponent(make)) for name, make in makers.items()}
        train_ms = interleaved({name: functools.partial(one.step, "train") for name, one in rivals.items()}, repeats)
        del rivals["jax, generator only"]  # its inference is the other's
        infer = {name: functools.partial(one.step, "inference") for name, one in rivals.items()}
        inference_ms = interleaved(infer, repeats)
    train_gflop, inference_gflop = operations(config)
    return {
        **_ratio("train", train_ms),
        **_ratio("inference", inference_ms),
        **_shares("train", train_ms, train_gflop, peak_gflops),
        **_shares("inference", inference_ms, inference_gflop, peak_gflops),
        "adversary_overhead": median_ratio(train_ms["jax"], train_ms["jax, generator only"]) - 1.0,
        "train_ms": {key: float(np.median(value)) for key, value in train_ms.items()},
        "inference_ms": {key: float(np.median(value)) for key, value in inference_ms.items()},
    }


def operations(config: ConfigDict) -> tuple[float, float]:
    """(training iteration, inference) of one batch in 10^9 floating-point operations."""
    networks = create_networks(config, steps_per_epoch=10)
    state, (image, mask) = create_state(networks), random_images(config)
    iteration = functools.partial(train_iteration, networks, mapped=False)
    return (
        compiled_gflop(iteration, state, {"image": image, "mask": mask}),
        compiled_gflop(functools.partial(evaluation_step, networks), state, image),
    )


def _ratio(kind: str, times: Mapping[str, list[float]]) -> dict[str, Any]:
    rivals = [name for name in times if name.startswith("torch")]
    fastest = min(rivals, key=lambda name: float(np.median(times[name])))
    ratios = np.array(times["jax"]) / np.array(times[fastest])
    low, high = np.quantile(ratios, [0.1, 0.9])
    return {
        f"{kind}_ratio": float(np.median(ratios)),
        f"{kind}_ratio_spread": [float(low), float(high)],
        f"{kind}_opponent": fastest,
    }


def _shares(kind: str, times: Mapping[str, list[float]], gflop: float, peak_gflops: float) -> dict[str, Any]:
    same_work = {name: float(np.median(times[name])) for name in times if name != "jax, generator only"}
    shares = {name: share_of_peak(gflop, median, peak_gflops) for name, median in same_work.items()}
    return {f"{kind}_gflop": gflop, f"{kind}_share_of_gemm": shares}


def _config(name: str) -> ConfigDict:
    variants, changes = SETTINGS[name]
    config = get_config(variants)
    config.generator.width = changes.get("width", config.generator.width)
    config.train.batch_size = changes.get("batch", config.train.batch_size)
    return config


def _describe(name: str) -> str:
    config = _config(name)
    data, train = config.data, config.train
    return f"{name} (width {config.generator.width}, {data.image_size_px} px, batch {train.batch_size})"


def _page(result: Mapping[str, Any]) -> str:
    keys = ("setting", "train_ratio", "inference_ratio", "adversary_overhead", "train_opponent", "inference_opponent")
    rows = [{key: row[key] for key in keys} for row in result["settings"]]
    shares = [
        {"setting": row["setting"], "step": kind, "GFLOP": row[f"{kind}_gflop"], **row[f"{kind}_share_of_gemm"]}
        for kind in ("train", "inference")
        for row in result["settings"]
    ]
    return (
        f"{result['machine']}; {result['backends']}; jax {result['jax']}, torch {result['torch']}\n\n"
        f"{markdown_table(rows)}\nShares of the largest matrix product's {result['gemm_gflops']:.0f} GFLOP/s:\n\n"
        f"{markdown_table(shares)}\n" + (markdown_table([result["monai"]]) if "monai" in result else "")
    )


if __name__ == "__main__":
    restart_with_huge_pages()
    main()
