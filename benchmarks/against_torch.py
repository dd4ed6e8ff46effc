"""Training step and inference beside the PyTorch twin, in one process, run by run in turn.

python -m benchmarks.against_torch [--quick] [--out=FOLDER]

For each setting: the alternating iteration and the inference of both, equal weights, equal batch, float32, all cores;
PyTorch eager and through torch.compile, channels_last, fused AdamW. A ratio is our time over PyTorch's, the faster of
eager and compiled; below 1 we are faster. Every repetition measures each opponent once, and the ratio is the median of
the repetitions' ratios, so that a machine that slows down slows all of them. Both sides run under the same allocator
and on the processor: JAX is kept there where the machine has an accelerator too (`backends` in the results).

`train_gflop` and `inference_gflop` are the operations that XLA counts in our compiled programs. Over a median time and
over `gemm_gflops`, the rate of the largest matrix product, they give `..._share_of_gemm`: the share of the machine's
measured peak that a side reaches. PyTorch's share takes our count, the work being the same.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from ml_collections import ConfigDict

from benchmarks import monai_unet, twin, twin_training
from benchmarks.interleave import interleaved, median_ratio
from benchmarks.peak import compiled_gflop, describe_backends, gemm_gflops, share_of_peak, use_cpu
from benchmarks.tables import markdown_table, write_results
from configs.msanet import get_config
from msanet_jax.devices import compile_train_iteration, place_state
from msanet_jax.huge_pages import restart_with_huge_pages
from msanet_jax.state import create_networks, create_state
from msanet_jax.steps import evaluation_step, train_iteration

SETTINGS: dict[str, tuple[str, Mapping[str, int]]] = {
    "width 16, 256 px, batch 4": ("", {"width": 16, "batch": 4}),
    "width 32, 256 px, batch 4": ("", {"width": 32, "batch": 4}),
    "cpu": ("cpu", {}),
}
"""Name: variants of configs/msanet.py and what is changed in them."""


def main() -> None:
    """Measures, prints JSON and writes JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the cpu setting only, eager only, three repetitions")
    parser.add_argument("--eager", action="store_true", help="leave out torch.compile, which takes minutes to start")
    parser.add_argument("--setting", action="append", choices=list(SETTINGS), help="only this one (repeatable)")
    parser.add_argument("--repeats", type=int, default=9, help="paired repetitions (default: 9)")
    parser.add_argument("--out", type=Path, default=Path("benchmark_results"), help="folder of the results")
    options = parser.parse_args()
    use_cpu()
    names = ["cpu"] if options.quick else options.setting or list(SETTINGS)
    repeats = 3 if options.quick else options.repeats
    peak, compiled = gemm_gflops(), not (options.quick or options.eager)
    rows = [
        {"setting": name, **measure_setting(_config(name), repeats=repeats, with_compiled=compiled, peak_gflops=peak)}
        for name in names
    ]
    result = {
        "machine": platform.processor() or platform.machine(),
        "backends": describe_backends(),
        "jax": jax.__version__,
        "torch": torch.__version__,
        "gemm_gflops": peak,
        "settings": rows,
        "monai": monai_unet.measure(repeats=repeats),
    }
    print(json.dumps(result, indent=2))
    write_results(options.out, "against_torch", data=result, page=_page(result))


def measure_setting(config: ConfigDict, *, repeats: int, with_compiled: bool, peak_gflops: float) -> dict[str, Any]:
    """Times of every opponent in milliseconds, ratios with their spread, shares of the peak, the adversary's cost."""
    train, inference = opponents(config, compiled=False)
    if with_compiled:
        more_train, more_inference = opponents(config, compiled=True)
        train["torch compiled"] = more_train["torch"]
        inference["torch compiled"] = more_inference["torch"]
    # A copy: what is compiled later must not see this change.
    alone = config.copy_and_resolve_references()
    alone.adversary.enabled = False
    train["jax, generator only"] = opponents(alone, compiled=False)[0]["jax"]
    train_ms, inference_ms = interleaved(train, repeats), interleaved(inference, repeats)
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


def opponents(
    config: ConfigDict, *, compiled: bool
) -> tuple[dict[str, Callable[[], object]], dict[str, Callable[[], object]]]:
    """(training, inference), each `jax` and `torch`: functions that do one step and wait for it."""
    networks = create_networks(config, steps_per_epoch=10)
    state = create_state(networks)
    image, mask = _batch(config)
    torch_image, torch_mask = (torch.tensor(array).permute(0, 3, 1, 2) for array in (image, mask))

    generator = twin.Generator(config.generator)
    twin.load_flax(generator, state.generator_params, state.generator_statistics)
    evaluated = twin.Generator(config.generator)
    twin.load_flax(evaluated, state.generator_params, state.generator_statistics)
    predict = torch.compile(evaluated.eval()) if compiled else evaluated.eval()
    discriminator = None
    if config.adversary.enabled:
        discriminator = twin.Discriminator(config.discriminator)
        twin.load_flax(discriminator, state.discriminator_params, state.discriminator_statistics)
    trainer = twin_training.Trainer(config, generator, discriminator, compiled=compiled)

    # The state is an argument, as in the product: closed over, its parameters would be constants to the compiler.
    evaluate = jax.jit(functools.partial(evaluation_step, networks))
    iterate, current = compile_train_iteration(networks), [place_state(jax.tree.map(jnp.copy, state))]

    def train_jax() -> None:
        current[0], metrics = iterate(current[0], {"image": image, "mask": mask})
        jax.block_until_ready(metrics)

    def predict_torch() -> torch.Tensor:
        with torch.inference_mode():
            return torch.sigmoid(predict(torch_image)[0])

    return (
        {"jax": train_jax, "torch": lambda: trainer.iterate(torch_image, torch_mask)},
        {"jax": lambda: jax.block_until_ready(evaluate(state, image)), "torch": predict_torch},
    )


def operations(config: ConfigDict) -> tuple[float, float]:
    """(training iteration, inference) of one batch in 10^9 floating-point operations."""
    networks = create_networks(config, steps_per_epoch=10)
    state, (image, mask) = create_state(networks), _batch(config)
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


def _batch(config: ConfigDict) -> tuple[np.ndarray, np.ndarray]:
    random, side = np.random.default_rng(0), config.data.image_size_px
    shape = (config.train.batch_size, side, side, 1)
    return random.normal(1.0, 0.3, shape).astype(np.float32), (random.random(shape) < 0.05).astype(np.float32)


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
        f"{markdown_table(shares)}\n{markdown_table([result['monai']])}"
    )


if __name__ == "__main__":
    restart_with_huge_pages()
    main()
