"""What file and folder names mean in a source: which are masks of what, and which scan they belong to.

docs/your_data.md states these rules for users.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

from data_pipeline.readers.formats.nifti import nifti_stem
from data_pipeline.readers.views import view_and_guess, without_view
from data_pipeline.scan import View

_SUFFIX_KINDS = {
    "mask": "lesions",
    "masks": "lesions",
    "seg": "lesions",
    "segmentation": "lesions",
    "label": "lesions",
    "labels": "lesions",
    "gt": "lesions",
    "annotation": "lesions",
    "lesion": "lesions",
    "lesions": "lesions",
    "mets": "lesions",
    "metastases": "lesions",
    "lesions_all": "lesions_all",
    "lesions_isocontour": "lesions_isocontour",
    "reader_1": "reader_1",
    "reader1": "reader_1",
    "reader_2": "reader_2",
    "reader2": "reader_2",
    "benign": "benign",
}
_ENDING = re.compile(
    rf"^(?P<base>.*?)[_\-. ](?P<ending>{'|'.join(sorted(_SUFFIX_KINDS, key=len, reverse=True))})$", re.IGNORECASE
)
_MASK_FOLDERS = {"mask", "masks", "label", "labels", "labelstr", "labelsts", "annotation", "annotations"} | {
    "segmentation",
    "segmentations",
    "seg",
    "gt",
    "groundtruth",
    "ground_truth",
    "segmentationclass",  # Pascal VOC, CVAT
}
# Folders of masks only inside a folder of masks: alone they may well be classes of scans.
_KIND_FOLDERS = {"lesions", "lesions_all", "lesions_isocontour", "reader_1", "reader_2", "benign"}
_SCAN_FOLDERS = {"image", "images", "imagestr", "imagests", "scan", "scans", "img", "imgs", "counts", "jpegimages"}
_DERIVED = ("expected", "organs", "probability", "overlay", "preview")
_NNUNET_IMAGES = {"imagestr", "imagests"}
_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")
_CHANNEL = re.compile(r"^(?P<case>.+)_\d{4}$")

PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
NOT_IMAGES = {".txt", ".md", ".csv", ".tsv", ".pdf", ".html", ".htm", ".log", ".yaml", ".yml", ".py", ".ipynb"} | {
    ".docx",
    ".xlsx",
    ".doc",
    ".xls",
    ".pptx",
    ".rtf",
    ".toml",
    ".cfg",
    ".ini",
    ".pkl",
    ".nrrd",
    ".nhdr",
    ".bat",
    ".sh",
    ".exe",
    ".inf",
    ".key",
}
# Of two files of one name the one that is nearer to the camera is read.
_RANKS = {".dcm": 0, "": 0, ".ima": 0, ".dicom": 0, ".nii": 1, ".npy": 2, ".tif": 3, ".tiff": 3, ".png": 4}
_RANKS |= {".bmp": 5, ".jpg": 6, ".jpeg": 6}
NOT_DICOM = _RANKS.keys() - {".dcm", "", ".ima", ".dicom"}
"""Suffixes of scans that may be masks by their names; a DICOM says itself what it is."""


def stem_of(name: str) -> str:
    """File name without folders and suffix; only suffixes of images and annotations count as one."""
    base = PurePosixPath(name).name
    if base.lower().endswith((".nii", ".nii.gz")):
        return nifti_stem(base)
    suffix = PurePosixPath(base).suffix.lower()
    known = suffix in _RANKS or suffix in (".json", ".xml", ".nrrd", ".nhdr")
    return base[: len(base) - len(suffix)] if known and suffix else base


def suffix_of(name: str) -> str:
    """Suffix in small letters; `.nii` for `.nii.gz`; empty for what is no suffix, as in UIDs used as file names."""
    if name.lower().endswith((".nii", ".nii.gz")):
        return ".nii"
    suffix = PurePosixPath(name).suffix.lower()
    return "" if suffix[1:].isdigit() else suffix


def is_derived(name: str) -> bool:
    """Whether a file is a result or a part of the simulation, never a scan: `_expected`, `_organs`, `_overlay`..."""
    return stem_of(name).lower().endswith(tuple(f"_{word}" for word in _DERIVED))


def mask_kind(name: str) -> str | None:
    """Kind of mask that a file is by its ending or folder; None for a scan."""
    if match := _ENDING.match(stem_of(name)):
        return _SUFFIX_KINDS[match["ending"].lower()]
    folders = [part.lower() for part in PurePosixPath(name).parts[:-1]]
    if not _MASK_FOLDERS & set(folders):
        return None
    return next((part for part in reversed(folders) if part in _KIND_FOLDERS), "lesions")


def pairing_key(name: str, *, channels: bool = False) -> tuple[tuple[str, ...], str]:
    """What a scan and its masks have in common: folders without `images`, `masks`..., and the stem without endings.

    Letters are composed (Unicode NFC), as systems store the same name in different forms. Capitals stay.

    Args:
      name: path within the source.
      channels: whether images end in nnU-Net's number of a channel, which their labels have not.
    """
    name = unicodedata.normalize("NFC", name)
    folders = PurePosixPath(name).parts[:-1]
    inside = bool(_MASK_FOLDERS & {part.lower() for part in folders})
    skipped = _MASK_FOLDERS | _SCAN_FOLDERS | (_KIND_FOLDERS if inside else set())
    stem = stem_of(name)
    if match := _ENDING.match(stem):
        stem = match["base"]
    if channels:
        stem = _without_channel(name, stem)
    return tuple(part for part in folders if part.lower() not in skipped), stem


def folded(key: tuple[tuple[str, ...], str]) -> tuple[tuple[str, ...], str]:
    """A `pairing_key` without the difference of capitals."""
    return tuple(part.casefold() for part in key[0]), key[1].casefold()


def _without_channel(name: str, stem: str) -> str:
    """`imagesTr/case_0000` -> `case`; a label is called as its case, whose name may well end in a number itself."""
    image = _NNUNET_IMAGES & {part.lower() for part in PurePosixPath(name).parts[:-1]}
    match = _CHANNEL.match(stem) if image else None
    return match["case"] if match else stem


def without_upload(name: str) -> str:
    """`images/3f2b9c1d-scan1.png` -> `images/scan1.png`: Label Studio puts eight digits before a name."""
    folder, slash, own = name.replace("\\", "/").rpartition("/")
    return folder + slash + _UPLOAD.sub("", own)


def split_view(stem: str) -> tuple[View | None, str]:
    """`scan_anterior` -> (anterior, `scan`); (None, `stem`) where no view is named."""
    view, _ = view_and_guess(stem)
    return (None, stem) if view == View.UNKNOWN else (view, _trimmed(without_view(stem)))


def rank(name: str) -> int:
    """Smaller is nearer to the camera's counts."""
    return _RANKS.get(suffix_of(name), 6)


def patient_of_path(name: str, *, channels: bool = False) -> str:
    """What the two views of a patient share in their paths: every part without the words of a view.

    Args:
      name: path within the source.
      channels: as in `pairing_key`.
    """
    name = unicodedata.normalize("NFC", name)
    path = PurePosixPath(name)
    folders, _ = pairing_key(name)
    # The stem keeps its capitals: `wholeBodyANT` has its view in them.
    own = _without_channel(name, stem_of(name)) if channels else stem_of(name)
    own = without_view(own, path.parent.name)
    parts = [*(without_view(part) for part in path.parts[:-1] if part in folders), own]
    return "/".join(part for part in (_trimmed(part) for part in parts) if part)


def patient_of_folder(name: str) -> str:
    """The folders of a file without the words of a view."""
    name = unicodedata.normalize("NFC", name)
    folders, _ = pairing_key(name)
    parts = (_trimmed(without_view(part)) for part in PurePosixPath(name).parts[:-1] if part in folders)
    return "/".join(part for part in parts if part)


def _trimmed(part: str) -> str:
    return part.strip(" _-.")
