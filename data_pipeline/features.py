"""What an example of a bone scan data set holds: the same features for simulated and imported scans."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
import tensorflow_datasets as tfds

from data_pipeline.annotations.lesion_facts import LesionFacts
from data_pipeline.errors import RequestError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class ImageRow:
    """What is known of an image besides its pixels."""

    image_id: str
    patient: str
    view: str
    pixel_size_mm: tuple[float, float]
    lesion_rows: list[LesionFacts]


@dataclasses.dataclass(frozen=True)
class Lazy(Generic[T]):
    """A sequence whose entries are made when they are asked for; none is kept.

    Attributes:
      length: how many there are.
      make: number -> entry; threads may call it at the same time.

    Example:
      >>> squares = Lazy(3, lambda number: number**2)
      >>> squares[2], list(squares)
      (4, [0, 1, 4])
    """

    length: int
    make: Callable[[int], T]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> T:
        return self.make(range(self.length)[number])

    def __iter__(self) -> Iterator[T]:
        return map(self.make, range(self.length))


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


@dataclasses.dataclass(frozen=True)
class StoredScans:
    """A split on disk: of every example only what is asked for is read and decoded, when it is asked for.

    Attributes:
      records: serialised examples by number, of one or several splits; threads may read at the same time.
      numbers: `[n]` which of them belong to this split.
      features: of an example.
      masks: kinds of instance masks in it.
      place: of the set, for messages.
      version: of the built set.
    """

    records: Sequence[bytes]
    numbers: np.ndarray
    features: tfds.features.FeaturesDict
    masks: tuple[str, ...]
    place: str = ""
    version: str | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of an image."""
        rows, columns = self.features["counts"].shape
        return rows, columns

    def pixels(self, number: int, kind: str = "counts") -> np.ndarray:
        """`[rows, columns]`: counts int32, or uint8 ids of that kind of mask."""
        pixels: np.ndarray = self._read(number, (kind,))[kind]
        return pixels

    def row(self, number: int) -> ImageRow:
        """What is known of an image besides its pixels."""
        return _image_row(self._read(number, ("image_id", "patient", "view", "pixel_size_mm", "lesion_rows")))

    def patients(self) -> list[str]:
        """The patient of every image."""
        return [_text(self._read(number, ("patient",))["patient"]) for number in range(len(self))]

    def part(self, kept: Sequence[int]) -> StoredScans:
        """Some of the images, by their numbers here."""
        return dataclasses.replace(self, numbers=self.numbers[np.asarray(kept, int)])

    def in_memory(self, masks: Iterable[str] | None = None) -> BoneScans:
        """All images, with all masks or the named ones."""
        everything, masks = range(len(self)), self.masks if masks is None else masks
        return BoneScans(
            counts=np.stack([self.pixels(number) for number in everything]),
            masks={kind: np.stack([self.pixels(number, kind) for number in everything]) for kind in masks},
            rows=[self.row(number) for number in everything],
            version=self.version,
        )

    def _read(self, number: int, names: tuple[str, ...]) -> dict[str, Any]:
        try:
            example: dict[str, Any] = self._some(names).deserialize_example_np(self.records[int(self.numbers[number])])
        except Exception as error:  # array_record raises its own types for damaged files
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise RequestError(
                f"{self.place}: the built data set is damaged ({reason}); delete it to build anew"
            ) from error
        return example

    @functools.cached_property
    def _some(self) -> Callable[[tuple[str, ...]], tfds.features.FeaturesDict]:
        return functools.cache(lambda names: tfds.features.FeaturesDict({name: self.features[name] for name in names}))


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


def _image_row(example: dict[str, Any]) -> ImageRow:
    return ImageRow(
        image_id=_text(example["image_id"]),
        patient=_text(example["patient"]),
        view=_text(example["view"]),
        pixel_size_mm=(float(example["pixel_size_mm"][0]), float(example["pixel_size_mm"][1])),
        lesion_rows=msgspec.json.decode(_text(example["lesion_rows"]), type=list[LesionFacts]),
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
