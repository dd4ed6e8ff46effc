"""Files that look like annotations of a kind that is not read: with one, no scan is declared free of lesions."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from data_pipeline.readers.sources import SourceFile

_HEAD_BYTES = 65536
_NUMBER = r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?"
_YOLO = re.compile(rf"\d+(?:\s+{_NUMBER}){{4,}}")
_TABLE_WORDS = re.compile(
    r"region_shape_attributes|encodedpixels|\bbbox|\b[xy]_?(?:min|max)\b|polygon|\bcontour|segmentation|\brle\b",
    re.IGNORECASE,
)
_MODALITIES = {"RTSTRUCT", "PR", "ANN", "SR", "M3D"}
# Keys under which annotation tools keep what was drawn.
_KEYS = """
annotation annotations shapes regions shape_attributes result results polygon polygons points segmentation
segmentations bbox boxes markups contours rois objects geometry features strokes completions lesions
_via_img_metadata imagepath imageheight imagewidth imagedata images categories
"""
_DEPTH, _ITEMS = 6, 50
NOT_READ = "looks like an annotation of a kind that is not read; save it as a mask PNG, LabelMe or COCO, or remove it"
MASK = "looks like a mask, not a scan; name it as its scan with _mask behind, or remove it"
_FEW_VALUES, _EMPTY_SHARE, _EQUAL_SHARE = 2, 0.5, 0.8
_TEXTS, _TABLES, _DRAWINGS = (
    {".txt"},
    {".csv", ".tsv"},
    {".svg", ".roi", ".geojson", ".fcsv", ".xcf", ".psd", ".mha", ".mhd", ".pkl"},
)


def of_modality(modality: str) -> str:
    """The line for a DICOM object that marks places without being a segmentation; empty for anything else."""
    return f"modality {modality} is not read as an annotation; save it as DICOM SEG" if modality in _MODALITIES else ""


def of_json(content: Any) -> str:
    """The line for JSON of no kind that is read, if it has a key under which tools keep what was drawn."""
    return NOT_READ if _has_key(content, _DEPTH) else ""


def of_text(file: SourceFile, suffix: str) -> str:
    """The line for a text, a table or a drawing that holds outlines or boxes, as of YOLO or VIA; empty for others."""
    if suffix in _DRAWINGS:
        return NOT_READ
    if suffix not in _TEXTS | _TABLES:
        return ""
    try:
        with file.path.open("rb") as opened:
            head = opened.read(_HEAD_BYTES).decode("utf-8", "replace")
    except OSError as error:
        return f"cannot be read ({error.strerror}); is it an annotation?"
    lines = [line.strip() for line in head.splitlines() if line.strip()]
    if suffix in _TABLES:
        return NOT_READ if lines and _TABLE_WORDS.search(lines[0]) else ""
    return NOT_READ if lines and all(_YOLO.fullmatch(line) for line in lines[:_ITEMS]) else ""


def is_mask(counts: np.ndarray) -> bool:
    """Whether counts `[rows, columns]` are regions of one value each: two values at all, or flat on an empty ground.

    Neighbours of counted pixels differ (two Poisson values of mean 1 are equal in a third of all pairs); within a
    numbered region they are equal but at its edge.
    """
    if np.unique(counts).size <= _FEW_VALUES:
        return True
    drawn = counts > 0
    if drawn.mean() > _EMPTY_SHARE:
        return False
    both = drawn[:, 1:] & drawn[:, :-1]
    return bool(both.any() and (counts[:, 1:] == counts[:, :-1])[both].mean() > _EQUAL_SHARE)


def _has_key(content: Any, depth: int) -> bool:
    if depth == 0:
        return False
    if isinstance(content, dict):
        return any(str(key).lower() in _KEYS.split() or _has_key(value, depth - 1) for key, value in content.items())
    return isinstance(content, list) and any(_has_key(value, depth - 1) for value in content[:_ITEMS])
