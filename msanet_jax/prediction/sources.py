"""Files, folders, zips and DICOMDIRs -> scans one after the other, each with the name of its results."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from data_pipeline.errors import RequestError
from data_pipeline.files import resolved
from data_pipeline.readers import is_dicom, read_scans
from data_pipeline.readers.choice import Choice, choose_scans, common_folder, patient_of
from data_pipeline.readers.damage import LOG
from data_pipeline.readers.names import stem_of
from data_pipeline.readers.pseudonyms import pseudonym
from data_pipeline.readers.sources import Source, SourceFile, open_source
from data_pipeline.readers.stated import Stated
from data_pipeline.scan import Scan, ScanError
from data_pipeline.text import as_file_name, last_bytes
from msanet_jax.prediction.files import OutputNames

# With the longest ending, a view and a number a name stays below the 255 bytes that file systems allow.
_STEM_BYTES_MAX = 180
_VIEWS = 2


class OnFailure(Protocol):
    """Told of everything that cannot be used."""

    def __call__(self, file: Path, reason: str, name: str | None = None) -> None:
        """The file (or source), the reason without any name in it, and the name to show instead of the file's."""


@dataclasses.dataclass(frozen=True)
class NamedScan:
    """A scan on its way.

    Attributes:
      file: where it came from, for messages.
      stem: of its results.
      scan: the scan.
      header: DICOM header of its file, where one was asked for and there is one.
    """

    file: Path
    stem: str
    scan: Scan
    header: Any


@dataclasses.dataclass
class Tally:
    """How far the reading is.

    Attributes:
      found: files that were found so far.
      done: files that were read or skipped.
      left_out: files that are no scans, see `choice.Choice`.
      dicoms: scans read of DICOM files, their folders and their patients.
    """

    found: int = 0
    done: int = 0
    left_out: int = 0
    dicoms: int = 0
    folders: set[Path] = dataclasses.field(default_factory=set)
    patients: set[str] = dataclasses.field(default_factory=set)

    @property
    def one_number_for_all(self) -> bool:
        """Whether DICOMs of several folders, more than two views, all carry one patient: perhaps anonymised so."""
        return self.dicoms > _VIEWS and len(self.folders) > 1 and len(self.patients) == 1


@dataclasses.dataclass(frozen=True)
class Naming:
    """What results and patients are called.

    Attributes:
      names: keeps names apart.
      anonymous: names results after pseudonym and view.
      patient_from: one of `scan_flags.PATIENT_FROM`; `auto` is the DICOM header, else the path.
    """

    names: OutputNames
    anonymous: bool = False
    patient_from: str = "auto"


def read_sources(
    sources: Sequence[Path],
    report: OnFailure,
    *,
    naming: Naming,
    tally: Tally,
    headers: bool = False,
    skip: Path | None = None,
    stated: Stated | None = None,
) -> Iterator[NamedScan]:
    """Reads source after source and file after file, so that memory never holds more than one scan of them.

    Results are named after their file; in a folder or archive after the path in it, with `_` for `/`, and with its
    number in front where there are several sources: its own name may be a patient's. A file with two views gives
    STEM_anterior and STEM_posterior. Of a folder or archive `choice.choose_scans` is read. A file named twice is
    read once.

    Args:
      sources: paths.
      report: see `OnFailure`.
      naming: of results and patients.
      tally: counted up.
      headers: whether DICOM headers are wanted.
      skip: folder of the results; where it lies inside a source it is not read.
      stated: what the user says where files do not.
    """
    seen: set[Path] = set()
    common = common_folder(sources)
    for number, source in enumerate(sources, start=1):
        try:
            with open_source(source) as opened:
                single = len(opened.files) == 1 and opened.files[0].path == source
                for problem in opened.problems:
                    report(source, problem.reason, problem.removesuffix(f": {problem.reason}"))
                choice = _choose(opened, seen, None if single else _inside(skip, source), single=single)
                tally.found += len(choice.files)
                tally.left_out += choice.left_out
                _tell_of_choice(choice, source, report, silent=single or bool(opened.problems))
                for file in choice.files:
                    shown = file.path if file.path.is_relative_to(source.parent) else source / file.name
                    below = _below(common, source, None if single else file.name)
                    title = file.name if single or len(sources) == 1 else f"{number}/{file.name}"
                    reader = _Reader(file, shown, below, title, naming, stated)
                    yield from reader.read(report, tally, common, headers=headers)
                    tally.done += 1
        except RequestError as error:
            report(source, str(error).removeprefix(f"{source}: "))


def _choose(opened: Source, seen: set[Path], skip: Path | None, *, single: bool) -> Choice:
    files = []
    for file in opened.files:
        path = resolved(file.path)
        if path not in seen and not (skip is not None and path.is_relative_to(skip)):
            files.append(file)
        seen.add(path)
    if single:
        return Choice(tuple(files), 0)
    # Nothing but files that were named before is no reason to complain.
    return choose_scans(files) if files or not opened.files or skip is not None else Choice((), 0)


def _tell_of_choice(choice: Choice, source: Path, report: OnFailure, *, silent: bool) -> None:
    for folder, modality, number in choice.other:
        reason = f"{number} files of modality {modality}; a planar bone scan has modality NM: name the scans alone"
        report(source, reason, str(source / folder))
    if not choice.files and not choice.other and not silent:
        beside = f" ({choice.left_out} masks, results or other files)" if choice.left_out else ""
        report(source, f"no scan in it{beside}; name a folder with scans")


def _inside(skip: Path | None, source: Path) -> Path | None:
    """`skip` if it lies strictly inside the source: at or above it, it would hide the scans themselves."""
    place = resolved(source)
    return skip if skip is not None and skip != place and skip.is_relative_to(place) else None


def _below(common: Path, source: Path, name: str | None) -> str:
    """A file's path below the folder of all sources."""
    path = resolved(source) if name is None else resolved(source) / name
    return path.name if path == common else path.relative_to(common).as_posix()


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Reads one file.

    Attributes:
      file: where it lies.
      shown: as the user knows it.
      below: its path below the folder of all sources.
      title: what its results are named after, with `/`.
      naming: of results and patients.
      stated: what the user says where files do not.
    """

    file: SourceFile
    shown: Path
    below: str
    title: str
    naming: Naming
    stated: Stated | None = None

    def read(self, report: OnFailure, tally: Tally, common: Path, *, headers: bool) -> Iterator[NamedScan]:
        path, names = self.file.path, self.naming.names
        try:
            scans = [self._named(scan, tally, common) for scan in read_scans(path, self.stated)]
        except ScanError as error:
            reason = str(error).removeprefix(f"{path}: ")
            # A file of an archive was unpacked somewhere; its user knows it by its place in the archive.
            report(self.shown, reason.replace(str(path), "the file").replace(str(path.parent), "..."))
            return
        except Exception as error:  # whatever it is, it is this file's; the others are none the worse
            LOG.debug("%s", self.shown, exc_info=True)
            report(self.shown, f"failed ({type(error).__name__}); --debug prints where")
            return
        header = _header(path) if headers else None
        stem = None if self.naming.anonymous else names.claim(_stem(self.title))
        for scan in scans:
            if stem is None:
                own = names.claim(f"{scan.patient}_{scan.view.value}")
            elif len(scans) == 1:
                own = stem
            else:
                own = names.claim(f"{stem}_{scan.view.value}")
            yield NamedScan(self.shown, own, scan, header)

    def _named(self, scan: Scan, tally: Tally, common: Path) -> Scan:
        way = self.naming.patient_from
        # What the reader gives a DICOM that names neither patient nor study is its file's name, as of a picture.
        stated = is_dicom(self.file.path) and scan.patient != pseudonym(f"file {self.file.path.name}")
        if stated and way in ("auto", "header"):
            tally.dicoms += 1
            tally.folders.add(self.shown.parent)
            tally.patients.add(scan.patient)
            return scan
        if way == "header":
            return scan
        identity = patient_of(self.below, common.parent if common == resolved(self.shown) else common, way)
        return dataclasses.replace(scan, patient=pseudonym(f"path {identity}"))


def _stem(name: str) -> str:
    """`a/b.dcm` -> `a_b`, without what no file name should hold; long ones keep their end, which tells them apart."""
    return last_bytes(as_file_name("_".join([*PurePosixPath(name).parts[:-1], stem_of(name)])), _STEM_BYTES_MAX)


def _header(path: Path) -> Any:
    from msanet_jax.prediction.dicom.write_dicom_seg import read_header  # loads highdicom

    return read_header(path)
