"""One worker behind the page: drops wait in a queue and are segmented scan by scan with the model in memory."""

from __future__ import annotations

import contextlib
import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from data_pipeline.errors import RequestError
from msanet_jax.prediction.files import OutputNames
from msanet_jax.prediction.run_file import RUN_FILES
from msanet_jax.prediction.scan_batches import segment_scans
from msanet_jax.prediction.sources import NamedScan, Naming, read_sources
from msanet_jax.web.drops import Drop, State
from msanet_jax.web.model_choice import Models
from msanet_jax.web.uploads import FILE_BYTES_MAX, FILES_MAX
from msanet_jax.web.visit import Visit

LOG = logging.getLogger("msanet")
FORGET_AFTER_S = 3600.0
_LOOK_EVERY_S, _UPLOAD_PAUSE_MAX_S = 2.0, 120.0


class Desk(contextlib.AbstractContextManager["Desk"]):
    """Takes drops, works on one at a time, and forgets everything when nobody looks any more.

    Args:
      models: to choose from.
      folder: private; uploads are removed as soon as they are read.
      limit: bytes of a file.
      forget_after_s: after so many seconds without a page that asks, scans are forgotten.
    """

    def __init__(
        self, models: Models, folder: Path, *, limit: int = FILE_BYTES_MAX, forget_after_s: float = FORGET_AFTER_S
    ) -> None:
        self.models, self.limit = models, limit
        self.visit = Visit(folder)
        self.drops: dict[int, Drop] = {}
        self._dropped = 0
        self.drawing = threading.Lock()
        self._forget_after_s = forget_after_s
        self._asked = time.monotonic()
        self._names = OutputNames(reserved=RUN_FILES)
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Drop | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._work, name="msanet-serve", daemon=True)
        self._worker.start()

    def __exit__(self, *error: object) -> None:
        """Stops after the scan in work."""
        for drop in list(self.drops.values()):
            drop.cancelled.set()
        self._queue.put(None)
        self._worker.join(timeout=30.0)

    def asked(self) -> None:
        """A page is open."""
        self._asked = time.monotonic()

    def take(self, files: list[tuple[str, int]], *, model: int, earlier: bool) -> tuple[Drop, list[int | None]]:
        """A new drop, and its files' numbers (`Drop.announce`).

        Raises:
          RequestError: no such model, or too many files.
        """
        if not 0 <= model < len(self.models.names):
            raise RequestError("there is no such model; load the page again")
        if len(files) > FILES_MAX:
            raise RequestError(f"{len(files)} files at once are too many; drop at most {FILES_MAX}")
        with self._lock:
            self._dropped += 1
            drop = Drop(self._dropped, self._folder(self._dropped), model=model, earlier=earlier)
            self.drops[drop.number] = drop
        return drop, drop.announce(files, limit=self.limit)

    def start(self, drop: Drop) -> None:
        """All its files are there: it waits for its turn."""
        if drop.state == State.UPLOADING:
            drop.state = State.WAITING
            self._queue.put(drop)

    def cancel(self, drop: Drop) -> None:
        """Nothing more of it is wanted; what is segmented stays."""
        drop.cancelled.set()
        if drop.state == State.UPLOADING:
            self._end(drop)

    def clear(self) -> None:
        """Cancels every drop and forgets every scan, and the names of what was dropped."""
        for drop in list(self.drops.values()):
            self.cancel(drop)
        self.visit.clear()
        with self._lock:
            self.drops = {number: drop for number, drop in self.drops.items() if not drop.is_over}
        self._names = OutputNames(reserved=RUN_FILES)

    def _folder(self, number: int) -> Path:
        return self.visit.folder / f"drop{number}"

    def _work(self) -> None:
        while True:
            try:
                drop = self._queue.get(timeout=_LOOK_EVERY_S)
            except queue.Empty:
                self._look_after()
                continue
            if drop is None:
                return
            if not drop.cancelled.is_set():
                self._segment(drop)
            self._end(drop)

    def _segment(self, drop: Drop) -> None:
        drop.start()
        try:
            model = self.models.load(drop.model)
            scans = read_sources(
                drop.sources(), drop.report, naming=Naming(self._names), tally=drop.tally, headers=True
            )
            with contextlib.closing(scans):  # type: ignore[type-var]
                wanted = self._until_cancelled(drop, scans)
                for item, result in segment_scans(model, wanted, model.threshold, self._fault(drop)):
                    if drop.cancelled.is_set():
                        break
                    self.visit.keep(item.stem, result, item.header, model=drop.model, earlier=drop.earlier)
                    drop.scans += 1
        except RequestError as error:
            drop.failures.append(str(error))
        except OSError as error:
            LOG.debug("drop %d", drop.number, exc_info=True)
            drop.failures.append(f"stopped: {error.strerror or type(error).__name__}; make room on the disk and repeat")
        except Exception as error:
            LOG.debug("drop %d", drop.number, exc_info=True)
            drop.failures.append(f"stopped: failed ({type(error).__name__}); msanet serve --debug prints where")

    def _until_cancelled(self, drop: Drop, scans: Iterator[NamedScan]) -> Iterator[NamedScan]:
        for item in scans:
            if drop.cancelled.is_set():
                return
            if (twin := self.visit.twin(item.scan, model=drop.model, earlier=drop.earlier)) is not None:
                drop.report(item.file, f"is here already, as {twin}")
                continue
            drop.current = item.stem
            yield item

    @staticmethod
    def _fault(drop: Drop) -> Callable[[NamedScan, Exception], None]:
        def told(item: NamedScan, error: Exception) -> None:
            LOG.debug("%s", item.file, exc_info=error)
            drop.report(item.file, f"failed ({type(error).__name__}); msanet serve --debug prints where")

        return told

    def _end(self, drop: Drop) -> None:
        drop.current = ""
        drop.state = State.CANCELLED if drop.cancelled.is_set() else State.DONE
        shutil.rmtree(self._folder(drop.number), ignore_errors=True)

    def _look_after(self) -> None:
        """Ends uploads whose page is gone, and the visit when every page is."""
        now = time.monotonic()
        for drop in list(self.drops.values()):
            if drop.state == State.UPLOADING and now - drop.touched > _UPLOAD_PAUSE_MAX_S:
                self.cancel(drop)
        if now - self._asked > self._forget_after_s:
            self.clear()
            self._asked = now
