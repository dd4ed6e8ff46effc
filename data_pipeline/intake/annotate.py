"""The annotations of one scan, whatever files they come from."""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np

from data_pipeline.annotations import coco, outlines
from data_pipeline.annotations.dicom_seg import SegmentFrame, segment_annotation
from data_pipeline.annotations.kinds import Annotation, Labels, WeakBox
from data_pipeline.annotations.pixels import pages_of, read_pixel_mask
from data_pipeline.annotations.target import Target
from data_pipeline.annotations.text_files import annotation_json
from data_pipeline.errors import RequestError
from data_pipeline.intake.sorting import ScanFile
from data_pipeline.readers.damage import read_or_refuse
from data_pipeline.readers.names import PICTURES, suffix_of
from data_pipeline.readers.orientation import AS_STORED, upright
from data_pipeline.readers.sources import SourceFile
from data_pipeline.scan import Scan, ScanError, View

_SIDES_CHANGE = 5
MOST_OF_THE_SCAN = 0.5
"""Share of the pixels above which a mask is none: lesions never cover half of a scan, backgrounds do."""


@dataclasses.dataclass(frozen=True)
class Annotated:
    """What the annotations of a scan say together.

    Attributes:
      annotation: all that could be used.
      problems: (file, line) for everything that could not be used.
      refused: whether an annotation of this scan could not be used.
      of_all_views: whether that holds for the other views of its file too.
    """

    annotation: Annotation
    problems: list[tuple[SourceFile, str]]
    refused: bool
    of_all_views: bool

    def usable(self) -> Annotation:
        """The annotation; without lesions if one of this scan could not be used, for there may be more in that."""
        kept = {kind: ids for kind, ids in self.annotation.masks.items() if kind != "lesions" or not self.refused}
        return dataclasses.replace(self.annotation, masks=kept)


def annotate(
    scan: Scan,
    file: ScanFile,
    *,
    frame: int,
    views: Sequence[View],
    segments: Mapping[str, Sequence[tuple[SourceFile, SegmentFrame]]],
    labels: Labels,
) -> Annotated:
    """Reads everything that annotates a scan; of two annotations of one kind the first is kept.

    Args:
      scan: the scan.
      file: its file, and what belongs to it.
      frame: number of the scan in its file, from 0.
      views: of all scans in the file.
      segments: SOP instance UID -> frames of DICOM SEG files that reference it.
      labels: of the user and the layout.
    """
    found: list[tuple[SourceFile, Annotation]] = []
    problems: list[tuple[SourceFile, str]] = []
    unclear: list[tuple[SourceFile, str]] = []
    shape = (scan.counts.shape[0], scan.counts.shape[1])
    # A scan whose DICOM lies turned was turned upright by its reader; what is drawn on it lies as it was stored.
    turned = scan.orientation if file.dicom else AS_STORED
    stored = shape[::-1] if turned >= _SIDES_CHANGE else shape

    def attempt(of: SourceFile, read: Callable[[], Annotation]) -> None:
        try:
            annotation = read_or_refuse(of.path, lambda _: read()).complete(str(of.path))
            _check_shapes(annotation, stored, str(of.path))
            annotation = _turned(annotation, turned, str(of.path))
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
            unclear.append((of, line))
        return False

    for (view, kind), mask in file.masks.items():
        paged = view is None and len(views) > 1 and pages_of(mask.path) == len(views)
        if paged or concerns(view, mask, "name one mask ..._anterior_mask, one ..._posterior_mask"):
            nifti = file.file.path if suffix_of(file.file.name) == ".nii" else None
            target = Target(scan.view, frame if paged else 0, len(views), paged, nifti, scan.orientation)
            attempt(mask, functools.partial(_pixels, mask, kind, labels, bool(file.facts), target, _lies(scan, file)))
    own, silent = _segments_of(scan, file, len(views), segments)
    for seg in silent:
        concerns(None, seg, "its segments must reference the frame that they show")
    for seg, frames in own.items():
        attempt(seg, functools.partial(segment_annotation, frames, stored, str(seg.path)))
    for view, text, kind, read in _outlines(file, stored, labels):
        if concerns(view, text, f"{kind} ..._anterior, one ..._posterior"):
            attempt(text, read)
    merged = _merge(found, problems)
    problems += _empty_boxes(merged, found)
    refused = bool(problems or unclear) or file.refused
    return Annotated(merged, [*unclear, *problems], refused, bool(unclear))


def _outlines(
    file: ScanFile, stored: tuple[int, int], labels: Labels
) -> Iterator[tuple[View | None, SourceFile, str, Callable[[], Annotation]]]:
    """What outlines lesions of a scan: its view, its file, how to name one for each view, and its reader."""
    for view, text in file.labelme.items():
        yield view, text, "name one LabelMe file", functools.partial(_labelme, text, stored, labels)
    for view, (text, image, entries) in file.coco.items():
        yield view, text, "call one file_name", functools.partial(_coco, text, image, entries, stored, labels)
    for view, text in file.voc.items():
        yield view, text, "name one Pascal VOC file", functools.partial(_voc, text, stored, labels)


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
    content = annotation_json(text.path)
    return outlines.labelme_annotation(content, shape, labels=labels, source=str(text.path))


def _coco(
    text: SourceFile,
    image: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    shape: tuple[int, int],
    labels: Labels,
) -> Annotation:
    return coco.coco_annotation(image, entries, shape, labels=labels, source=str(text.path))


def _voc(text: SourceFile, shape: tuple[int, int], labels: Labels) -> Annotation:
    _, drawn_on, boxes = outlines.voc_boxes(text.path, labels=labels)
    if drawn_on is not None:
        outlines.check_drawn_on(*drawn_on, shape, str(text.path))
    return Annotation({}, boxes)


def _pixels(mask: SourceFile, kind: str, labels: Labels, numbered: bool, target: Target, lies: int) -> Annotation:
    if lies != AS_STORED:
        raise ScanError(
            f"{mask.path}: its scan is stored turned (orientation {lies}), and a mask may be drawn on it as stored or "
            "as shown; save the scan as it is shown, without that tag"
        )
    return read_pixel_mask(mask.path, kind=kind, labels=labels, numbered=numbered, target=target)


def _lies(scan: Scan, file: ScanFile) -> int:
    """How a picture lies in its file: programs that draw outlines show it upright, those that save masks may not."""
    return scan.orientation if suffix_of(file.file.name) in PICTURES else AS_STORED


def _turned(annotation: Annotation, orientation: int, source: str) -> Annotation:
    if orientation == AS_STORED:
        return annotation
    if annotation.boxes:
        raise ScanError(f"{source}: boxes on a scan that is stored turned; draw outlines, or export the scan upright")
    masks = {kind: upright(ids, orientation) for kind, ids in annotation.masks.items()}
    return dataclasses.replace(annotation, masks=masks)


def _empty_boxes(merged: Annotation, found: Sequence[tuple[SourceFile, Annotation]]) -> list[tuple[SourceFile, str]]:
    """A line for each file with a box around a lesion that the mask of the scan does not have."""
    if "lesions" not in merged.masks:
        return []
    drawn, problems = merged.masks["lesions"] > 0, []
    for file, annotation in found:
        for box in annotation.boxes:
            rows = slice(max(int(box.row), 0), ceil(box.row + box.rows))
            columns = slice(max(int(box.column), 0), ceil(box.column + box.columns))
            if box.kind == "lesions" and not drawn[rows, columns].any():
                problems.append((file, "a box around a lesion in which nothing is drawn; draw it, or remove the box"))
                break
    return problems


def _check_shapes(annotation: Annotation, shape: tuple[int, int], source: str) -> None:
    for kind, ids in annotation.masks.items():
        if ids.shape != shape:
            rows, columns = ids.shape
            turned = "; it seems to be turned by 90 degrees" if (columns, rows) == shape else ""
            raise ScanError(
                f"{source}: a mask of {rows} x {columns} pixels for a scan of {shape[0]} x {shape[1]}{turned}; "
                "save it at the scan's own size"
            )
        if (share := float((ids > 0).mean())) > MOST_OF_THE_SCAN:
            raise ScanError(
                f"{source}: {share:.0%} of the scan would be {kind}; is its background another value than 0? save "
                "background as 0"
            )


def _merge(found: list[tuple[SourceFile, Annotation]], problems: list[tuple[SourceFile, str]]) -> Annotation:
    masks: dict[str, np.ndarray] = {}
    boxes: list[WeakBox] = []
    warnings: list[str] = []
    for file, annotation in found:
        for kind, ids in annotation.masks.items():
            if kind in masks:
                if ids.any() and not np.array_equal(ids > 0, masks[kind] > 0):
                    problems.append((file, f"a second annotation of {kind} for the same scan; remove one"))
            else:
                masks[kind] = ids
        boxes += annotation.boxes
        warnings += annotation.warnings
    return Annotation(masks, tuple(boxes), tuple(warnings))
