"""Prediction of many whole-body scans as `msanet predict` does it, and its network beside the PyTorch twin's.

python -m benchmarks.predict [--scans=100] [--config=configs/msanet.py:cpu | --checkpoint=RUN] [--out=FOLDER]

The scans are simulated: views of a few patients with their noise drawn again and again, as DICOM files, written before
anything is timed. `scans_per_second` is the whole way from file to results (masks, probabilities, overlays, tables, a
page per patient); `memory_mib` is the process along it, also drawn (predict.png). `network` holds the network alone,
ours and the twin's with the same weights on the same images, in turn, both on the processor. An untrained network marks
no lesion, so that nothing is listed; --checkpoint takes a trained one. Memory comes in
ordinary pages, as with `msanet predict`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.extras import require
from benchmarks.interleave import interleaved, median_ratio
from benchmarks.peak import describe_backends, use_cpu
from benchmarks.pipeline import load_recipe
from benchmarks.streaming import Template, as_model, load, simulate_templates, stream, write_scans
from benchmarks.tables import markdown_table, write_results
from data_pipeline.normalize import bin_counts, binning_factor, normalize
from data_pipeline.pages.palette import BLUE
from msanet_jax.prediction.segmentation import find_place, model_input
from msanet_jax.report.figure import save
from msanet_jax.training.devices import compile_probability
from msanet_jax.training.state import Networks, TrainState


def main() -> None:
    """Measures, prints JSON and writes JSON, Markdown and a plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=100, help="how many (default: 100)")
    parser.add_argument("--patients", type=int, default=4, help="really simulated, two views each (default: 4)")
    parser.add_argument("--config", default="configs/msanet.py:cpu", help="recipe and variants of an untrained network")
    parser.add_argument("--checkpoint", type=Path, help="run folder of a training, in place of --config")
    parser.add_argument("--repeats", type=int, default=9, help="paired repetitions of the network (default: 9)")
    parser.add_argument("--out", type=Path, default=Path("benchmark_results"), help="folder of the results")
    options = parser.parse_args()
    require(parser, "torch", extra="bench")
    use_cpu()
    networks, state = load(load_recipe(options.config), options.checkpoint)
    templates = simulate_templates(options.patients)
    result = {
        "network_of": options.config if options.checkpoint is None else options.checkpoint.name,
        "backends": describe_backends(),
        "simulated_views": len(templates),
        **measure(networks, state, templates, scans=options.scans, repeats=options.repeats),
    }
    print(json.dumps(result, indent=2))
    write_results(options.out, "predict", data=result, page=_page(result))
    draw(result, options.out / "predict.png")


def measure(
    networks: Networks, state: TrainState, templates: Sequence[Template], *, scans: int, repeats: int
) -> dict[str, Any]:
    """Figures of the whole way and, under `network`, of the network alone."""
    with tempfile.TemporaryDirectory() as folder:
        write_scans(Path(folder, "scans"), templates, scans)
        streamed = stream(as_model(networks, state), Path(folder, "scans"), Path(folder, "results"))
    return {**streamed, "network": measure_network(networks, state, templates, repeats=repeats)}


def measure_network(
    networks: Networks, state: TrainState, templates: Sequence[Template], *, repeats: int
) -> dict[str, Any]:
    """Scans per second of either network on batches of the recipe's size, and `ratio`, our time over the twin's."""
    import torch  # here, so that `--help` does without it

    from benchmarks.opponents import twin

    config = networks.config
    images = network_input(networks, templates)
    batch = np.resize(images, (int(config.evaluate.batch_size), *images.shape[1:]))
    theirs = twin.Generator(config.generator)
    twin.load_flax(theirs, state.generator_average, state.generator_statistics)
    theirs.eval()
    ours, torch_batch = compile_probability(networks), torch.tensor(batch).permute(0, 3, 1, 2)

    def predict_torch() -> np.ndarray:
        with torch.inference_mode():
            return torch.sigmoid(theirs(torch_batch)[0])[:, 0].numpy()

    times = interleaved({"jax": lambda: ours(state, batch), "torch": predict_torch}, repeats)
    return {
        "batch": len(batch),
        "image_px": list(batch.shape[1:3]),
        "ratio": median_ratio(times["jax"], times["torch"]),
        "difference_max": float(np.abs(ours(state, batch) - predict_torch()).max()),
        **{f"{side}_scans_per_second": 1e3 * len(batch) / float(np.median(times[side])) for side in times},
    }


def network_input(networks: Networks, templates: Sequence[Template]) -> np.ndarray:
    """The templates' scans as the network sees them, `[n, rows, columns, 1]` float32 normalised."""
    data = networks.config.data
    fields = np.stack([model_input(t.scan, find_place(t.scan, data.field), data.field) for t in templates])
    factor = binning_factor(fields.shape[2], int(data.image_size_px))
    return np.asarray(normalize(bin_counts(fields, factor, xp=np), xp=np), np.float32)[..., None]


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Memory along the prediction."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(result["memory_s"], result["memory_mib"], color=BLUE)
    axes.set_ylim(bottom=0.0, top=1.15 * max(result["memory_mib"]))
    axes.set_xlim(0.0, result["memory_s"][-1])
    axes.set_xlabel(f"seconds, {result['scans']} scans in all")
    axes.set_ylabel("memory of the process, MiB")
    axes.set_title(f"second half less first: {result['memory_growth_mib']:+.1f} MiB", fontsize=10)
    axes.grid(alpha=0.25)
    save(figure, path)


def _page(result: Mapping[str, Any]) -> str:
    whole = {key: value for key, value in result.items() if key not in ("network", "memory_s", "memory_mib")}
    return (
        f"{markdown_table([whole])}\nThe network alone:\n\n{markdown_table([result['network']])}\n"
        f"Simulated scans: {result['simulated_views']} views, their noise drawn again.\n\n![memory](predict.png)\n"
    )


if __name__ == "__main__":
    main()
