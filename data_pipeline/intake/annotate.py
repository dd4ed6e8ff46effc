"""The annotations of one scan, whatever files they come from."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from data_pipeline.annotations import outlines
from data_pipeline.annotations.dicom_seg import SegmentFrame, segment_annotation
from data_pipeline.annotations.kinds import Annotation, Labels
from data_pipeline.annotations.pixels import read_pixel_mask
from data_pipeline.errors import RequestError
from data_pipeline.intake.pairing import ScanFile
from data_pipeline.readers.sources import SourceFile
from data_pipeline.scan import Scan, ScanError, View


def annotate(
    scan: Scan,
    file: ScanFile,
    *,
    frame: int,
    views: Sequence[View],
    segments: Mapping[str, Sequence[tuple[SourceFile, SegmentFrame]]],
    labels: Labels,
) -> tuple[Annotation, list[tuple[SourceFile, str]]]:
    """Reads everything that annotates a scan; of two annotations of one kind the first is kept.

    Args:
      scan: the scan.
      file: its file, and what belongs to it.
      frame: number of the scan in its file, from 0.
      views: of all scans in the file.
      segments: SOP instance UID -> frames of DICOM SEG files that reference it.
      labels: of the user and the layout.

    Returns:
      The annotation, and (file, line) for everything that could not be used.
    """
    found: list[tuple[SourceFile, Annotation]] = []
    problems: list[tuple[SourceFile, str]] = []
    shape = (scan.counts.shape[0], scan.counts.shape[1])

    def attempt(of: SourceFile, read: Callable[[], Annotation]) -> None:
        try:
            annotation = read()
            _check_shapes(annotation, shape, str(of.path))
        except RequestError as error:
            problems.append((of, str(error)))
        except Exception as error:  # one damaged file must not stop the others
            problems.append((of, f"damaged ({type(error).__name__}); export it again"))
        else:
            found.append((of, annotation))

    def concerns(view: View | None, of: SourceFile, remedy: str) -> bool:
        """Whether something for `view` is for this scan; what is for none of its file is told once."""
        if view is None and len(views) > 1:
            line = f"its scan has two views; {remedy}"
        elif view is None or view in views:
            return view is None or view == scan.view
        else:
            line = f"its scan has no {view} view; name it as the scan, or correct the view"
        if frame == 0:
            problems.append((of, line))
        return False

    for (view, kind), mask in file.masks.items():
        if concerns(view, mask, "name one mask ..._anterior_mask, one ..._posterior_mask"):
            attempt(mask, functools.partial(_pixels, mask, kind, labels, numbered=bool(file.facts)))
    own, silent = _segments_of(scan, file, len(views), segments)
    for seg in silent:
        concerns(None, seg, "its segments must reference the frame that they show")
    for seg, frames in own.items():
        attempt(seg, functools.partial(segment_annotation, frames, shape, str(seg.path)))
    for view, text in file.labelme.items():
        if concerns(view, text, "name one LabelMe file ..._anterior, one ..._posterior"):
            attempt(text, functools.partial(_labelme, text, shape, labels))
    for view, (text, image, entries) in file.coco.items():
        if concerns(view, text, "call one file_name ..._anterior, one ..._posterior"):
            attempt(text, functools.partial(_coco, text, image, entries, shape, labels))
    for view, text in file.voc.items():
        if concerns(view, text, "name one Pascal VOC file ..._anterior, one ..._posterior"):
            attempt(text, functools.partial(_voc, text, shape, labels))
    return _merge(found, problems), problems


def _segments_of(
    scan: Scan, file: ScanFile, views: int, segments: Mapping[str, Sequence[tuple[SourceFile, SegmentFrame]]]
) -> tuple[dict[SourceFile, list[SegmentFrame]], list[SourceFile]]:
    """Frames that reference the scan by file, and files that do not say which of two views they show."""
    own: dict[SourceFile, list[SegmentFrame]] = defaultdict(list)
    silent: dict[SourceFile, None] = {}
    for seg, part in segments.get(file.uid, ()) if file.uid else ():
        if views == 1 or part.frame == scan.frame + 1:
            own[seg].append(part)
        elif part.frame is None:
            silent[seg] = None
    return own, list(silent)


def _labelme(text: SourceFile, shape: tuple[int, int], labels: Labels) -> Annotation:
    content = outlines.read_json(text.path)
    return outlines.labelme_annotation(content, shape, labels=labels, source=str(text.path))


def _coco(
    text: SourceFile,
    image: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    shape: tuple[int, int],
    labels: Labels,
) -> Annotation:
    return outlines.coco_annotation(image, entries, shape, labels=labels, source=str(text.path))


def _voc(text: SourceFile, shape: tuple[int, int], labels: Labels) -> Annotation:
    _, drawn_on, boxes = outlines.voc_boxes(text.path, labels=labels)
    if drawn_on is not None:
        outlines.check_drawn_on(*drawn_on, shape, str(text.path))
    return Annotation({}, boxes)


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
