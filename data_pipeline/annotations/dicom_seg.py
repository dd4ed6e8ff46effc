"""DICOM Segmentation objects -> instance masks, matched with scans by the SOP instance and frame they reference."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pydicom

from data_pipeline.annotations.kinds import IGNORED, Annotation, Labels, combine, connected_instances, kind_of_label
from data_pipeline.readers.dicom import quiet
from data_pipeline.readers.values import check_pixels
from data_pipeline.scan import ScanError

MAX_FRAMES = 1024


@dataclasses.dataclass(frozen=True)
class SegmentFrame:
    """One frame of one segment.

    Attributes:
      segment: its number.
      label: kind of the segment.
      references: SOP instance UID of the scan, or empty.
      frame: number of the scan's frame from 1, or None.
      region: `[rows, columns]` bool.
    """

    segment: int
    kind: str
    references: str
    frame: int | None
    region: np.ndarray


def is_segmentation(header: pydicom.Dataset) -> bool:
    """Whether a header is that of a segmentation."""
    return str(header.get("Modality", "")) == "SEG"


def read_segmentation(path: Path, *, labels: Labels) -> list[SegmentFrame]:
    """All frames of a segmentation; a fractional one is cut at one half.

    A segment whose label and type say nothing that we know is taken as lesion.

    Raises:
      ScanError: damaged, or no segmentation of planar images.
    """
    with quiet():
        try:
            header = pydicom.dcmread(path)
            check_pixels(int(header.get("NumberOfFrames", 1)), (int(header.Rows), int(header.Columns)), str(path))
            if int(header.get("NumberOfFrames", 1)) > MAX_FRAMES:
                raise ScanError(f"{path}: {header.NumberOfFrames} frames, not a segmentation of planar scans")
            values = header.pixel_array
            values = values[None] if values.ndim == 2 else values
            kinds = {int(entry.SegmentNumber): _kind(entry, labels) for entry in header.SegmentSequence}
            frames: list[SegmentFrame] = []
            for number, pixels in enumerate(values):
                frames += _frames(header, number, pixels, kinds)
        except ScanError:
            raise
        except Exception as error:  # damaged files fail in many ways
            raise ScanError(f"{path}: the segmentation cannot be read ({type(error).__name__}); export again") from None
    return [frame for frame in frames if frame.kind != IGNORED]


def segment_annotation(frames: list[SegmentFrame], shape: tuple[int, int], source: str) -> Annotation:
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
    return Annotation(masks)


def _frames(header: pydicom.Dataset, number: int, pixels: np.ndarray, kinds: dict[int, str]) -> list[SegmentFrame]:
    groups = header.get("PerFrameFunctionalGroupsSequence", None)
    own = groups[number] if groups else pydicom.Dataset()
    shared = (header.get("SharedFunctionalGroupsSequence", None) or [pydicom.Dataset()])[0]
    references, frame = _source(own, shared, header)
    if str(header.get("SegmentationType", "BINARY")) == "LABELMAP":
        return [
            SegmentFrame(segment, kind, references, frame, pixels == segment)
            for segment, kind in kinds.items()
            if segment != 0
        ]
    identification = (
        own.get("SegmentIdentificationSequence", None) or shared.get("SegmentIdentificationSequence", None) or []
    )
    segment = int(identification[0].ReferencedSegmentNumber) if identification else min(kinds)
    region = pixels > 0
    if str(header.get("SegmentationType", "BINARY")) == "FRACTIONAL":
        region = pixels >= 0.5 * float(header.get("MaximumFractionalValue", 255))
    return [SegmentFrame(segment, kinds[segment], references, frame, region)]


def _source(own: pydicom.Dataset, shared: pydicom.Dataset, header: pydicom.Dataset) -> tuple[str, int | None]:
    for group in (own, shared):
        for derivation in group.get("DerivationImageSequence", None) or []:
            for source in derivation.get("SourceImageSequence", None) or []:
                numbers = source.get("ReferencedFrameNumber", None)
                if numbers is not None and not isinstance(numbers, int):
                    numbers = numbers[0] if len(numbers) == 1 else None
                return str(source.get("ReferencedSOPInstanceUID", "")), None if numbers is None else int(numbers)
    for series in header.get("ReferencedSeriesSequence", None) or []:
        instances = series.get("ReferencedInstanceSequence", None) or []
        if len(instances) == 1:
            return str(instances[0].get("ReferencedSOPInstanceUID", "")), None
    return "", None


def _kind(segment: pydicom.Dataset, labels: Labels) -> str:
    texts = [str(segment.get("SegmentLabel", "") or "")]
    for code in segment.get("SegmentedPropertyTypeCodeSequence", None) or []:
        texts.append(str(code.get("CodeMeaning", "") or ""))
    for text in texts:
        try:
            return kind_of_label(text, labels, "")
        except ScanError:
            continue
    return "lesions"
