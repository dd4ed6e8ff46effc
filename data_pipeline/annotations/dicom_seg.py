"""DICOM Segmentation objects -> instance masks, matched with scans by the SOP instance and frame they reference."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from data_pipeline.annotations.kinds import IGNORED, Annotation, Labels, combine, connected_instances, kind_of_label
from data_pipeline.annotations.words import Says, meaning
from data_pipeline.readers.damage import read_or_refuse
from data_pipeline.readers.formats.codestreams import decoded_pixels
from data_pipeline.readers.formats.dicom_file import quiet, read_dicom_file
from data_pipeline.readers.values import check_pixels
from data_pipeline.scan import ScanError

MAX_FRAMES = 1024


@dataclasses.dataclass(frozen=True)
class SegmentFrame:
    """One frame of one segment.

    Attributes:
      segment: its number.
      kind: of the segment.
      references: SOP instance UID of the scan, or empty.
      frame: number of the scan's frame from 1, or None.
      region: `[rows, columns]` bool.
    """

    segment: int
    kind: str
    references: str
    frame: int | None
    region: np.ndarray


@dataclasses.dataclass(frozen=True)
class SegmentationFile:
    """What one segmentation says.

    Attributes:
      frames: of segments that are not ignored.
      scans: SOP instance UIDs of all scans that it may be about.
      not_understood: the first thing in it that was not, with what to do; empty if there is none.
    """

    frames: tuple[SegmentFrame, ...]
    scans: frozenset[str]
    not_understood: str = ""


def read_segmentation(path: Path, *, labels: Labels) -> SegmentationFile:
    """All frames of a segmentation; a fractional one is cut at one half.

    A segment whose label and type say nothing is taken as lesion; one that is named as something else is not understood
    until `labels` tell what it is.

    Raises:
      ScanError: damaged, or no segmentation of planar images.
    """
    return read_or_refuse(path, lambda file: _read(file, labels))


def _read(path: Path, labels: Labels) -> SegmentationFile:
    with quiet():
        try:
            header = read_dicom_file(path)
            check_pixels(int(header.get("NumberOfFrames", 1)), (int(header.Rows), int(header.Columns)), str(path))
            if int(header.get("NumberOfFrames", 1)) > MAX_FRAMES:
                raise ScanError(f"{path}: {header.NumberOfFrames} frames, not a segmentation of planar scans")
            values = decoded_pixels(header, str(path))
            values = values[None] if values.ndim == 2 else values
            return _segmentation(header, values, labels)
        except ScanError:
            raise
        except Exception as error:  # damaged files fail in many ways
            raise ScanError(f"{path}: the segmentation cannot be read ({type(error).__name__}); export again") from None


def segment_annotation(frames: Sequence[SegmentFrame], shape: tuple[int, int], source: str) -> Annotation:
    """The frames of one scan as instance masks: a segment is a lesion, a lone segment is cut into connected regions.

    Raises:
      ScanError: another size than the scan.
    """
    regions: dict[str, dict[int, np.ndarray]] = {"lesions": {}}
    for frame in frames:
        if frame.region.shape != shape:
            raise ScanError(
                f"{source}: segments of {frame.region.shape[0]} x {frame.region.shape[1]} pixels, the scan has "
                f"{shape[0]} x {shape[1]}; segment the scan itself"
            )
        found = regions.setdefault(frame.kind, {})
        found[frame.segment] = found[frame.segment] | frame.region if frame.segment in found else frame.region
    masks = {}
    for kind, by_segment in regions.items():
        drawn = [region for _, region in sorted(by_segment.items()) if region.any()]
        if len(drawn) == 1:
            masks[kind] = connected_instances(drawn[0], source)
        else:
            masks |= combine({kind: drawn}, shape, source)
    return Annotation(masks, used=len(frames))


def _segmentation(header: pydicom.Dataset, values: np.ndarray, labels: Labels) -> SegmentationFile:
    kinds: dict[int, str] = {}
    frames: list[SegmentFrame] = []
    puzzles: list[str] = []
    scans: set[str] = set()
    for entry in header.SegmentSequence:
        try:
            kinds[int(entry.SegmentNumber)] = _kind(entry, labels)
        except ScanError as error:
            puzzles.append(str(error))
            kinds[int(entry.SegmentNumber)] = IGNORED
    for number, pixels in enumerate(values):
        own, shared = _groups(header, number)
        uids, frame = _sources(own, shared, header)
        scans |= uids
        if len(uids) > 1:
            puzzles.append(f"frame {number + 1} references {len(uids)} scans; it must reference the one that it shows")
            continue
        try:
            found = _segments(header, own, shared, pixels, kinds)
        except ScanError as error:
            puzzles.append(f"frame {number + 1} {error}")
            continue
        frames += [SegmentFrame(segment, kinds[segment], "".join(uids), frame, region) for segment, region in found]
    kept = tuple(frame for frame in frames if frame.kind != IGNORED)
    return SegmentationFile(kept, frozenset(scans), puzzles[0] if puzzles else "")


def _groups(header: pydicom.Dataset, number: int) -> tuple[pydicom.Dataset, pydicom.Dataset]:
    """Functional groups of a frame: its own, and those of all."""
    groups = header.get("PerFrameFunctionalGroupsSequence", None)
    shared = (header.get("SharedFunctionalGroupsSequence", None) or [pydicom.Dataset()])[0]
    return groups[number] if groups else pydicom.Dataset(), shared


def _segments(
    header: pydicom.Dataset, own: pydicom.Dataset, shared: pydicom.Dataset, pixels: np.ndarray, kinds: dict[int, str]
) -> list[tuple[int, np.ndarray]]:
    """Segments of a frame and their regions.

    Raises:
      ScanError: values or numbers that no segment describes, or nothing reaches one half; without the file's name.
    """
    form = str(header.get("SegmentationType", "BINARY"))
    if form == "LABELMAP":
        background = int(header.get("PixelPaddingValue", 0))
        described = {number: kind for number, kind in kinds.items() if number != background}
        unknown = set(np.unique(pixels).tolist()) - set(described) - {background}
        if unknown:
            raise ScanError(f"holds the value {min(unknown)}, which no segment describes; describe it")
        return [(segment, pixels == segment) for segment in described]
    identification = (
        own.get("SegmentIdentificationSequence", None) or shared.get("SegmentIdentificationSequence", None) or []
    )
    if not identification and len(kinds) > 1:
        raise ScanError("does not say which segment it shows; export it again")
    segment = int(identification[0].ReferencedSegmentNumber) if identification else min(kinds)
    if segment not in kinds:
        raise ScanError(f"shows segment {segment}, which is not described; describe it")
    if form not in ("BINARY", "FRACTIONAL"):
        raise ScanError("has a type other than BINARY, FRACTIONAL, LABELMAP; export it as BINARY")
    if form == "BINARY":
        return [(segment, pixels > 0)]
    region = pixels >= 0.5 * float(header.get("MaximumFractionalValue", 255))
    if pixels.any() and not region.any() and kinds[segment] != IGNORED:
        raise ScanError("lies below one half everywhere; export it as BINARY")
    return [(segment, region)]


def _sources(
    own: pydicom.Dataset, shared: pydicom.Dataset, header: pydicom.Dataset
) -> tuple[frozenset[str], int | None]:
    """SOP instance UIDs that a frame references, and the number of the frame in them if there is one."""
    for group in (own, shared):
        found = [
            source
            for derivation in group.get("DerivationImageSequence", None) or []
            for source in derivation.get("SourceImageSequence", None) or []
        ]
        if found:
            numbers = {number for source in found for number in _numbers(source.get("ReferencedFrameNumber", None))}
            return _uids(found), numbers.pop() if len(numbers) == 1 else None
    listed = [
        instance
        for series in header.get("ReferencedSeriesSequence", None) or []
        for instance in series.get("ReferencedInstanceSequence", None) or []
    ]
    return _uids(listed), None


def _uids(references: Iterable[pydicom.Dataset]) -> frozenset[str]:
    return frozenset(str(reference.get("ReferencedSOPInstanceUID", "")) for reference in references) - {""}


def _numbers(value: Any) -> list[int | None]:
    """Frame numbers of a reference; None where it names the whole object."""
    if value is None:
        return [None]
    return [int(value)] if isinstance(value, int) else [int(number) for number in value]


def _kind(segment: pydicom.Dataset, labels: Labels) -> str:
    """Kind of a segment by its label, else by the meaning of its type.

    Raises:
      ScanError: something else than a lesion, or negated; without the file's name.
    """
    label = str(segment.get("SegmentLabel", "") or "")
    types = segment.get("SegmentedPropertyTypeCodeSequence", None) or []
    texts = [label, *(str(code.get("CodeMeaning", "") or "") for code in types)]
    said = [meaning(text) for text in texts]
    for text in texts:
        with contextlib.suppress(ScanError):
            kind = kind_of_label(text, labels, "")
            if text in labels or Says.NEGATED not in said:
                return kind
    if set(said) == {Says.NOTHING}:
        return "lesions"
    strange = next(text for text, kind in zip(texts, said, strict=True) if kind in (Says.NEGATED, Says.UNKNOWN))
    return kind_of_label(strange, labels, f"segment {int(segment.SegmentNumber)}")
