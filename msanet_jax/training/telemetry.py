"""What a run tells: TensorBoard through clu, history.jsonl, a progress bar, and the stop on a non-finite loss."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from data_pipeline.errors import RequestError
from data_pipeline.terminal.progress import progress
from msanet_jax.runs.history import History, HistoryRow
from msanet_jax.runs.recipe import flatten
from msanet_jax.runtime.hosts import is_primary
from msanet_jax.training import board
from msanet_jax.training.state import Networks, TrainState
from msanet_jax.training.steps import Metrics


class NonFiniteLossError(RequestError):
    """A loss became NaN or infinite."""


class Telemetry:
    """Collects the metrics of every iteration on the device and reads them back only when they are logged.

    With several processes the primary alone writes and shows; all check that the losses are finite.

    Args:
      run: the run's folder.
      networks: for schedules and the config.
      state: for the parameter overview and the step to go on from.
    """

    def __init__(self, run: Path, networks: Networks, state: TrainState) -> None:
        config = networks.config
        self._networks = networks
        self._history: History | None = None
        self._writer = board.nowhere()
        if is_primary():
            self._history = History(run / "history.jsonl", resumed_step=int(state.step))
            self._writer = board.writer(run)
        self._writer.write_hparams({key: _plain(value) for key, value in flatten(config).items()})
        if int(state.step) == 0:
            overview = {"generator": state.generator_params, "discriminator": state.discriminator_params}
            self._writer.write_texts(0, {"parameters": board.parameter_table(overview)})
        self._pending: list[tuple[int, Metrics]] = []
        self._last_validation = ""
        self._since = time.perf_counter()
        self._bar = progress(
            title="training",
            unit="step",
            total=networks.total_steps,
            initial=int(state.step),
            quiet=not is_primary(),
        )

    def record(self, step: int, metrics: Metrics) -> None:
        """Takes the metrics of iteration `step` (1 is the first) without waiting for them."""
        self._pending.append((step, metrics))
        self._bar.update()

    def flush(self, *, last_checkpoint: int | None) -> dict[str, float]:
        """Writes the mean of what was recorded since the last call.

        Raises:
          NonFiniteLossError: names the first iteration with a non-finite loss and the last good checkpoint.
        """
        if not self._pending:
            return {}
        rows = [(step, jax.tree.map(float, jax.device_get(metrics))) for step, metrics in self._pending]
        self._pending = []
        for step, metrics in rows:
            self._check_finite(step, metrics, last_checkpoint)
        elapsed = time.perf_counter() - self._since
        means = {key: float(np.mean([metrics[key] for _, metrics in rows])) for key in rows[-1][1]}
        means["images_per_second"] = len(rows) * self._networks.config.train.batch_size / elapsed
        step = rows[-1][0]
        self._write(step, "train", means)
        self._show(means)
        self.resume_clock()
        return means

    def validation(self, step: int, summary: Mapping[str, float]) -> None:
        """Writes the scores on the validation patients."""
        self._write(step, "validation", dict(summary))
        self._last_validation = f"{summary['dsc_pooled']:.3f}"

    def images(self, step: int, panels: Mapping[str, np.ndarray]) -> None:
        """Writes `[n, rows, columns, 1 or 3]` panels in [0, 1] to TensorBoard."""
        self._writer.write_images(step, panels)

    def message(self, text: str) -> None:
        """Prints a line without breaking the bar."""
        if is_primary():
            self._bar.write(text)

    def resume_clock(self) -> None:
        """Starts the images-per-second clock anew, after something that was not training."""
        self._since = time.perf_counter()

    def close(self) -> None:
        """Ends bar and writers."""
        self._bar.close()
        self._writer.flush()
        self._writer.close()

    def _write(self, step: int, kind: Literal["train", "validation"], scalars: dict[str, float]) -> None:
        epoch = step / self._networks.steps_per_epoch
        if self._history is not None:
            self._history.append(HistoryRow(step, epoch, kind, scalars))
        self._writer.write_scalars(step, board.tags(kind, scalars))

    def _show(self, means: Mapping[str, float]) -> None:
        fields = {"loss": f"{means['supervised_loss']:.3f}"}
        if self._last_validation:
            fields["val DSC"] = self._last_validation
        fields["img/s"] = f"{means['images_per_second']:.1f}"
        if (objective := self._networks.config.adversary.objective) in means:
            fields["adv"] = f"{means[objective]:.4f}"
        self._bar.set_postfix(fields, refresh=False)

    def _check_finite(self, step: int, metrics: Mapping[str, float], last_checkpoint: int | None) -> None:
        if all(math.isfinite(value) for value in metrics.values()):
            return
        losses = ", ".join(f"{key}={value:.4g}" for key, value in metrics.items() if "loss" in key or "l1" in key)
        good = "none yet" if last_checkpoint is None else f"step {last_checkpoint}"
        raise NonFiniteLossError(
            f"non-finite loss at step {step} ({losses}); last good checkpoint: {good}. Lower the learning rates or "
            "adversary.weight, in a new workdir"
        )


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str | bool) else str(value)
