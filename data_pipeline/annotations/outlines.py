"""Outlines and boxes in text files (LabelMe, COCO, Pascal VOC) -> instance masks and weak boxes."""

from __future__ import annotations

import base64
import io
import json
import warnings as python_warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from skimage.draw import disk, polygon

from data_pipeline.annotations.kinds import IGNORED, Annotation, Labels, check_number, combine, kind_of_label
from data_pipeline.readers.values import MAX_SIDE_PX
from data_pipeline.scan import ScanError

MAX_TEXT_BYTES = 256 << 20


def read_json(path: Path) -> Any:
    """Content of a JSON file, or None where it is none.

    Raises:
      ScanError: larger than any annotation, or it cannot be read.
    """
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise ScanError(f"{path}: {path.stat().st_size >> 20} MiB of JSON; no annotation is that large")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except ScanError:
        raise
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        return None


def is_labelme(content: Any) -> bool:
    """Whether JSON content is a LabelMe file."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def is_coco(content: Any) -> bool:
    """Whether JSON content is a COCO file."""
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "annotations"))


def labelme_annotation(
    content: Mapping[str, Any], shape: tuple[int, int], *, labels: Labels, source: str
) -> Annotation:
    """Polygons, rectangles, circles and masks of a LabelMe file; shapes of one `group_id` are one lesion.

    LabelMe counts from the corner of the first pixel, so that a pixel is inside where its centre is.

    Raises:
      ScanError: drawn on a picture of another size, an unknown label, a damaged shape.
    """
    check_drawn_on(content.get("imageHeight"), content.get("imageWidth"), shape, source)
    regions: dict[str, dict[Any, np.ndarray]] = {"lesions": {}}
    warnings: list[str] = []
    for number, entry in enumerate(content["shapes"]):
        if not isinstance(entry, Mapping):
            raise ScanError(f"{source}: shape {number + 1} is damaged; draw it again")
        kind = kind_of_label(str(entry.get("label", "")), labels, source)
        if kind == IGNORED:
            continue
        try:
            region = _labelme_region(entry, shape)
        except Exception:  # a picture in base64 fails in as many ways as a file
            raise ScanError(f"{source}: shape {number + 1} is damaged; draw it again") from None
        if region is None or not region.any():
            why = "a line or a point" if region is None else "covers no pixel"
            warnings.append(f"shape {number + 1} {why}: left out")
            continue
        group = entry.get("group_id")
        key = ("alone", number) if group is None else ("group", group)
        found = regions.setdefault(kind, {})
        found[key] = found[key] | region if key in found else region
        check_number(len(found), source)
    masks = combine({kind: list(found.values()) for kind, found in regions.items()}, shape, source)
    return Annotation(masks, warnings=tuple(warnings))


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


def _labelme_region(entry: Mapping[str, Any], shape: tuple[int, int]) -> np.ndarray | None:
    points = np.asarray(entry["points"], float).reshape(-1, 2)
    if not np.isfinite(points).all():
        raise ValueError("a point at infinity")
    region = np.zeros(shape, bool)
    kind = entry.get("shape_type") or "polygon"
    if kind == "rectangle":
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        points = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        kind = "polygon"
    if kind == "polygon":
        region[polygon(points[:, 1] - 0.5, points[:, 0] - 0.5, shape)] = True
    elif kind == "circle":
        radius = float(np.hypot(*(points[1] - points[0])))
        region[disk((points[0, 1] - 0.5, points[0, 0] - 0.5), radius, shape=shape)] = True
    elif kind == "mask":
        patch = _patch(entry["mask"])
        left, top = np.rint(points[0]).astype(int)
        if left < 0 or top < 0:
            raise ValueError("a mask that begins outside")
        rows, columns = (min(patch.shape[0], shape[0] - top), min(patch.shape[1], shape[1] - left))
        region[top : top + rows, left : left + columns] = patch[:rows, :columns]
    else:
        return None
    return region


def _patch(text: str) -> np.ndarray:
    """The small picture of a LabelMe mask, bool."""
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
            if max(picture.size) > MAX_SIDE_PX:
                raise ValueError("larger than any scan")
            return np.asarray(picture).astype(bool)


def coco_annotations(content: Mapping[str, Any]) -> dict[str, tuple[Mapping[str, Any], list[Mapping[str, Any]]]]:
    """File name -> (image entry, its annotations with `category` added) of a COCO file.

    Raises:
      AttributeError, TypeError: lists that hold something else than objects.
    """
    names = {entry.get("id"): str(entry.get("name", "")) for entry in content.get("categories") or []}
    by_name: dict[str, tuple[Mapping[str, Any], list[Mapping[str, Any]]]] = {}
    by_id = {}
    for image in content["images"]:
        if image.get("id") is not None and "file_name" in image:
            by_id[image["id"]] = by_name.setdefault(str(image["file_name"]), (image, []))
    for entry in content["annotations"]:
        if entry.get("image_id") in by_id:
            by_id[entry["image_id"]][1].append({**entry, "category": names.get(entry.get("category_id"), "")})
    return by_name


def coco_annotation(
    image: Mapping[str, Any],
    entries: Iterable[Mapping[str, Any]],
    shape: tuple[int, int],
    *,
    labels: Labels,
    source: str,
) -> Annotation:
    """Polygons and run lengths of one COCO image are instances; annotations with a box alone are weak.

    Raises:
      ScanError: another size than the scan, an unknown category, a damaged segmentation.
    """
    check_drawn_on(image.get("height"), image.get("width"), shape, source)
    regions: dict[str, list[np.ndarray]] = {}
    boxes: list[dict[str, object]] = []
    warnings: list[str] = []
    for number, entry in enumerate(entries, start=1):
        kind = kind_of_label(entry["category"], labels, source)
        if kind == IGNORED:
            continue
        try:
            if not entry.get("segmentation"):
                left, top, width, height = (float(number) for number in entry["bbox"])
                boxes.append(_box(kind, top, left, height, width))
                continue
            region = _coco_region(entry["segmentation"], shape)
        except (ValueError, TypeError, KeyError, IndexError, OverflowError):
            raise ScanError(f"{source}: annotation {number} of its image is damaged; export it again") from None
        if region.any():
            regions.setdefault(kind, []).append(region)
            check_number(len(regions[kind]), source)
        else:
            warnings.append(f"annotation {number} of its image covers no pixel: left out")
    if regions or not boxes:
        regions.setdefault("lesions", [])
    return Annotation(combine(regions, shape, source), tuple(boxes), tuple(warnings))


def _coco_region(segmentation: Any, shape: tuple[int, int]) -> np.ndarray:
    region = np.zeros(shape, bool)
    if isinstance(segmentation, list):
        for flat in segmentation:
            points = np.asarray(flat, float).reshape(-1, 2)
            if not np.isfinite(points).all():
                raise ValueError("a point at infinity")
            region[polygon(points[:, 1] - 0.5, points[:, 0] - 0.5, shape)] = True
        return region
    if tuple(segmentation["size"]) != shape:
        raise ValueError("another size")
    runs = segmentation["counts"]
    lengths = np.asarray(_coco_runs(runs) if isinstance(runs, str) else runs, np.int64)
    if lengths.min(initial=0) < 0 or lengths.max(initial=0) > region.size or lengths.sum() != region.size:
        raise ValueError("runs do not fill the image")
    values = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return values.reshape(shape, order="F")  # COCO counts down the columns


def _coco_runs(text: str) -> list[int]:
    """Run lengths from COCO's compressed text.

    Each character carries 5 bits from code 48 on; 32 says that more follow, 16 in the last is the sign. From the fourth
    number on, the difference to the one before the last is stored.
    """
    lengths: list[int] = []
    value, shift = 0, 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64 or shift > 40:
            raise ValueError("not run lengths")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value, shift = 0, 0
    return lengths


def voc_boxes(path: Path, *, labels: Labels) -> tuple[str, tuple[int, int] | None, tuple[dict[str, object], ...]]:
    """File name, (rows, columns) and weak boxes of a Pascal VOC file.

    Raises:
      ScanError: damaged, or an unknown label.
    """
    damaged = ScanError(f"{path}: is no readable Pascal VOC annotation; export it again")
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise damaged
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error.strerror})") from None
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # entities can grow without end
        raise damaged
    try:
        root = ElementTree.fromstring(text)
        if root.tag != "annotation":
            raise damaged
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
                boxes.append(_box(kind, top - 1, left - 1, bottom - top + 1, right - left + 1))
    except (ElementTree.ParseError, ValueError) as error:
        raise error if isinstance(error, ScanError) else damaged from None
    return root.findtext("filename") or path.stem, shape if shape and min(shape) > 0 else None, tuple(boxes)


def _box(kind: str, row: float, column: float, rows: float, columns: float) -> dict[str, object]:
    if not (rows > 0 and columns > 0 and np.isfinite([row, column, rows, columns]).all()):
        raise ValueError("an empty box")
    place = {"row": row, "column": column, "rows": rows, "columns": columns}
    return {"kind": kind, **{key: round(float(value), 2) for key, value in place.items()}}
