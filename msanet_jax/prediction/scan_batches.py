"""Scans one after the other -> batches through a model -> what was found on each, in order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np

from data_pipeline.errors import RequestError
from msanet_jax.prediction.segmentation import Place, Segmentation, find_place, model_input, segmentation
from msanet_jax.prediction.sources import NamedScan
from msanet_jax.trained.model import Model


def segment_scans(
    model: Model,
    scans: Iterator[NamedScan],
    threshold: float,
    fail: Callable[[NamedScan, Exception], None] | None = None,
) -> Iterator[tuple[NamedScan, Segmentation]]:
    """Runs a model over scans in batches and yields every scan with what was found, in order.

    Where a batch fails, its scans are tried one by one: a failure is that of one scan, or of the batch's size.

    Args:
      model: the network.
      scans: what to segment.
      threshold: lesion is above it.
      fail: told of scans that raised; without it they raise.

    Raises:
      RequestError: the model is of no use for any scan of the first batch.
    """
    for number, batch in enumerate(_batches(scans, model, fail)):
        fields = np.stack([field for _, _, field in batch])
        missing = model.batch_size - len(batch)
        if number > 0 and missing > 0:  # a last, smaller batch is padded, so that nothing is compiled twice
            fields = np.concatenate([fields, np.zeros((missing, *fields.shape[1:]), np.float32)])
        probabilities: list[np.ndarray | Exception]
        try:
            probabilities = list(_checked(model, fields)[: len(batch)])
        except Exception as error:
            alone: list[np.ndarray | Exception] = [error]
            if len(batch) > 1:
                alone = [_attempted(model, field[None]) for _, _, field in batch]
            if fail is None or (number == 0 and all(isinstance(one, RequestError) for one in alone)):
                raise
            probabilities = alone
        for (item, place, _), probability in zip(batch, probabilities, strict=True):
            with _failures_told(item, fail) as told:
                if isinstance(probability, Exception):
                    raise probability
                found = segmentation(item.scan, place, probability, threshold=threshold, model=model)
            if not told:
                yield item, found


def _checked(model: Model, fields: np.ndarray) -> np.ndarray:
    probabilities = model.probability(fields)
    if not np.isfinite(probabilities).all():
        raise RequestError("the network gives values that are no numbers: its checkpoint is of no use, take another")
    return probabilities


def _attempted(model: Model, field: np.ndarray) -> np.ndarray | Exception:
    try:
        return np.asarray(_checked(model, field)[0])
    except Exception as error:
        return error


@contextlib.contextmanager
def _failures_told(item: NamedScan, fail: Callable[[NamedScan, Exception], None] | None) -> Iterator[list[Exception]]:
    """Yields a list that holds the exception afterwards, if there was one and somebody is to be told."""
    told: list[Exception] = []
    try:
        yield told
    except Exception as error:
        if fail is None:
            raise
        told.append(error)
        fail(item, error)


def _batches(
    scans: Iterator[NamedScan], model: Model, fail: Callable[[NamedScan, Exception], None] | None
) -> Iterator[list[tuple[NamedScan, Place, np.ndarray]]]:
    batch: list[tuple[NamedScan, Place, np.ndarray]] = []
    for item in scans:
        with _failures_told(item, fail) as told:
            place = find_place(item.scan, model.field)
            field = model_input(item.scan, place, model.field)
        if told:
            continue
        batch.append((item, place, field))
        if len(batch) == model.batch_size:
            yield batch
            batch = []
    if batch:
        yield batch
