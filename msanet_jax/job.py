"""The main job: data, training, evaluation on the test patients, pictures."""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import platform
import time
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from data_pipeline.batches import steps_per_epoch
from data_pipeline.bone_scans import load_split
from msanet_jax import run_folder
from msanet_jax.devices import check_batch_size, compile_probability, describe_devices
from msanet_jax.evaluate import evaluate, threshold_baseline
from msanet_jax.metrics_file import write_metrics
from msanet_jax.report import write_curves, write_pictures
from msanet_jax.state import create_networks
from msanet_jax.train import train

LOG = logging.getLogger(__name__)

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")
"""Versions written beside a score."""


def train_and_evaluate(config: ConfigDict, *, workdir: str, data_dir: str) -> dict[str, Any]:
    """Trains (or resumes), scores the best checkpoint once on the test patients, and leaves everything in `workdir`.

    Returns:
      What metrics.json holds.

    Raises:
      RequestError: a request that cannot be carried out, in one line.
      train.Preempted: SIGTERM arrived; the state is saved.
    """
    begin = time.perf_counter()
    run = Path(workdir)
    LOG.info("%s", describe_devices())
    check_batch_size(config.train.batch_size, "config.train.batch_size")
    check_batch_size(config.evaluate.batch_size, "config.evaluate.batch_size")
    run_folder.prepare(run, config)
    training, validation, test = (
        load_split(config.data.dataset, split, data_dir, config.data.field) for split in ("train", "validation", "test")
    )
    LOG.info(
        "%s: %d training, %d validation, %d test images",
        config.data.dataset,
        len(training.rows),
        len(validation.rows),
        len(test.rows),
    )
    state = train(config, run=run, training=training, validation=validation)

    networks = create_networks(config, steps_per_epoch=steps_per_epoch(len(training.rows), config.train.batch_size))
    probability = functools.partial(compile_probability(networks), state)
    result = evaluate(probability, test, config=config)
    # A network that has learned from the pixels finds nothing in an empty image; one that has learned an order or a
    # position would go on scoring.
    blank = evaluate(probability, test, config=config, input_zeroed=True)
    metrics = write_metrics(
        run,
        test=result,
        zero_input_dsc_pooled=blank.summary["dsc_pooled"],
        threshold_baseline=threshold_baseline(training, test, config=config),
        provenance={
            "checkpoint_step": int(state.step),
            "wall_seconds": round(time.perf_counter() - begin, 1),
            "devices": describe_devices(),
            "host": platform.machine(),
            "python": platform.python_version(),
            "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
            "seed": config.seed,
            "dataset": config.data.dataset,
            "variants": config.variants,
        },
    )
    write_pictures(run / "pictures", result, test, config)
    write_curves(run / "pictures" / "curves.png", run / "history.jsonl")
    _announce(run, metrics)
    return metrics


def _announce(run: Path, metrics: dict[str, Any]) -> None:
    score, baseline = metrics["test"], metrics["threshold_baseline"]
    low, high = score["intervals"]["dsc_pooled"]
    print(
        f"\ntest patients: DSC {score['dsc_pooled']:.3f} (95 % interval {low:.3f} to {high:.3f}), "
        f"precision {score['precision_pooled']:.3f}, recall {score['recall_pooled']:.3f}; "
        f"best single threshold: DSC {baseline['dsc_pooled']:.3f}\n"
        "Simulated scans: not comparable with the paper's 0.6671. Research software, not for diagnosis.\n"
        f"{run / 'metrics.json'}, {run / 'pictures'}"
    )
