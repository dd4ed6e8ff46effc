"""A file of a source as an import takes it: read once, its pixels and masks stored, all else in a small record."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data_pipeline.annotations.dicom_seg import SegmentFrame, read_segmentation
from data_pipeline.annotations.kinds import Labels, WeakBox
from data_pipeline.intake import strangers, writing
from data_pipeline.intake.annotate import annotate
from data_pipeline.intake.kept import Kept, stamp
from data_pipeline.intake.sorting import ScanFile
from data_pipeline.readers import read_scans
from data_pipeline.readers.settle import NO_PIXEL_SIZE, USERS_PIXEL_SIZE
from data_pipeline.readers.sources import SourceFile
from data_pipeline.readers.stated import Stated
from data_pipeline.scan import Scan, ScanError, View
from data_pipeline.text import printable
from data_pipeline.thorax import FIELD_MM, field_size_px, find_thorax
from data_pipeline.windows import ThoraxBox

Line = tuple[str, str]
"""A file as the user knows it, and what is wrong with it."""


@dataclasses.dataclass(frozen=True)
class TakenScan:
    """A scan of a file; pixels are in files of `Kept.folder`.

    Attributes:
      view, shape: of the scan.
      patient: pseudonym by the header.
      content: digest of the counts.
      pixel_size_mm, pixel_size_from, thorax, notes: as `ImageEntry` has them.
      counts: file.
      masks: kind -> file.
      boxes: weak labels.
      marked: whether boxes, or masks other than `benign`, say that there are lesions.
      problems: for every annotation that could not be used; with one, the scan has no lesion mask.
      of_all_views: whether that holds for the other views of the file too.
    """

    view: View
    shape: tuple[int, int]
    patient: str
    content: str
    pixel_size_mm: tuple[float, float]
    pixel_size_from: str
    thorax: ThoraxBox
    notes: str
    counts: str
    masks: dict[str, str]
    boxes: tuple[WeakBox, ...]
    marked: bool
    problems: tuple[Line, ...]
    of_all_views: bool


@dataclasses.dataclass(frozen=True)
class Taken:
    """A file of scans; `problem` says why it has none."""

    scans: tuple[TakenScan, ...]
    problem: str = ""
    is_mask: bool = False


@dataclasses.dataclass(frozen=True)
class _KeptFrame:
    """`SegmentFrame` whose region is in a file."""

    segment: int
    kind: str
    references: str
    frame: int | None


@dataclasses.dataclass(frozen=True)
class TakenSegmentation:
    """`SegmentationFile` whose regions are in a file; `problem` says why it cannot be read."""

    frames: tuple[_KeptFrame, ...]
    regions: str
    scans: frozenset[str]
    not_understood: str = ""
    problem: str = ""


class Taker:
    """Takes files, each once: what was read before an interruption is there already.

    Args:
      source: as the user names it.
      kept: what this request has read so far.
      stated: by the user, of all scans.
      labels: of the user and the layout.
    """

    def __init__(self, source: Path, kept: Kept, *, stated: Stated, labels: Labels) -> None:
        self._source, self._kept, self._stated, self._labels = source, kept, stated, labels
        self._segments: dict[str, list[tuple[SourceFile, str, int, _KeptFrame]]] = defaultdict(list)

    def shown(self, file: SourceFile) -> str:
        """The file as the user knows it: a zip's files lie in a temporary folder."""
        return printable(str(self._source) if file.path == self._source else f"{self._source}/{file.name}")

    def line(self, file: SourceFile, text: str) -> Line:
        """What is wrong with a file, without the paths of a temporary folder."""
        path, shown = str(file.path), self.shown(file)
        return shown, printable(text.removeprefix(f"{path}: ").replace(path, shown))

    def segmentation(self, file: SourceFile) -> TakenSegmentation:
        """What a DICOM SEG says, but for the pixels."""
        name = self._kept.name("segmentation", stamp(file))
        if (there := self._kept.get(name, TakenSegmentation)) is not None:
            return there
        try:
            read = read_segmentation(file.path, labels=self._labels)
        except ScanError as error:  # it is tried again: a disk may have been away
            return TakenSegmentation((), "", frozenset(), problem=self.line(file, str(error))[1])
        regions = f"{name}.npz" if read.frames else ""
        if regions:
            np.savez_compressed(self._kept.folder / regions, *(frame.region for frame in read.frames))
        frames = (_KeptFrame(frame.segment, frame.kind, frame.references, frame.frame) for frame in read.frames)
        reason = self.line(file, read.not_understood)[1]
        taken = TakenSegmentation(tuple(frames), regions, read.scans, reason)
        self._kept.put(name, taken, [regions] if regions else ())
        return taken

    def use(self, file: SourceFile, segmentation: TakenSegmentation) -> None:
        """From now on the segmentation annotates the scans that it references."""
        for number, frame in enumerate(segmentation.frames):
            self._segments[frame.references].append((file, segmentation.regions, number, frame))

    def name(self, file: ScanFile) -> str:
        """Under which the scans of a file and what annotates them are kept; all segmentations must be in use."""
        drawn = [
            *(("mask", key, stamp(mask)) for key, mask in file.masks.items()),
            *(("labelme", view, stamp(text)) for view, text in file.labelme.items()),
            *(("coco", view, stamp(text), image) for view, (text, image, _) in file.coco.items()),
            *(("voc", view, stamp(text)) for view, text in file.voc.items()),
            *(("segment", stamp(seg), number) for seg, _, number, _ in self._segments.get(file.uid, ())),
        ]
        return self._kept.name(stamp(file.file), file.dicom, file.uid, bool(file.facts), drawn)

    def scans(self, file: ScanFile, name: str) -> Taken:
        """The scans of a file with all that annotates them.

        Args:
          file: the file.
          name: of `name`.
        """
        if (there := self._kept.get(name, Taken)) is not None:
            return there
        try:
            scans = read_scans(file.file.path, self._stated)
        except ScanError as error:  # it is tried again: a disk may have been away
            return Taken((), self.line(file.file, str(error))[1])
        if not file.dicom and any(strangers.is_mask(scan.counts) for scan in scans):
            taken = Taken((), strangers.MASK, is_mask=True)
        else:
            views = [scan.view for scan in scans]
            segments = {file.uid: self._regions(file.uid)}
            taken = Taken(
                tuple(
                    self._scan(scan, file, f"{name}-{frame}", frame, views, segments)
                    for frame, scan in enumerate(scans)
                )
            )
        self._kept.put(name, taken, [one for scan in taken.scans for one in (scan.counts, *scan.masks.values())])
        return taken

    def _regions(self, uid: str) -> list[tuple[SourceFile, SegmentFrame]]:
        found = []
        for file, regions, number, frame in self._segments.get(uid, ()) if uid else ():
            with np.load(self._kept.folder / regions, allow_pickle=False) as stored:
                region = stored[f"arr_{number}"]
            found.append((file, SegmentFrame(frame.segment, frame.kind, frame.references, frame.frame, region)))
        return found

    def _scan(
        self,
        scan: Scan,
        file: ScanFile,
        stem: str,
        frame: int,
        views: Sequence[View],
        segments: Mapping[str, Sequence[tuple[SourceFile, SegmentFrame]]],
    ) -> TakenScan:
        annotated = annotate(scan, file, frame=frame, views=views, segments=segments, labels=self._labels)
        annotation, folder = annotated.annotation, self._kept.folder
        notes = tuple(note for note in scan.warnings if not note.startswith(NO_PIXEL_SIZE))
        by_user = any(note.startswith(USERS_PIXEL_SIZE) for note in scan.warnings)
        pixel, pixel_from = scan.pixel_size_mm, "user" if by_user else "file"
        if pixel is None:
            size, pixel_from = FIELD_MM / field_size_px(scan), "assumed"
            pixel = (size, size)
        return TakenScan(
            view=View(scan.view),
            shape=(scan.counts.shape[0], scan.counts.shape[1]),
            patient=scan.patient,
            content=hashlib.sha256(repr(scan.counts.shape).encode() + scan.counts.tobytes()).hexdigest(),
            pixel_size_mm=pixel,
            pixel_size_from=pixel_from,
            thorax=find_thorax(dataclasses.replace(scan, pixel_size_mm=pixel)),
            notes="; ".join((*notes, *annotation.warnings)),
            counts=writing.write_image(folder, stem, scan.counts),
            masks={kind: writing.write_image(folder, f"{stem}-{kind}", ids) for kind, ids in annotation.masks.items()},
            boxes=annotation.boxes,
            marked=any(box.kind != "benign" for box in annotation.boxes)
            or any(kind != "benign" and ids.any() for kind, ids in annotation.masks.items()),
            problems=tuple(self.line(of, line) for of, line in annotated.problems),
            of_all_views=annotated.of_all_views,
        )
