"""Layouts of sources that are known by name: nnU-Net raw folders, BS-80K, the Paraguay set.

BS-80K (Huang et al. 2022, doi 10.1016/j.compbiomed.2022.106221): `wholeBodyANT/0001.jpg` and `wholeBodyPOST/0001.jpg`
of one patient share a number; `FOLDER/FOLDER.txt` has a line `0001.jpg<TAB>0|1` per image (1 abnormal);
`wholeBodyANT/ant/0001.xml` and `wholeBodyPOST/post/0001.xml` are Pascal VOC boxes named Normal (a benign hot spot) or
Abnormal. The 26 folders of body parts are crops of the same images and are left out.

Paraguay (IICS-UNA, doi 10.5281/zenodo.13900966): `images/CLASS/Anterior/A12.png` and `images/CLASS/Posterior/P12.png`,
16 bit, class of the patient (with metastases or without), no masks. The class becomes `metastasis` or `no_metastasis`
by the words below; any other folder may be the name of a patient, which must not get into the data set. Masks that
users add lie beside the images (`A12_mask.png`) or in `masks/CLASS/Anterior/A12.png`.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Mapping
from pathlib import PurePosixPath

from data_pipeline.annotations.kinds import Labels
from data_pipeline.annotations.text_files import annotation_json
from data_pipeline.errors import RequestError
from data_pipeline.intake.nnunet_labels import nnunet_labels
from data_pipeline.readers.names import mask_kind
from data_pipeline.readers.sources import Source, SourceFile
from data_pipeline.scan import ScanError

FORMATS = ("auto", "files", "nnunet", "bs80k", "paraguay")

_BS80K_FOLDERS = ("wholeBodyANT", "wholeBodyPOST")
_PARAGUAY = re.compile(r"(?:^|/)images/([^/]+)/(?:Anterior/A|Posterior/P)\d+\.png$")
_PARAGUAY_MASK = re.compile(r"(?:^|/)(?:images|masks|labels)/[^/]+/(?:Anterior/A|Posterior/P)\d+[^/]*$")
_PARAGUAY_CLASSES = {
    "metastasis": "metastasis|metastases|metastatic|with metastasis|con metastasis|positive|abnormal|yes|si|1",
    "no_metastasis": "no metastasis|no metastases|non metastatic|without metastasis|sin metastasis|negative|normal|"
    "healthy|no|0",
}
_PARAGUAY_LABELS = {word: label for label, words in _PARAGUAY_CLASSES.items() for word in words.split("|")}
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
      assumed: what its description does not say and was assumed.
    """

    name: str
    source: Source
    labels: Mapping[str, str]
    image_labels: Mapping[str, str]
    problems: tuple[tuple[SourceFile, str], ...] = ()
    notes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    @property
    def channels(self) -> bool:
        """Whether images end in the number of a channel, as only nnU-Net names them."""
        return self.name == "nnunet"

    @property
    def without_masks(self) -> bool:
        """Whether the set is published without lesion masks: then one line says so, not one per scan."""
        return self.name in ("bs80k", "paraguay")


def recognise(source: Source, *, name: str, told: Labels) -> Layout:
    """Applies the layout `name`, or the one that the source has; `told` is what the user says of labels.

    Raises:
      RequestError: the source has not the layout that was asked for, or the layout's own description is damaged.
    """
    if name not in FORMATS:
        raise RequestError(f"--format={name}: must be one of {', '.join(FORMATS)}")
    if name == "auto":
        name = next((known for known, test in _TESTS.items() if test(source)), "files")
    elif name in _ASKED_TESTS and not _ASKED_TESTS[name](source):
        raise RequestError(f"--format={name}: the source has not that layout (docs/your_data.md shows it)")
    return _nnunet(source, told) if name == "nnunet" else _LAYOUTS[name](source)


def _files(source: Source) -> Layout:
    return Layout("files", source, {}, {})


def _is_nnunet(source: Source) -> bool:
    return _nnunet_document(source) is not None and any("imagesTr/" in file.name for file in source.files)


def _nnunet_document(source: Source) -> SourceFile | None:
    return next((file for file in source.files if PurePosixPath(file.name).name == "dataset.json"), None)


def _nnunet(source: Source, told: Labels) -> Layout:
    document = _nnunet_document(source)
    assert document is not None
    content = annotation_json(document.path)
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise RequestError(f"{document.name}: has no labels; is it nnU-Net's dataset.json?")
    labels, assumed = nnunet_labels(content["labels"], told, document.name)
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
    return Layout("nnunet", Source(tuple(kept), source.problems), labels, {}, tuple(problems), assumed=assumed)


def _is_bs80k(source: Source) -> bool:
    return any(PurePosixPath(file.name).parent.name in _BS80K_FOLDERS for file in source.files)


def _bs80k(source: Source) -> Layout:
    kept: list[SourceFile] = []
    labels: dict[str, str] = {}
    problems: list[tuple[SourceFile, str]] = []
    for file in source.files:
        path = PurePosixPath(file.name)
        if not set(path.parts[:-1]) & set(_BS80K_FOLDERS):
            continue
        if path.suffix == ".txt":
            try:
                labels |= _table(file)
            except ScanError as error:
                problems.append((file, str(error)))
        else:
            kept.append(file)
    left = len(source.files) - len(kept)
    note = (f"{left} files: crops of body parts and tables",) if left else ()
    return Layout("bs80k", Source(tuple(kept), source.problems), {}, labels, tuple(problems), note)


def _table(file: SourceFile) -> dict[str, str]:
    """Labels of a folder's images.

    Raises:
      ScanError: the file cannot be read.
    """
    try:
        if file.path.stat().st_size > _MAX_TABLE_BYTES:
            raise ScanError(f"{file.path}: is too large for a table of labels; remove it")
        lines = file.path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ScanError(f"{file.path}: cannot be read ({error.strerror})") from None
    folder = PurePosixPath(file.name).parent
    matches = [match for line in lines if (match := _TABLE_LINE.match(line))]
    return {str(folder / match[1]): "abnormal" if match[2] == "1" else "normal" for match in matches}


def _paraguay_images(source: Source) -> dict[str, str]:
    """Files with the set's structure -> label; empty where the class is no word that we know."""
    images = {}
    for file in source.files:
        if match := _PARAGUAY.search(file.name):
            plain = unicodedata.normalize("NFKD", match[1]).encode("ascii", "ignore").decode().lower()
            images[file.name] = _PARAGUAY_LABELS.get(re.sub(r"[\W_]+", " ", plain).strip(), "")
    return images


def _is_paraguay(source: Source) -> bool:
    """Only if every class is known: another folder there is the name of something else, perhaps of a patient."""
    labels = _paraguay_images(source).values()
    return bool(labels) and all(labels)


def _has_paraguay_structure(source: Source) -> bool:
    return bool(_paraguay_images(source))


def _paraguay(source: Source) -> Layout:
    labels = _paraguay_images(source)
    kept = tuple(
        file
        for file in source.files
        if file.name in labels or (mask_kind(file.name) is not None and _PARAGUAY_MASK.search(file.name))
    )
    left, unknown = len(source.files) - len(kept), sum(not label for label in labels.values())
    notes = [f"{left} files outside images/CLASS/Anterior and images/CLASS/Posterior"] if left else []
    notes += [f"the class of {unknown} images, a word that is not known"] if unknown else []
    return Layout("paraguay", Source(kept, source.problems), {}, labels, notes=tuple(notes))


_TESTS = {"nnunet": _is_nnunet, "bs80k": _is_bs80k, "paraguay": _is_paraguay}
# Who names a layout vouches for it: then structure is enough.
_ASKED_TESTS = {**_TESTS, "paraguay": _has_paraguay_structure}
_LAYOUTS = {"files": _files, "bs80k": _bs80k, "paraguay": _paraguay}
