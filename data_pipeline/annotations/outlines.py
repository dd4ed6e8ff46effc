"""Outlines and boxes in text files (LabelMe, Pascal VOC; COCO is in `coco`) -> instance masks and weak boxes."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from skimage.draw import disk, polygon

from data_pipeline.annotations.kinds import IGNORED, Annotation, Labels, Reading, WeakBox, kind_of_label
from data_pipeline.annotations.text_files import annotation_xml
from data_pipeline.readers import budget
from data_pipeline.readers.formats.images import open_picture
from data_pipeline.scan import ScanError

MIN_CORNERS, CIRCLE_POINTS = 3, 2


def is_labelme(content: Any) -> bool:
    """Whether JSON content is a LabelMe file."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def labelme_annotation(
    content: Mapping[str, Any], shape: tuple[int, int], *, labels: Labels, source: str
) -> Annotation:
    """Closed shapes and masks of a LabelMe or X-AnyLabeling file; shapes of one `group_id` are one lesion.

    LabelMe counts from the corner of the first pixel, so that a pixel is inside where its centre is.

    Raises:
      ScanError: drawn on a picture of another size, or more than 255 shapes.
    """
    size = content.get("imageHeight"), content.get("imageWidth")
    check_drawn_on(*size, shape, source)
    reading = Reading(shape, labels, source)
    if not content["shapes"] and None in size:  # what has lost one entry may have lost its shapes
        reading.puzzle("nothing is drawn, and the picture's size is missing; save it again in LabelMe")
    for flag in _set_flags(content):
        if reading.kind(flag, "flag") not in (None, "benign") and not content["shapes"]:
            reading.puzzle(f"flag {flag!r} is set, but nothing is drawn; draw it, or take the flag off")
    for number, entry in enumerate(content["shapes"], start=1):
        what = f"shape {number}"
        if not isinstance(entry, Mapping):
            reading.puzzle(f"{what} is damaged; draw it again")
            continue
        kind = reading.kind(str(entry.get("label", "")), what)
        if kind is None:
            continue
        if any(reading.kind(flag, f"flag of {what}") not in (None, kind) for flag in _set_flags(entry)):
            reading.puzzle(f"{what}: its flag says something else than its label; correct one")
        try:
            region = _labelme_region(entry, shape)
        except ScanError as error:
            reading.puzzle(f"{what} {error}")
        except Exception:  # a picture in base64 fails in as many ways as a file
            reading.puzzle(f"{what} is damaged; draw it again")
        else:
            group = entry.get("group_id")
            reading.region(kind, number if group is None else ("group", str(group)), region, what)
    return reading.annotation()


def _set_flags(entry: Mapping[str, Any]) -> list[str]:
    flags = entry.get("flags")
    return [str(name) for name, value in flags.items() if value] if isinstance(flags, Mapping) else []


def check_drawn_on(rows: Any, columns: Any, shape: tuple[int, int], source: str) -> None:
    """Refuses outlines and boxes made on a picture of another size than the scan; a size not stated passes.

    Raises:
      ScanError: as said.
    """
    if rows is not None and columns is not None and (rows, columns) != shape:
        raise ScanError(
            f"{source}: drawn on {rows} x {columns} pixels, the scan has {shape[0]} x {shape[1]}; "
            "draw on a picture of the scan's own size"
        )


def check_pixels_not_fractions(points: np.ndarray) -> None:
    """Refuses outlines whose coordinates are shares of the picture's sides.

    Raises:
      ScanError: as said, without the name of the file.
    """
    if points.size and np.abs(points).max() <= 1.0:
        raise ScanError("has coordinates of 1 and less, shares of the picture's sides; export it in pixels")


def fill(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Pixels `[rows, columns]` bool whose centre lies in an outline of (x, y) counted from the first pixel's corner.

    Raises:
      ScanError: shares instead of pixels, without the name of the file.
      ValueError: a point at infinity or more than the picture's longer side outside, or fewer than three.
    """
    budget.check_time()
    if len(points) < MIN_CORNERS or not np.isfinite(points).all():
        raise ValueError("no outline")
    if (np.abs(points - np.array(shape[::-1]) / 2) > 1.5 * max(shape)).any():
        raise ValueError("a corner far outside")
    check_pixels_not_fractions(points)
    region = np.zeros(shape, bool)
    region[polygon(points[:, 1] - 0.5, points[:, 0] - 0.5, shape)] = True
    return region


def _labelme_region(entry: Mapping[str, Any], shape: tuple[int, int]) -> np.ndarray:
    points = np.asarray(entry["points"], float).reshape(-1, 2)
    kind = entry.get("shape_type") or "polygon"
    if kind == "mask":
        return _placed(_patch(entry["mask"]), points, shape)
    if kind == "circle" and len(points) == CIRCLE_POINTS and np.isfinite(points).all():
        check_pixels_not_fractions(points)
        region = np.zeros(shape, bool)
        radius = float(np.hypot(*(points[1] - points[0])))
        region[disk((points[0, 1] - 0.5, points[0, 0] - 0.5), radius, shape=shape)] = True
        return region
    if kind in ("rectangle", "rotation", "oriented_rectangle", "quadrilateral"):
        return fill(_corners(points, turned=kind != "rectangle"), shape)
    if (
        kind in ("linestrip", "polyline", "line_strip")
        and len(points) > MIN_CORNERS
        and (points[0] == points[-1]).all()
    ):
        return fill(points[:-1], shape)
    if kind != "polygon":
        raise ScanError(f"is a {str(kind)[:20]!r}, which encloses nothing; draw its outline as a polygon")
    return fill(points, shape)


def _corners(points: np.ndarray, *, turned: bool) -> np.ndarray:
    """Four corners in turn of a rectangle given by two (upright), three (turned) or four of them."""
    if len(points) == 2 and not turned:
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    if len(points) == 3 and turned:
        return np.array([points[0], points[1], points[2], points[0] + points[2] - points[1]])
    if len(points) == 5 and (points[0] == points[-1]).all():
        points = points[:-1]
    if len(points) != 4:
        raise ValueError("no rectangle")
    centre = points.mean(axis=0)  # corners in any order, put in turn around their centre
    return points[np.argsort(np.arctan2(points[:, 1] - centre[1], points[:, 0] - centre[0]))]


def _placed(patch: np.ndarray, points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The small picture of a LabelMe mask in its place."""
    corner, (rows, columns) = np.rint(points[0]), patch.shape
    if not (0 <= corner[0] <= shape[1] - columns and 0 <= corner[1] <= shape[0] - rows):
        raise ScanError("lies partly outside the picture; draw it again")
    left, top = corner.astype(int)
    region = np.zeros(shape, bool)
    region[top : top + rows, left : left + columns] = patch
    return region


def _patch(text: str) -> np.ndarray:
    """The small picture of a LabelMe mask, bool."""
    try:
        with open_picture(base64.b64decode(text)) as picture:
            if picture.mode not in ("1", "L"):
                raise ValueError("no small mask")
            return np.asarray(picture).astype(bool)
    except ScanError:  # larger than any scan, which is told of a file
        raise ValueError("no small mask") from None


def voc_boxes(path: Path, *, labels: Labels) -> tuple[str, tuple[int, int] | None, tuple[WeakBox, ...]]:
    """File name, (rows, columns) and weak boxes of a Pascal VOC file.

    Raises:
      ScanError: damaged, or an unknown label.
    """
    damaged = ScanError(f"{path}: is not a readable Pascal VOC annotation; export it again")
    root = annotation_xml(path)
    if root is None or root.tag != "annotation":
        raise damaged
    try:
        size = root.find("size")
        shape = size is not None and (int(size.findtext("height") or 0), int(size.findtext("width") or 0))
        boxes = []
        for entry in root.findall("object"):
            label, place = entry.findtext("name") or "", entry.find("bndbox")
            if place is None:
                raise damaged
            left, top, right, bottom = (float(place.findtext(key) or "x") for key in ("xmin", "ymin", "xmax", "ymax"))
            kind = kind_of_label(label, labels, str(path))
            if kind != IGNORED:
                # VOC counts from 1 and includes the last pixel.
                boxes.append(weak_box(kind, top - 1, left - 1, bottom - top + 1, right - left + 1))
    except ValueError as error:
        raise error if isinstance(error, ScanError) else damaged from None
    return root.findtext("filename") or path.stem, shape if shape and min(shape) > 0 else None, tuple(boxes)


def weak_box(kind: str, row: float, column: float, rows: float, columns: float) -> WeakBox:
    """A box in pixels, counted from the first pixel's corner.

    Raises:
      ValueError: empty or at infinity.
    """
    if not (rows > 0 and columns > 0 and np.isfinite([row, column, rows, columns]).all()):
        raise ValueError("an empty box")
    return WeakBox(kind, *(round(float(value), 2) for value in (row, column, rows, columns)))
