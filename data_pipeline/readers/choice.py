"""Which files of a folder or archive are scans, and whose they are."""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from data_pipeline.files import resolved
from data_pipeline.readers import names
from data_pipeline.readers.sources import SourceFile

_DICOM_SUFFIXES = {".dcm", ".dicom", ".ima"}
_NOT_SCANS = {*names.NOT_IMAGES, ".json", ".xml"}


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is read of a folder or archive.

    Attributes:
      files: in their order.
      left_out: number of files that are no scans: masks, results, texts, segmentations, what lies beside DICOM files.
      other: (folder in the source, modality, number of files) of series that are no scintigrams.
    """

    files: tuple[SourceFile, ...]
    left_out: int
    other: tuple[tuple[str, str, int], ...] = ()


def choose_scans(files: Sequence[SourceFile]) -> Choice:
    """Tells scans from what else lies in a folder, by names as `msanet import` does, and by the modality of DICOMs.

    Where there are DICOM files, it is an export of them, and files of other formats are left out. A lone file of
    another modality stays, so that its reader can say what is wrong with it.
    """
    from data_pipeline.readers.formats.dicom import read_modality  # loads pydicom

    marked = {file.name for file in files if _has_dicom_mark(file.path)}
    named = {file.name for file in files}
    kept = [file for file in files if file.name in marked or not _is_no_scan(file.name, named)]
    if marked:
        kept = [file for file in kept if file.name in marked or names.suffix_of(file.name) in _DICOM_SUFFIXES]
    modalities = {file.name: read_modality(file.path) for file in kept if file.name in marked}
    kept = [file for file in kept if modalities.get(file.name) != "SEG"]
    series: dict[tuple[str, str], list[str]] = defaultdict(list)
    for file in kept:
        if (modality := modalities.get(file.name, "")) not in ("", "NM"):
            series[str(PurePosixPath(file.name).parent), modality].append(file.name)
    other = {key: members for key, members in series.items() if len(members) > 1}
    passed = {name for members in other.values() for name in members}
    chosen = tuple(file for file in kept if file.name not in passed)
    counted = tuple((folder, modality, len(members)) for (folder, modality), members in other.items())
    return Choice(chosen, len(files) - len(chosen) - len(passed), counted)


def patient_of(name: str, common: Path, way: str) -> str:
    """Who the patient of a file without a header is: what the paths of both views share.

    Args:
      name: path of the file below `common`, with `/`.
      common: folder of all sources; where the path below it names nobody (`anterior.png`), its own name does.
      way: `folder`, or `file` for the whole path without the words of the view.
    """
    rule = names.patient_of_folder if way == "folder" else names.patient_of_path
    parts = [*common.parts[1:], *PurePosixPath(name).parts]
    for depth in range(len(common.parts) - 1, -1, -1):
        if patient := rule("/".join(parts[depth:])):
            return patient
    return name


def common_folder(sources: Sequence[Path]) -> Path:
    """The folder (or archive) below which all sources lie; names within it tell their files apart."""
    try:
        common = Path(os.path.commonpath([resolved(source) for source in sources]))
    except ValueError:  # several drives, or no source
        return Path("/")
    return common


def _is_no_scan(name: str, beside: set[str]) -> bool:
    suffix = names.suffix_of(name)
    if names.is_derived(name) or suffix in _NOT_SCANS:
        return True
    if suffix in names.NOT_DICOM:
        return names.mask_kind(name) is not None or _is_copied_scan(name, beside)
    return False


def _is_copied_scan(name: str, beside: set[str]) -> bool:
    """A scan that `msanet predict` wrote beside its probability."""
    ending = "_scan.nii.gz"
    return name.endswith(ending) and f"{name.removesuffix(ending)}_probability.nii.gz" in beside


def _has_dicom_mark(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
