"""The training loop, readable as the algorithm."""

from __future__ import annotations

import functools
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.errors import JaxRuntimeError
from ml_collections import ConfigDict

from data_pipeline.batches import steps_per_epoch, train_batches
from data_pipeline.grid import GridSplit
from data_pipeline.text import duration
from msanet_jax.evaluation.evaluate import score_validation
from msanet_jax.evaluation.field_maps import field_probability
from msanet_jax.evaluation.results import Evaluation
from msanet_jax.report.case_pictures import validation_panels
from msanet_jax.runtime.hosts import raise_if_lost_peer, share, stop_agreed
from msanet_jax.training.checkpoints import Checkpoints
from msanet_jax.training.devices import (
    HostBatch,
    compile_probability,
    compile_statistics,
    compile_train_iteration,
    place_state,
)
from msanet_jax.training.signals import Preempted, StopOnSigterm
from msanet_jax.training.start import start_state
from msanet_jax.training.state import Networks, TrainState, create_networks, create_state
from msanet_jax.training.steps import Metrics
from msanet_jax.training.telemetry import Telemetry

LOG = logging.getLogger(__name__)

Iterate = Callable[[TrainState, HostBatch], tuple[TrainState, Metrics]]

COMPILING_EVERY_S = 30.0
"""How often a compilation says that it still goes on."""

PROBE_STEPS = 5
"""Iterations timed after compilation, each on its own, before the time to the end is announced on a CPU."""


class Trained(NamedTuple):
    """States to predict with, by their averaged parameters.

    Attributes:
      best: that of the best validation.
      last: that of the last step.
    """

    best: TrainState
    last: TrainState


def train(config: ConfigDict, *, run: Path, training: GridSplit, validation: GridSplit) -> Trained:
    """Trains generator and discriminator and leaves checkpoints, history and TensorBoard events in `run`.

    Resumes from the newest checkpoint; batch k and every random number depend only on (seed, k), so a resumed run
    ends as an unbroken one. With several processes each calls it and reads its share of every batch.

    Args:
      config: the recipe.
      run: folder prepared by `folder.prepare`.
      training: images the networks learn from, on the field's own grid.
      validation: images of other patients, on the field's grid; they choose the best checkpoint.

    Returns:
      The state of the best checkpoint and that of the last step.

    Raises:
      Preempted: SIGTERM arrived.
      hosts.LostPeerError: another process is gone.
      telemetry.NonFiniteLossError: a loss is NaN or infinite.
      RequestError: `train.init_from` gives no start for this network.
      checkpoints.CheckpointError: the checkpoints are damaged or of another network.
    """
    networks = create_networks(config, steps_per_epoch=steps_per_epoch(len(training), config.train.batch_size))
    checkpoints = Checkpoints(run, config)
    state = share(create_state(networks))
    if (resumed := checkpoints.restore_latest(state)) is not None:
        state = resumed
        LOG.info("resumed from step %d", int(state.step))
    else:
        state = start_state(state, config)
    telemetry = Telemetry(run, networks, state)
    try:
        with StopOnSigterm() as stop:
            state = _loop(networks, place_state(state), training, validation, checkpoints, telemetry, stop)
        checkpoints.wait()
        last = averaged(networks, training)(state)
        return Trained(best=place_state(checkpoints.restore_best(state)), last=last)
    except JaxRuntimeError as error:
        raise_if_lost_peer(error)
        raise
    finally:
        checkpoints.close()
        telemetry.close()


def _loop(
    networks: Networks,
    state: TrainState,
    training: GridSplit,
    validation: GridSplit,
    checkpoints: Checkpoints,
    telemetry: Telemetry,
    stop: StopOnSigterm,
) -> TrainState:
    iterate = announced(compile_train_iteration(networks), telemetry.message)
    validate = Validator(networks, averaged(networks, training), validation, checkpoints, telemetry)
    due = Due(networks)
    announce = TimeToEnd(networks, first_step=int(state.step), telemetry=telemetry)
    for step, batch in _batches(networks, training, first_step=int(state.step)):
        state, metrics = iterate(state, batch)
        telemetry.record(step, metrics)
        announce(step, state)
        stopping = stop.requested or stop_agreed(step)
        if due.log(step) or due.checkpoint(step) or stopping:
            telemetry.flush(last_checkpoint=checkpoints.latest_step())
        if due.validation(step):
            validate(step, state)
        if due.checkpoint(step) or stopping:
            checkpoints.save_latest(state)
        if stopping:
            checkpoints.wait()
            raise Preempted(f"stopped at step {step} of {networks.total_steps}, saved")
    return state


def announced(iterate: Iterate, say: Callable[[str], None], *, every_s: float = COMPILING_EVERY_S) -> Iterate:
    """`iterate`, with a line before its first call, which compiles, one every `every_s` seconds, and one after it."""
    calls = 0

    def call(state: TrainState, batch: HostBatch) -> tuple[TrainState, Metrics]:
        nonlocal calls
        calls += 1
        if calls > 1:
            return iterate(state, batch)
        say("compiling the training step; without a kept program this takes a minute or two on a CPU")
        begin, over = time.perf_counter(), threading.Event()

        def tell() -> None:
            while not over.wait(every_s):
                say(f"compiling ... {time.perf_counter() - begin:.0f} s")

        teller = threading.Thread(target=tell, name="compiling", daemon=True)
        teller.start()
        try:
            outputs = jax.block_until_ready(iterate(state, batch))
        finally:
            over.set()
            teller.join()
        say(f"compiled, first step done, in {time.perf_counter() - begin:.0f} s")
        return outputs

    return call


def _batches(
    networks: Networks, training: GridSplit, *, first_step: int
) -> Iterator[tuple[int, Mapping[str, np.ndarray]]]:
    """(step, batch) from the step after `first_step` to the last; nothing is read when nothing is left."""
    if first_step >= networks.total_steps:
        return
    config = networks.config
    batches = train_batches(
        training,
        augment=config.augment,
        image_size_px=config.data.image_size_px,
        batch_size=config.train.batch_size,
        seed=config.seed,
        first_batch=first_step,
        host=jax.process_index(),
        hosts=jax.process_count(),
        shares=config.loss.equal_lesions,
    )
    yield from zip(range(first_step + 1, networks.total_steps + 1), batches, strict=False)


def averaged(networks: Networks, training: GridSplit) -> Callable[[TrainState], TrainState]:
    """State -> that state with the statistics that its averaged parameters have on training batches.

    The running statistics are of the parameters of the last steps, not of their average. `train.norm_batches` batches
    of the first pass, augmented, give the mean of their means and of their variances; 0 leaves the state as it is.
    """
    count = networks.config.train.norm_batches
    if not count:
        return lambda state: state
    compiled = compile_statistics(networks)

    def with_own_statistics(state: TrainState) -> TrainState:
        batches = itertools.islice(_batches(networks, training, first_step=0), count)
        found = [compiled(state, batch) for _, batch in batches]
        mean = jax.tree.map(lambda *values: sum(values) / len(values), *found)
        return place_state(state.replace(generator_statistics=mean))

    return with_own_statistics


class Due:
    """Which steps log, validate and save; the last step does all three."""

    def __init__(self, networks: Networks) -> None:
        config, per_epoch = networks.config.train, networks.steps_per_epoch
        self._last = networks.total_steps
        self._log = config.log_every_steps
        self._validation = max(1, round(config.validate_every_epochs * per_epoch))
        self._checkpoint = max(1, round(config.checkpoint_every_epochs * per_epoch))

    def log(self, step: int) -> bool:
        """Whether metrics are read back after `step`."""
        return step % self._log == 0 or step == self._last

    def validation(self, step: int) -> bool:
        """Whether the validation patients are scored after `step`."""
        return step % self._validation == 0 or step == self._last

    def checkpoint(self, step: int) -> bool:
        """Whether the state is saved after `step`; a validated state always is."""
        return step % self._checkpoint == 0 or self.validation(step)


class Validator:
    """Scores the moving-average generator and keeps it if it is the best so far."""

    def __init__(
        self,
        networks: Networks,
        prepared: Callable[[TrainState], TrainState],
        validation: GridSplit,
        checkpoints: Checkpoints,
        telemetry: Telemetry,
    ) -> None:
        self._networks = networks
        self._prepared = prepared
        self._validation = validation
        self._checkpoints = checkpoints
        self._telemetry = telemetry
        self._network = compile_probability(networks)
        self._images_every = max(1, round(networks.config.train.image_every_epochs * networks.steps_per_epoch))
        self._images_next = 0

    def __call__(self, step: int, state: TrainState) -> Evaluation:
        """Evaluates `state`, writes scores and panels, saves the checkpoint if it is the best."""
        config, state = self._networks.config, self._prepared(state)
        probability = field_probability(functools.partial(self._network, state), config.data.image_size_px)
        evaluation = score_validation(probability, self._validation, config=config)
        self._telemetry.validation(step, evaluation.summary.values)
        if evaluation.summary["dsc_pooled"] > self._checkpoints.best().dsc_pooled:
            self._checkpoints.save_best(state, dsc_pooled=evaluation.summary["dsc_pooled"])
        if step >= self._images_next or step == self._networks.total_steps:
            self._telemetry.images(step, validation_panels(evaluation, self._validation))
            self._images_next = step + self._images_every
        self._telemetry.resume_clock()
        return evaluation


class TimeToEnd:
    """On a CPU, says after the first iterations how long the run will take and that a shorter recipe exists."""

    def __init__(self, networks: Networks, *, first_step: int, telemetry: Telemetry) -> None:
        self._networks = networks
        self._compiled_step = first_step + 1
        self._telemetry = telemetry
        self._finished: list[float] = []
        self._active = jax.default_backend() == "cpu"

    def __call__(self, step: int, state: TrainState) -> None:
        """Called after every iteration; speaks once."""
        if not self._active:
            return
        jax.block_until_ready(state.step)
        self._finished.append(time.perf_counter())
        if step < self._compiled_step + PROBE_STEPS:
            return
        # The median: the first iterations also fill the queues of the data pipeline.
        seconds = float(np.median(np.diff(self._finished))) * (self._networks.total_steps - step)
        advice = (
            ""
            if {"cpu", "smoke"} & set(self._networks.config.variants.split(","))
            else "; the full recipe is meant for TPU or GPU, --config=configs/msanet.py:cpu fits a CPU"
        )
        self._telemetry.message(f"no accelerator found: training on the CPU takes {duration(seconds)}{advice}")
        self._active = False
