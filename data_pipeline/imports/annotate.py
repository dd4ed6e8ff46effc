"""The annotations of one scan, whatever files they come from."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_pipeline.annotations import outlines
from data_pipeline.annotations.dicom_seg import SegmentFrame, segment_annotation
from data_pipeline.annotations.kinds import Annotation, Labels
from data_pipeline.annotations.pixels import read_pixel_mask
from data_pipeline.imports.pairing import ScanFile
from data_pipeline.readers.sources import SourceFile
from data_pipeline.scan import Scan, ScanError


def annotate(
    scan: Scan,
    file: ScanFile,
    *,
    frame: int,
    views: int,
    segments: Mapping[str, Sequence[tuple[SourceFile, SegmentFrame]]],
    labels: Labels,
) -> tuple[Annotation, list[tuple[SourceFile, str]]]:
    """Reads everything that annotates a scan; of two annotations of one kind the first is kept.

    Args:
      scan: the scan.
      file: its file, and what belongs to it.
      frame: number of the scan in its file, from 0.
      views: scans in the file.
      segments: SOP instance UID -> frames of DICOM SEG files that reference it.
      labels: of the user and the layout.

    Returns:
      The annotation, and (file, line) for everything that could not be used.
    """
    found: list[tuple[SourceFile, Annotation]] = []
    problems: list[tuple[SourceFile, str]] = []
    shape = (scan.counts.shape[0], scan.counts.shape[1])

    def attempt(of: SourceFile, read: Any) -> None:
        try:
            annotation = read()
            _check_shapes(annotation, shape, str(of.path))
        except ScanError as error:
            problems.append((of, str(error)))
        else:
            found.append((of, annotation))

    for (view, kind), mask in file.masks.items():
        if view is None and views > 1:
            if frame == 0:
                problems.append(
                    (mask, "its scan has two views; name one mask ..._anterior_mask, one ..._posterior_mask")
                )
        elif view is None or view == scan.view:
            attempt(mask, functools.partial(_pixels, mask, kind, labels, numbered=bool(file.facts)))
    own = (
        [entry for entry in segments.get(file.uid, ()) if views == 1 or entry[1].frame == frame + 1] if file.uid else []
    )
    for seg in dict.fromkeys(entry[0] for entry in own):
        frames = [entry[1] for entry in own if entry[0] == seg]
        attempt(seg, lambda frames=frames, seg=seg: segment_annotation(frames, shape, str(seg.path)))
    if file.labelme is not None:
        text = file.labelme
        content = outlines.read_json(text.path)
        attempt(text, lambda: outlines.labelme_annotation(content, shape, labels=labels, source=str(text.path)))
    if file.coco is not None:
        text, image, entries = file.coco
        attempt(text, lambda: outlines.coco_annotation(image, entries, shape, labels=labels, source=str(text.path)))
    if file.voc is not None:
        attempt(file.voc, lambda: Annotation({}, outlines.voc_boxes(file.voc.path, labels=labels)[2]))
    return _merge(found, problems), problems


def _pixels(mask: SourceFile, kind: str, labels: Labels, *, numbered: bool) -> Annotation:
    return read_pixel_mask(mask.path, kind=kind, labels=labels, numbered=numbered)


def _check_shapes(annotation: Annotation, shape: tuple[int, int], source: str) -> None:
    for ids in annotation.masks.values():
        if ids.shape != shape:
            rows, columns = ids.shape
            turned = "; it seems to be turned by 90 degrees" if (columns, rows) == shape else ""
            raise ScanError(
                f"{source}: a mask of {rows} x {columns} pixels for a scan of {shape[0]} x {shape[1]}{turned}; "
                "save it at the scan's own size"
            )


def _merge(found: list[tuple[SourceFile, Annotation]], problems: list[tuple[SourceFile, str]]) -> Annotation:
    masks: dict[str, np.ndarray] = {}
    boxes: list[dict[str, object]] = []
    warnings: list[str] = []
    for file, annotation in found:
        for kind, ids in annotation.masks.items():
            if kind in masks:
                if ids.any():
                    problems.append((file, f"a second annotation of {kind} for the same scan; remove one"))
            else:
                masks[kind] = ids
        boxes += annotation.boxes
        warnings += annotation.warnings
    return Annotation(masks, tuple(boxes), tuple(warnings))
