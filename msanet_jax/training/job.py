"""The main job: data, training, evaluation on the test patients, pictures."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import time
from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from data_pipeline.batches import steps_per_epoch
from data_pipeline.datasets import is_simulated
from data_pipeline.folds import load_splits
from data_pipeline.grid import GridSplit
from data_pipeline.splits import SPLITS
from msanet_jax.evaluation.field_maps import Probability, field_probability
from msanet_jax.networks.catalogue import BASELINES
from msanet_jax.report.curves import write_curves
from msanet_jax.runs.folder import LAST, check_same_config, only_run, prepare
from msanet_jax.runs.metrics_file import Metrics
from msanet_jax.runs.notices import picture_notice
from msanet_jax.runtime.hosts import agreed, from_primary, wait_for_all
from msanet_jax.training.acceptance import check_run, data_facts, run_facts
from msanet_jax.training.baselines import fit_baseline
from msanet_jax.training.board import write_test
from msanet_jax.training.devices import compile_probability, describe_devices
from msanet_jax.training.loop import train
from msanet_jax.training.outcome import headline, score_and_write
from msanet_jax.training.start import check_start
from msanet_jax.training.state import create_networks

LOG = logging.getLogger(__name__)

FEW_STEPS = 400
"""Half of those of the recipe `:cpu`; on PhantomBone 1.0.1 420 steps reached a DSC of 0.61, 30 on 14 images 0.11."""
BATCHES_PER_EPOCH = 4
"""At least as many in the batch size that is advised."""


def train_and_evaluate(config: ConfigDict, *, workdir: str, data_dir: str) -> Metrics | None:
    """Trains (or resumes), scores the best checkpoint once on the test patients, and leaves everything in `workdir`.

    With `evaluate.also_last` the state of the last step is scored before it, in the same way, into `workdir`/last.

    Returns:
      What metrics.json holds; None on the other processes of a run than the first, which write no files.

    Raises:
      RequestError: a request that cannot be carried out, in one line.
      signals.Preempted: SIGTERM arrived; the state is saved.
    """
    begin = time.perf_counter()
    agreed(lambda: check_run(config), lambda _: run_facts(config))
    LOG.info("%s", describe_devices())
    run = Path(workdir)
    from_primary(lambda: check_same_config(run, config))
    if not (run / "checkpoints").is_dir():
        from_primary(lambda: check_start(config))
    with contextlib.ExitStack() as stack:
        from_primary(lambda: stack.enter_context(only_run(run)))
        return _train_and_evaluate(config, run, data_dir, begin)


def _train_and_evaluate(config: ConfigDict, run: Path, data_dir: str, begin: float) -> Metrics | None:
    splits = agreed(lambda: _accepted_splits(config, data_dir), data_facts)
    from_primary(lambda: prepare(run, config, version=splits["train"].version))
    LOG.info(
        "%s: %d training, %d validation, %d test images",
        config.data.dataset,
        *(len(splits[name]) for name in SPLITS),
    )
    if (advice := advice_on_steps(len(splits["train"]), config, devices=jax.device_count())) is not None:
        LOG.warning("%s", advice)
    best, last = _fitted(config, run, splits["train"], splits["validation"])
    if config.evaluate.also_last:
        folder = run / LAST
        from_primary(lambda: folder.mkdir(exist_ok=True))
        score_and_write(last.probability, splits, folder=folder, config=config, step=last.step, begin=begin)
    metrics = score_and_write(best.probability, splits, folder=run, config=config, step=best.step, begin=begin)
    if metrics is not None:
        if config.model not in BASELINES:
            write_curves(
                run / "pictures" / "curves.png",
                run / "history.jsonl",
                picture_notice(simulated=is_simulated(config.data.dataset)),
            )
            write_test(run, best.step, metrics.scores.values)
        print(f"\n{headline(metrics, run)}")
    wait_for_all("finished")
    return metrics


def _accepted_splits(config: ConfigDict, data_dir: str) -> dict[str, GridSplit]:
    splits = load_splits(config.data, data_dir)
    if config.model not in BASELINES:
        steps_per_epoch(len(splits["train"]), config.train.batch_size)
    return splits


def advice_on_steps(images: int, config: ConfigDict, *, devices: int) -> str | None:
    """One line where a training set gives so few steps that a network hardly learns; None where there are enough.

    The batch that is advised leaves `BATCHES_PER_EPOCH` of them to a pass, the epochs make `FEW_STEPS`.
    """
    train = config.train
    if config.model in BASELINES or "smoke" in config.variants.split(",") or images < train.batch_size:
        return None
    steps = round(train.total_epochs * (images // train.batch_size))
    if steps >= FEW_STEPS:
        return None
    batch = min(int(train.batch_size), max(1, images // BATCHES_PER_EPOCH // devices) * devices)
    epochs = max(train.total_epochs, math.ceil(FEW_STEPS / (images // batch)))
    return (
        f"{images} training images at batch {train.batch_size} make {steps} steps in all, too few to learn much; "
        f"--config.train.batch_size={batch} --config.train.total_epochs={epochs:g} make "
        f"{round(epochs * (images // batch))}"
    )


class _Fitted(NamedTuple):
    """A model on its training patients, and the step of its checkpoint (0 for a baseline)."""

    probability: Probability
    step: int


def _fitted(config: ConfigDict, run: Path, training: GridSplit, validation: GridSplit) -> tuple[_Fitted, _Fitted]:
    """The best checkpoint and the last state; of a baseline the same twice."""
    if config.model in BASELINES:
        baseline = fit_baseline(config.model, training=training, image_size_px=config.data.image_size_px)
        return _Fitted(baseline, 0), _Fitted(baseline, 0)
    trained = train(config, run=run, training=training, validation=validation)
    networks = create_networks(config, steps_per_epoch=steps_per_epoch(len(training), config.train.batch_size))
    compiled = compile_probability(networks)
    best, last = (
        _Fitted(field_probability(functools.partial(compiled, state), config.data.image_size_px), int(state.step))
        for state in trained
    )
    return best, last
