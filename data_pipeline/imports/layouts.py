"""Layouts of sources that are known by name: nnU-Net raw folders, BS-80K, the Paraguay set.

BS-80K (Huang et al. 2022, doi 10.1016/j.compbiomed.2022.106221): `wholeBodyANT/0001.jpg` and `wholeBodyPOST/0001.jpg`
of one patient share a number; `FOLDER/FOLDER.txt` has a line `0001.jpg<TAB>0|1` per image (1 abnormal);
`wholeBodyANT/ant/0001.xml` and `wholeBodyPOST/post/0001.xml` are Pascal VOC boxes named Normal (a benign hot spot) or
Abnormal. The 26 folders of body parts are crops of the same images and are left out.

Paraguay (IICS-UNA, doi 10.5281/zenodo.13900966): `images/CLASS/Anterior/A12.png` and `images/CLASS/Posterior/P12.png`,
16 bit, class of the patient, no masks.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from data_pipeline.annotations.kinds import IGNORED, kind_of_label
from data_pipeline.annotations.outlines import read_json
from data_pipeline.errors import RequestError
from data_pipeline.readers.sources import Source, SourceFile
from data_pipeline.scan import ScanError

FORMATS = ("auto", "files", "nnunet", "bs80k", "paraguay")

_BS80K_FOLDERS = ("wholeBodyANT", "wholeBodyPOST")
_PARAGUAY = re.compile(r"(?:.*/)?([^/]+)/(?:Anterior/A|Posterior/P)\d+\.png$")
_TABLE_LINE = re.compile(r"(\S+)\s+([01])\s*$")
_MAX_TABLE_BYTES = 16 << 20


@dataclasses.dataclass(frozen=True)
class Layout:
    """A source as its layout explains it.

    Attributes:
      name: one of `FORMATS`, not `auto`.
      source: the files that matter.
      labels: meaning of numbers and names in masks, from the layout.
      image_labels: file name -> label of the whole image.
      problems: (file, line).
      notes: what was left out on purpose.
    """

    name: str
    source: Source
    labels: Mapping[str, str]
    image_labels: Mapping[str, str]
    problems: tuple[tuple[SourceFile, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def channels(self) -> bool:
        """Whether images end in the number of a channel, as only nnU-Net names them."""
        return self.name == "nnunet"


def recognise(source: Source, *, name: str) -> Layout:
    """Applies the layout `name`, or the one that the source has.

    Raises:
      RequestError: the source has not the layout that was asked for, or the layout's own description is damaged.
    """
    if name not in FORMATS:
        raise RequestError(f"--format={name}: is none of {', '.join(FORMATS)}")
    if name == "auto":
        name = next((known for known, test in _TESTS.items() if test(source)), "files")
    elif name in _TESTS and not _TESTS[name](source):
        raise RequestError(f"--format={name}: the source has not that layout (docs/your_data.md shows it)")
    return _LAYOUTS[name](source)


def _files(source: Source) -> Layout:
    return Layout("files", source, {}, {})


def _is_nnunet(source: Source) -> bool:
    return _nnunet_document(source) is not None and any("imagesTr/" in file.name for file in source.files)


def _nnunet_document(source: Source) -> SourceFile | None:
    return next((file for file in source.files if PurePosixPath(file.name).name == "dataset.json"), None)


def _nnunet(source: Source) -> Layout:
    document = _nnunet_document(source)
    assert document is not None
    content = read_json(document.path)
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise RequestError(f"{document.name}: has no labels; is it nnU-Net's dataset.json?")
    labels = {}
    for label, value in content["labels"].items():
        # Version 1 has {"1": "lesion"}, version 2 {"lesion": 1}.
        number, word = (label, str(value)) if str(label).isdigit() else (str(value), str(label))
        if number == "0" or not number.isdigit():
            continue
        try:
            labels[number] = kind_of_label(word, {}, document.name)
        except ScanError:
            labels[number] = IGNORED
    kept, problems = [], []
    for file in source.files:
        folders = set(PurePosixPath(file.name).parts[:-1])
        if not folders & {"imagesTr", "imagesTs", "labelsTr", "labelsTs"}:
            continue
        channel = re.search(r"_(\d{4})\.[A-Za-z.]+$", file.name)
        if folders & {"imagesTr", "imagesTs"} and channel and channel[1] != "0000":
            problems.append((file, "another channel of its case; one scan per case is read: make it a case of its own"))
        else:
            kept.append(file)
    return Layout("nnunet", Source(tuple(kept), source.problems), labels, {}, tuple(problems))


def _is_bs80k(source: Source) -> bool:
    return any(PurePosixPath(file.name).parent.name in _BS80K_FOLDERS for file in source.files)


def _bs80k(source: Source) -> Layout:
    kept: list[SourceFile] = []
    labels: dict[str, str] = {}
    for file in source.files:
        path = PurePosixPath(file.name)
        if not set(path.parts[:-1]) & set(_BS80K_FOLDERS):
            continue
        if path.suffix == ".txt":
            labels |= _table(file)
        else:
            kept.append(file)
    left = len(source.files) - len(kept)
    note = (f"{left} files: crops of body parts and tables",) if left else ()
    return Layout("bs80k", Source(tuple(kept), source.problems), {}, labels, notes=note)


def _table(file: SourceFile) -> dict[str, str]:
    if file.path.stat().st_size > _MAX_TABLE_BYTES:
        return {}
    folder = PurePosixPath(file.name).parent
    lines = file.path.read_text(encoding="utf-8", errors="replace").splitlines()
    matches = [match for line in lines if (match := _TABLE_LINE.match(line))]
    return {str(folder / match[1]): "abnormal" if match[2] == "1" else "normal" for match in matches}


def _is_paraguay(source: Source) -> bool:
    return any(_PARAGUAY.match(file.name) for file in source.files)


def _paraguay(source: Source) -> Layout:
    matches = {file.name: match for file in source.files if (match := _PARAGUAY.match(file.name))}
    kept = tuple(file for file in source.files if file.name in matches)
    left = len(source.files) - len(kept)
    note = (f"{left} files outside CLASS/Anterior and CLASS/Posterior",) if left else ()
    labels = {name: match[1] for name, match in matches.items()}
    return Layout("paraguay", Source(kept, source.problems), {}, labels, notes=note)


_TESTS = {"nnunet": _is_nnunet, "bs80k": _is_bs80k, "paraguay": _is_paraguay}
_LAYOUTS = {"files": _files, "nnunet": _nnunet, "bs80k": _bs80k, "paraguay": _paraguay}
