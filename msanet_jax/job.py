"""The main job: data, training, evaluation on the test patients, pictures."""

from __future__ import annotations

import functools
import logging
import time
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from data_pipeline.batches import steps_per_epoch
from data_pipeline.bone_scans import load_split
from msanet_jax import run_folder
from msanet_jax.devices import check_batch_size, compile_probability, describe_devices
from msanet_jax.report import write_curves
from msanet_jax.scoring import headline, score_and_write
from msanet_jax.state import create_networks
from msanet_jax.train import train

LOG = logging.getLogger(__name__)


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
    _, metrics = score_and_write(
        functools.partial(compile_probability(networks), state),
        {"train": training, "validation": validation, "test": test},
        folder=run,
        config=config,
        step=int(state.step),
        begin=begin,
    )
    write_curves(run / "pictures" / "curves.png", run / "history.jsonl")
    print(f"\n{headline(metrics, run)}")
    return metrics
