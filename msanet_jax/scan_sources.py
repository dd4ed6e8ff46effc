"""Files, folders, zips and DICOMDIRs -> scans one after the other, each with the name of its results."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from data_pipeline.errors import RequestError
from data_pipeline.readers import read_scans
from data_pipeline.readers.sources import Source, SourceFile, open_source
from data_pipeline.scan import Scan, ScanError
from msanet_jax.prediction_files import OutputNames

_SUFFIXES = re.compile(r"\.(dcm|dicom|ima|png|jpe?g|tiff?|npy|nii(\.gz)?)$", re.IGNORECASE)
_STEM_MAX = 120
Report = Callable[[Path, str], None]


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
      done: files that were read or passed over.
      left_out: files beside DICOM files, never opened.
    """

    found: int = 0
    done: int = 0
    left_out: int = 0


def read_sources(
    sources: Sequence[Path],
    report: Report,
    *,
    names: OutputNames,
    tally: Tally,
    headers: bool = False,
    anonymous: bool = False,
    skip: Path | None = None,
) -> Iterator[NamedScan]:
    """Reads source after source and file after file, so that memory never holds more than one scan of them.

    Results are named after their file; in a folder or archive after the path in it, with `_` for `/`; a file with two
    views gives STEM_anterior and STEM_posterior. A folder or archive that holds DICOM files is taken for an export of
    them, and what else lies in it (viewers, pictures, reports) is left out. A file named twice is read once.

    Args:
      sources: paths.
      report: told of everything that cannot be used.
      names: keeps names apart.
      tally: counted up.
      headers: whether DICOM headers are wanted.
      anonymous: names results after pseudonym and view instead.
      skip: a folder whose files are read only if they are named: that of the results.
    """
    seen: set[Path] = set()
    for source in sources:
        try:
            with open_source(source) as opened:
                single = len(opened.files) == 1 and opened.files[0].path == source
                for problem in opened.problems:
                    report(source, problem)
                files = [file for file in opened.files if _is_wanted(file, seen, None if single else skip)]
                chosen = files if single else _only_dicom(files)
                tally.found += len(chosen)
                tally.left_out += len(files) - len(chosen)
                if not chosen and not single and not opened.problems and _had_none(opened, skip):
                    report(source, f"{source}: no file in it; name a folder with scans")
                for file in chosen:
                    shown = file.path if file.path.is_relative_to(source.parent) else source / file.name
                    yield from _read(file, shown, report, names, headers=headers, anonymous=anonymous)
                    tally.done += 1
        except RequestError as error:
            report(source, str(error))


def _read(
    file: SourceFile, shown: Path, report: Report, names: OutputNames, *, headers: bool, anonymous: bool
) -> Iterator[NamedScan]:
    try:
        scans = read_scans(file.path)
    except ScanError as error:
        # A file of an archive was unpacked somewhere; its user knows it by its place in the archive.
        report(shown, str(error).replace(str(file.path), str(shown)))
        return
    header = _header(file.path) if headers else None
    stem = None if anonymous else names.claim(_stem(file.name))
    for scan in scans:
        if stem is None:
            own = names.claim(f"{scan.patient}_{scan.view.value}")
        elif len(scans) == 1:
            own = stem
        else:
            own = names.claim(f"{stem}_{scan.view.value}")
        yield NamedScan(shown, own, scan, header)


def _stem(name: str) -> str:
    """`a/b.dcm` -> `a_b`; very long ones keep their end, which tells them apart."""
    return _SUFFIXES.sub("", "_".join(PurePosixPath(name).parts))[-_STEM_MAX:]


def _header(path: Path) -> Any:
    from msanet_jax.dicom_seg import read_header  # loads highdicom

    return read_header(path)


def _is_wanted(file: SourceFile, seen: set[Path], skip: Path | None) -> bool:
    path = file.path.resolve()
    if path in seen or (skip is not None and path.is_relative_to(skip)):
        return False
    seen.add(path)
    return True


def _had_none(opened: Source, skip: Path | None) -> bool:
    return all(skip is not None and file.path.resolve().is_relative_to(skip) for file in opened.files)


def _only_dicom(files: Sequence[SourceFile]) -> list[SourceFile]:
    marked = [file for file in files if _has_dicom_mark(file.path)]
    return marked or list(files)


def _has_dicom_mark(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
