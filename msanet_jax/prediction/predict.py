"""A model and scans -> masks, probabilities, overlays and lesion lists, on the whole scan.

A scan's way: field found -> counts of the field -> model (bins and normalises as in training) -> back the same way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from data_pipeline.errors import RequestError
from data_pipeline.files import resolved, writable_folder
from data_pipeline.readers.damage import LOG
from data_pipeline.readers.pseudonyms import KEY_VARIABLE, own_key, pseudonym_key
from data_pipeline.readers.stated import Stated
from data_pipeline.terminal.progress import progress
from data_pipeline.terminal.scan_flags import PATIENT_FROM
from data_pipeline.text import as_line
from msanet_jax.prediction.earlier_results import clear_earlier
from msanet_jax.prediction.files import DEFAULT_FORMATS, DICOM_FORMATS, OutputNames, model_facts
from msanet_jax.prediction.follow_up import read_results
from msanet_jax.prediction.records import ScanRecord
from msanet_jax.prediction.run_file import INDEX_NAME, RUN_FILES, RUN_NAME, Failure, Result, Settings, write_run_file
from msanet_jax.prediction.saving import Job, Saved, save_scans, worth_it
from msanet_jax.prediction.scan_batches import segment_scans
from msanet_jax.prediction.sources import NamedScan, Naming, Tally, read_sources
from msanet_jax.prediction.summary import Collector
from msanet_jax.runs.model_file import default_model
from msanet_jax.runs.notices import model_notice
from msanet_jax.trained.exported import load_exported
from msanet_jax.trained.model import Model, check_threshold, with_flips

_NO_USE_GOING_ON = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclasses.dataclass(frozen=True)
class Request:
    """How scans are to be segmented and what is to be written.

    Attributes:
      threshold: probability above which a pixel is lesion; None for the recipe's.
      formats: names in `files.FORMATS`; the record STEM.json is always written.
      anonymous: no file names, and pseudonyms and keyed UIDs in DICOM SEG.
      patient_from: what tells patients apart, one of `scan_flags.PATIENT_FROM`.
      key_file: holds the key of the pseudonyms; None for the environment's, else the one that everybody knows.
      compare: results folder of an earlier time.
      progress: whether several files show a progress bar.
      stated: what the user says where files do not, or say it wrongly.
      overwrite: whether results of an earlier run in the output folder are removed; else they are refused.
      processes: that draw and write; None for one a core if there are many files. The results are the same.
    """

    threshold: float | None = None
    formats: tuple[str, ...] = DEFAULT_FORMATS
    anonymous: bool = False
    patient_from: str = "auto"
    key_file: Path | None = None
    compare: Path | None = None
    progress: bool = True
    stated: Stated = dataclasses.field(default_factory=Stated)
    overwrite: bool = False
    processes: int | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of the files.

    Attributes:
      written: stems of the results, in order.
      failed: the files that gave none.
      left_out: how many files are no scans (masks, results, texts, what lies beside DICOM files).
      index: the page of the run; None where none was written.
    """

    written: tuple[str, ...]
    failed: tuple[Path, ...]
    left_out: int = 0
    index: Path | None = None


def load_model(
    checkpoints: Sequence[str | Path] = (), model: str | Path | None = None, *, flips: bool = False
) -> Model:
    """The mean of runs, an exported model, or (neither named) the model this installation came with.

    Args:
      checkpoints: folders of trainings.
      model: file made by `msanet export`.
      flips: flip test-time augmentation.

    Raises:
      RequestError: both named, or what is named cannot be loaded.
    """
    if checkpoints and model is not None:
        raise RequestError("--checkpoint and --model: name one of them")
    if checkpoints:
        # Flax and orbax take seconds to load; an exported model, and the tests of this module, do without.
        from msanet_jax.trained.ensemble import load_ensemble

        loaded = load_ensemble([Path(run) for run in checkpoints])
    else:
        loaded = load_exported(default_model() if model is None else Path(model))
    return with_flips(loaded) if flips else loaded


def predict_files(
    sources: Sequence[str | Path],
    *,
    out: str | Path,
    checkpoint: str | Path | Sequence[str | Path] = (),
    model: str | Path | None = None,
    flips: bool = False,
    request: Request | None = None,
) -> Outcome:
    """Segments every scan in `sources` and writes what docs/outputs.md describes.

    A file that cannot be used is reported on stderr in one line and skipped.

    Args:
      sources: DICOM, PNG, JPEG, TIFF, NPY or NIfTI files, folders or zips of them, DICOMDIRs.
      out: folder of the results, made if absent; it must hold none of an earlier run, unless `overwrite` is asked for.
      checkpoint: run folder of a training, or several.
      model: exported model; with neither, the model of this installation.
      flips: flip test-time augmentation.
      request: how, and what to write.

    Raises:
      RequestError: no usable model, output folder, earlier folder or threshold; nothing was written.
    """
    runs = [checkpoint] if isinstance(checkpoint, str | Path) else list(checkpoint)
    return predict_with(load_model(runs, model, flips=flips), sources, out=out, request=request)


def predict_with(
    model: Model, sources: Sequence[str | Path], *, out: str | Path, request: Request | None = None
) -> Outcome:
    """As `predict_files`, with a model that is already loaded."""
    request = request or Request()
    threshold = check_threshold(model.threshold if request.threshold is None else request.threshold)
    earlier = None
    if request.compare is not None:
        if resolved(request.compare) == resolved(Path(out)):
            raise RequestError(f"--compare={request.compare}: is the folder of the new results; choose another --out")
        earlier = read_results(request.compare)
    if request.patient_from not in PATIENT_FROM:
        raise RequestError(f"--patient-from={request.patient_from}: must be one of {', '.join(PATIENT_FROM)}")
    with _key(request.key_file):
        if request.anonymous and own_key() is None:
            _tell(
                f"pseudonyms are made with a public key and can be guessed back: say --key-file, or set {KEY_VARIABLE}"
            )
        folder = writable_folder(Path(out), "--out")
        clear_earlier(folder, overwrite=request.overwrite)
        run = _Run(model, folder, request, threshold)
        with Collector(folder, request.formats, anonymous=request.anonymous) as collector:
            run.save_scans([Path(source) for source in sources], collector)
            run.save_summary(collector, earlier)
    failed = tuple(dict.fromkeys(failure.path for failure in run.failures))
    index = folder / INDEX_NAME if run.index else None
    return Outcome(tuple(result.stem for result in run.results), failed, run.tally.left_out, index)


class _Run:
    """One call of `predict_with`: what it wrote, what failed."""

    def __init__(self, model: Model, folder: Path, request: Request, threshold: float) -> None:
        self._begin = time.perf_counter()
        self._model, self._folder, self._request, self._threshold = model, folder, request, threshold
        self._names = OutputNames(reserved=RUN_FILES)
        self.results: list[Result] = []
        self.failures: list[Failure] = []
        self.tally = Tally()
        self.index = False
        self._full = False

    def save_scans(self, sources: Sequence[Path], collector: Collector) -> None:
        """Reads, segments and writes scan by scan."""
        scans = read_sources(
            sources,
            self._report,
            naming=Naming(self._names, self._request.anonymous, self._request.patient_from),
            tally=self.tally,
            headers=not {*DICOM_FORMATS}.isdisjoint(self._request.formats),
            skip=resolved(self._folder),
            stated=self._request.stated,
        )
        hidden = not self._request.progress or not (len(sources) > 1 or any(not path.is_file() for path in sources))
        with progress(title="predicting", unit="file", total=len(sources), quiet=hidden) as bar:
            begun: deque[NamedScan] = deque()

            def processes() -> int:
                return self._request.processes or worth_it(max(len(sources), self.tally.found))

            for saved in save_scans(self._jobs(scans, collector, begun), processes):
                self._tell_of(begun.popleft(), saved, collector)
                bar.total = max(bar.total or 0, self.tally.found)
                bar.update(self.tally.done - bar.n)
            bar.update((bar.total or 0) - bar.n)
        if self.tally.one_number_for_all:
            _tell(
                f"all {self.tally.dicoms} scans carry the same patient number; if they were anonymised so, say "
                "--patient-from=folder or --patient-from=file"
            )

    def _jobs(self, scans: Iterator[NamedScan], collector: Collector, begun: deque[NamedScan]) -> Iterator[Job]:
        """Segmented scans to be written, as long as it makes sense to go on; `begun` gets each."""
        for item, result in segment_scans(self._model, scans, self._threshold, self._fail):
            begun.append(item)
            if self._request.anonymous:  # a file's name may be its patient's
                record = dataclasses.replace(result.record, source=result.scan.patient)
                yield collector.job(item.stem, dataclasses.replace(result, record=record), item.header)
            else:
                yield collector.job(item.stem, result, item.header)
            if self._full:
                return

    def _tell_of(self, item: NamedScan, saved: Saved | Exception, collector: Collector) -> None:
        """Keeps what was written of a scan, or reports why nothing was."""
        if isinstance(saved, Saved):
            for note in saved.notes:
                _tell(f"{item.file}: {note}")
            collector.add(saved)
            self.results.append(Result(item.stem, item.scan.patient, item.scan.view.value, saved.files))
        elif not isinstance(saved, OSError):
            self._fail(item, saved)
        elif not self._full:  # scans that were begun before it was full and failed for it are of those not written
            LOG.debug("%s", item.file, exc_info=saved)
            reason, place = saved.strerror or type(saved).__name__, str(self._folder)
            self._report(item.file, f"its results cannot be written ({reason})", str(self._folder / item.stem))
            if saved.errno in _NO_USE_GOING_ON:
                self._full = True
                self._report(item.file, "nothing more is written; what is there is whole. Make room and repeat", place)

    def _fail(self, item: NamedScan, error: Exception) -> None:
        """What went wrong with one scan: one line, the traceback for --debug."""
        LOG.debug("%s", item.file, exc_info=error)
        fault = f"failed ({type(error).__name__}); --debug prints where"
        self._report(item.file, str(error) if isinstance(error, RequestError) else fault)

    def save_summary(self, collector: Collector, earlier: Mapping[str, Sequence[ScanRecord]] | None) -> None:
        """Writes patients, tables, preview and run file; what cannot be written is a failure like any other."""
        files: list[str] = []
        notice = model_notice(self._model.provenance)
        try:
            if self.results:
                files = collector.write_all(
                    self.results,
                    self._names,
                    earlier,
                    _tell,
                    failures=self.failures,
                    notice=notice,
                    facts=model_facts(self._model.provenance, self._threshold),
                    run_file=[RUN_NAME],
                )
            request = self._request
            self.index = INDEX_NAME in files
            write_run_file(
                self._folder,
                notice=notice,
                settings=Settings(
                    self._threshold, request.formats, request.anonymous, compared=request.compare is not None
                ),
                provenance=self._model.provenance,
                results=self.results,
                run_files=files,
                failures=self.failures,
                left_out=self.tally.left_out,
                seconds=time.perf_counter() - self._begin,
            )
        except OSError as error:
            reason = error.strerror or type(error).__name__
            self._report(self._folder, f"the run's summary cannot be written ({reason}); make room")
        except Exception as error:  # the results of the scans are there and whole
            LOG.debug("%s", self._folder, exc_info=True)
            self._report(self._folder, f"the run's summary failed ({type(error).__name__}); --debug prints where")

    def _report(self, file: Path, reason: str, name: str | None = None) -> None:
        self.failures.append(Failure(file, reason))
        _tell(f"{file if name is None else name}: {reason}")


@contextlib.contextmanager
def _key(file: Path | None) -> Iterator[None]:
    if file is None:
        yield
        return
    from data_pipeline.readers.pseudonyms import read_or_draw_key

    with pseudonym_key(read_or_draw_key(file)[0]):
        yield


def _tell(line: str) -> None:
    with tqdm.external_write_mode(file=sys.stderr):
        print(as_line(line), file=sys.stderr)
