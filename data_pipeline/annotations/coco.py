"""COCO files -> instance masks and weak boxes, each annotation with the one image that it names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from data_pipeline.annotations.kinds import Annotation, Labels, Reading
from data_pipeline.annotations.outlines import check_drawn_on, fill, weak_box
from data_pipeline.scan import ScanError

CocoImages = dict[str, tuple[Mapping[str, Any], list[Mapping[str, Any]]]]


def is_coco(content: Any) -> bool:
    """Whether JSON content is a COCO file."""
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "annotations"))


def coco_annotations(content: Mapping[str, Any]) -> CocoImages:
    """File name -> (image entry, its annotations with `category` added) of a COCO file.

    Ids are the same as numbers and as text. An image without any annotation is not there: nobody may have looked at it
    yet.

    Raises:
      ScanError: not every annotation belongs to exactly one image and one category; without the name of the file.
      AttributeError, TypeError: lists that hold something else than objects.
    """
    names = _by_id(content.get("categories") or [], "categories", "name")
    files = _by_id(content["images"], "images", "file_name")
    images = {_id(image["id"]): image for image in content["images"]}
    entries: dict[str, list[Mapping[str, Any]]] = {}
    for number, entry in enumerate(content["annotations"], start=1):
        owner, category = _id(entry.get("image_id")), _id(entry.get("category_id"))
        if owner not in files:
            raise ScanError(f"annotation {number} has image_id {owner!r}, which no image has; export it again")
        if category not in names:
            raise ScanError(f"annotation {number} has category_id {category!r}, which no category has; export it again")
        entries.setdefault(owner, []).append({**entry, "category": names[category]})
    by_name: CocoImages = {}
    for owner, found in entries.items():
        if files[owner] in by_name:
            raise ScanError(f"two images have the file_name {files[owner]!r}; keep one")
        by_name[files[owner]] = (images[owner], found)
    return by_name


def _by_id(entries: Iterable[Mapping[str, Any]], what: str, key: str) -> dict[str, str]:
    """Id -> name."""
    found: dict[str, str] = {}
    for entry in entries:
        number, name = _id(entry.get("id")), entry.get(key)
        if not number or not isinstance(name, str):
            raise ScanError(f"one of its {what} has no id or no {key}; export it again")
        if number in found:
            raise ScanError(f"two {what} have the id {number!r}; export it again, each with its own")
        found[number] = name
    return found


def _id(value: Any) -> str:
    """An id as text; empty where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


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
      ScanError: another size than the scan, or more than 255 instances.
    """
    check_drawn_on(image.get("height"), image.get("width"), shape, source)
    reading = Reading(shape, labels, source)
    outlined = False
    for number, entry in enumerate(entries, start=1):
        what = f"annotation {number} of its image"
        if (kind := reading.kind(entry["category"], what)) is None:
            outlined = True
            continue
        if entry.get("ignore"):
            reading.puzzle(f"{what} is marked as to be ignored; remove it")
        try:
            if not entry.get("segmentation"):
                left, top, width, height = (float(number) for number in entry["bbox"])
                reading.box(weak_box(kind, top, left, height, width))
                continue
            region = _coco_region(entry["segmentation"], shape)
        except ScanError as error:
            reading.puzzle(f"{what} {error}")
        except (ValueError, TypeError, KeyError, IndexError, OverflowError):
            reading.puzzle(f"{what} is damaged; export it again")
        else:
            outlined = True
            reading.region(kind, number, region, what)
    return reading.annotation(lesions_seen=outlined)


def _coco_region(segmentation: Any, shape: tuple[int, int]) -> np.ndarray:
    region = np.zeros(shape, bool)
    if isinstance(segmentation, list):
        for flat in segmentation:
            region |= fill(np.asarray(flat, float).reshape(-1, 2), shape)
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
