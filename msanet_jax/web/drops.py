"""What was dropped on the page: its way from announced files to results, as every open page shows it."""

from __future__ import annotations

import enum
import re
import threading
import time
from pathlib import Path
from typing import Any

from data_pipeline.errors import RequestError
from data_pipeline.readers.entries import is_litter
from data_pipeline.readers.sources import is_zip
from data_pipeline.text import printable
from msanet_jax.prediction.sources import Tally
from msanet_jax.web.uploads import Upload, announced


class State(enum.StrEnum):
    """How far a drop is."""

    UPLOADING = "uploading"
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


class Drop:
    """Files that were dropped together.

    Attributes:
      number: from 1, in the order of the drops.
      model: number of the chosen model.
      earlier: whether these are earlier scans of the same patients.
      uploads: the files that may come; others are `failures` already.
      state: see `State`.
      tally: how far the reading is.
      failures: a line for everything that cannot be used.
      scans: how many were segmented.
      cancelled: set when nothing more of it is wanted.
    """

    def __init__(self, number: int, folder: Path, *, model: int, earlier: bool) -> None:
        self.number, self.model, self.earlier = number, model, earlier
        self.uploads: list[Upload] = []
        self.state = State.UPLOADING
        self.tally = Tally()
        self.failures: list[str] = []
        self.scans = 0
        self.current = ""
        self.cancelled = threading.Event()
        self.touched = time.monotonic()
        self._folder = folder
        # Its name names the patient of a file called `anterior.png`: two drops of such files are two patients.
        self._files = folder / folder.name
        self._begin = 0.0

    def announce(self, files: list[tuple[str, int]], *, limit: int) -> list[int | None]:
        """A number for every file (name, size) that may come; None for one that may not."""
        numbers: list[int | None] = []
        taken: set[str] = set()
        for name, size in files:
            numbers.append(None)
            if any(is_litter(part) for part in name.replace("\\", "/").split("/")):
                self.tally.left_out += 1
                continue
            try:
                self.uploads.append(announced(name, size, taken, limit=limit))
            except RequestError as error:
                self.failures.append(str(error))
                continue
            numbers[-1] = len(self.uploads) - 1
        return numbers

    def place(self, upload: Upload) -> Path:
        """Where a file goes."""
        return self._files / upload.path

    def sources(self) -> list[Path]:
        """What is read: zips, each by itself; a lone file by itself; of other files, and of folders, all together."""
        places = [self.place(upload) for upload in self.uploads if upload.done]
        zips = [place for place in places if is_zip(place)]
        others = [place for place in places if place not in set(zips)]
        for number, archive in enumerate(zips):
            moved = self._folder / "zips" / str(number) / archive.name
            moved.parent.mkdir(parents=True)
            zips[number] = archive.replace(moved)
        alone = len(others) == 1 and others[0].parent == self._files
        return (others if alone else [self._files] * bool(others)) + zips

    def report(self, file: Path, reason: str, name: str | None = None) -> None:
        """Notes what cannot be used, by the name that the user knows (`sources.OnFailure`)."""
        shown = name if name is not None else str(file)
        for prefix in (f"{self._files}/", f"{self._folder / 'zips'}/"):
            if shown.startswith(prefix):
                shown = shown.removeprefix(prefix)
                shown = shown.partition("/")[2] if prefix.endswith("zips/") else shown
        if shown.rstrip("/") == str(self._files):
            shown = "what was dropped"
        self.failures.append(printable(f"{shown}: {reason}"))

    def touched_now(self) -> None:
        """Bytes arrive."""
        self.touched = time.monotonic()

    def start(self) -> None:
        """The clock of the time left starts."""
        self.state, self._begin = State.RUNNING, time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in (State.DONE, State.CANCELLED)

    def _name(self) -> str:
        """The first file or folder, and how many more there are."""
        names = dict.fromkeys(re.split(r"[/\\]", upload.name)[0] for upload in self.uploads)
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return next(iter(names), "") + more

    def shown(self) -> dict[str, Any]:
        """JSON-able facts for the page; `seconds_left` is null while nobody can tell."""
        done, found = self.tally.done, max(self.tally.found, self.tally.done)
        left = None
        if self.state == State.RUNNING and done:
            left = round((time.monotonic() - self._begin) / done * (found - done), 1)
        return {
            "number": self.number,
            "name": self._name(),
            "state": self.state.value,
            "earlier": self.earlier,
            "files": len(self.uploads),
            "uploaded": sum(upload.done for upload in self.uploads),
            "found": found,
            "done": done,
            "scans": self.scans,
            "current": self.current,
            "seconds_left": left,
            "failures": list(self.failures),
            "left_out": self.tally.left_out,
        }
