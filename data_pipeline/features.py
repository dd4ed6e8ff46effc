"""What an example of a bone scan data set holds: the same features for simulated and imported scans."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow_datasets as tfds


@dataclasses.dataclass(frozen=True)
class ImageRow:
    """What is known of an image besides its pixels."""

    image_id: str
    patient: str
    view: str
    pixel_size_mm: tuple[float, float]
    lesion_rows: list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class BoneScans:
    """A split in memory: 256 px images take 0.6 MB each.

    Attributes:
      counts: `[n, rows, columns]` int32; 256 x 256 or, of whole bodies, 1024 x 256.
      masks: by name `[n, rows, columns]` uint8 instance ids; an imported set has only the kinds that were annotated.
      rows: `n` image rows.
      version: of the built set, None for scans that come from none.
    """

    counts: np.ndarray
    masks: dict[str, np.ndarray]
    rows: list[ImageRow]
    version: str | None = None


def image_features(shape: tuple[int, int], masks: Iterable[str]) -> tfds.features.FeaturesDict:
    """Features of an example.

    Args:
      shape: rows and columns.
      masks: kinds of instance masks.
    """
    image = {"shape": shape, "encoding": "zlib"}
    features: dict[str, Any] = {
        "counts": tfds.features.Tensor(dtype=np.int32, **image),
        "image_id": tfds.features.Text(),
        "patient": tfds.features.Text(),
        "view": tfds.features.Text(),
        "pixel_size_mm": tfds.features.Tensor(shape=(2,), dtype=np.float32),
        "crop_origin_px": tfds.features.Tensor(shape=(2,), dtype=np.int32),
        "lesion_rows": tfds.features.Text(),
    }
    features |= {name: tfds.features.Tensor(dtype=np.uint8, **image) for name in masks}
    return tfds.features.FeaturesDict(features)


def stack_examples(examples: list[dict[str, Any]], masks: Iterable[str], *, version: str | None = None) -> BoneScans:
    """Examples of a split as arrays; `version` is that of the built set."""
    return BoneScans(
        counts=np.stack([example["counts"] for example in examples]),
        masks={name: np.stack([example[name] for example in examples]) for name in masks},
        rows=[_image_row(example) for example in examples],
        version=version,
    )


def _image_row(example: dict[str, Any]) -> ImageRow:
    def text(key: str) -> str:
        value = example[key]
        return value.decode() if isinstance(value, bytes) else str(value)

    return ImageRow(
        image_id=text("image_id"),
        patient=text("patient"),
        view=text("view"),
        pixel_size_mm=(float(example["pixel_size_mm"][0]), float(example["pixel_size_mm"][1])),
        lesion_rows=json.loads(text("lesion_rows")),
    )
