"""Draws and writes the results of scans, in other processes where there are many: most of a scan's time goes there."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from data_pipeline.processes import workers
from data_pipeline.readers.pseudonyms import own_key, pseudonym_key
from msanet_jax.prediction.contact_sheet import Tile, thumbnail, tile
from msanet_jax.prediction.files import drawing, save_prediction
from msanet_jax.prediction.overlay import save_panel
from msanet_jax.prediction.segmentation import Segmentation
from msanet_jax.runtime.cores import usable_cores
from msanet_jax.runtime.stopping import NUMBERS

FILES_MIN = 12
"""Fewer are not worth the start of processes."""
_PROCESSES_MAX = 8
"""One process that reads and segments gives no more of them something to do."""
_AHEAD = 2
"""Scans that wait for a process, for each: memory does not grow with the number of scans."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A segmented scan to be written.

    Attributes:
      folder: of the results.
      stem: see `files.OutputNames`.
      result: the segmented scan.
      formats: see `files.save_prediction`, as for the next two.
      header: see there.
      anonymous: see there.
      pictures: folder for the pictures of the pages; None where no page is wanted.
      on_sheet: whether the scan is shown on the contact sheet.
    """

    folder: Path
    stem: str
    result: Segmentation
    formats: Sequence[str]
    header: Any = None
    anonymous: bool = False
    pictures: Path | None = None
    on_sheet: bool = False


@dataclasses.dataclass(frozen=True)
class Saved:
    """What was written of a scan.

    Attributes:
      files: their names.
      notes: what had to be left out of them.
      tile: for the contact sheet.
    """

    files: tuple[str, ...]
    notes: tuple[str, ...]
    tile: Tile | None


def picture_path(pictures: Path, stem: str, size: str) -> Path:
    """Where the picture of a scan lies, `small` for the index or `large` for the patient's page."""
    return pictures / f"{stem}.{size}.png"


def save_scan(job: Job) -> Saved:
    """Writes a scan's files, all or none, and its pictures for the pages.

    Raises:
      OSError: they cannot be written.
    """
    shown = tile(job.result, job.stem) if job.on_sheet else None
    if job.pictures is not None:
        picture_path(job.pictures, job.stem, "small").write_bytes(thumbnail(job.result))
        save_panel(drawing(job.result), picture_path(job.pictures, job.stem, "large"))
    files, notes = save_prediction(
        job.folder, job.stem, job.result, formats=job.formats, header=job.header, anonymous=job.anonymous
    )
    return Saved(tuple(files), tuple(notes), shown)


def worth_it(files: int) -> int:
    """Processes for so many files: one a core, or 1, this process itself."""
    return min(usable_cores(), _PROCESSES_MAX) if files >= FILES_MIN else 1


def save_scans(jobs: Iterable[Job], processes: Callable[[], int]) -> Iterator[Saved | Exception]:
    """Writes scans and yields what became of each, in the order of the jobs; the files are the same in any number.

    A process that dies takes no scan with it: this process writes what is left.

    Args:
      jobs: at most three for each process are drawn before their turn.
      processes: asked at the first job; 1 works in this process.
    """
    with contextlib.ExitStack() as stack:
        submit: Callable[..., Future[Saved]] | None = None
        waiting: deque[tuple[Job, Future[Saved] | None]] = deque()
        number = 0
        for job in jobs:
            if number == 0 and (number := processes()) > 1:
                submit = stack.enter_context(workers(number))
            waiting.append((job, _submitted(submit, job)))
            while waiting and (number == 1 or len(waiting) > (1 + _AHEAD) * number or _is_done(waiting[0][1])):
                yield _outcome(*waiting.popleft())
        while waiting:
            yield _outcome(*waiting.popleft())


def _submitted(submit: Callable[..., Future[Saved]] | None, job: Job) -> Future[Saved] | None:
    if submit is None:
        return None
    with contextlib.suppress(BrokenProcessPool):
        return submit(_save_in_worker, own_key(), job)
    return None


def _is_done(future: Future[Saved] | None) -> bool:
    return future is None or future.done()


def _outcome(job: Job, future: Future[Saved] | None) -> Saved | Exception:
    try:
        if future is not None:
            with contextlib.suppress(BrokenProcessPool):
                return future.result()
        return save_scan(job)
    except Exception as error:  # whatever it is, it is this scan's; the others are none the worse
        return error


def _save_in_worker(key: str | None, job: Job) -> Saved:
    """As `save_scan`, with the caller's key of pseudonyms; a process that is told to stop ends when the scan is whole.

    It must not send its result then: nobody may read it any more, and it would wait for ever.
    """
    told: list[int] = []
    before = {number: signal.signal(number, lambda number, _: told.append(number)) for number in NUMBERS}
    try:
        with pseudonym_key(key) if key else contextlib.nullcontext():
            return save_scan(job)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if told:
            os._exit(1)
