"""What a data set says of its lesions besides their pixels."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from msgspec import Meta

from data_pipeline.reading import Count, Finite


@dataclasses.dataclass(frozen=True)
class LesionFacts:
    """What is known of a lesion, as far as it is scored or shown; None is unknown. A file may say more.

    Attributes:
      id: in the image's mask `lesions`.
      bone: its name; `rib_5_left` is a rib.
      size_mm: length.
      contrast, cnr: ratios to the bone around and to the noise.
      visible: whether a reader can see it.
      area_px: pixels of its mask, before lesions that overlap are parted.
    """

    id: Annotated[int, Meta(ge=1, le=255)]
    bone: str | None = None
    size_mm: Annotated[float, Meta(ge=0, le=1e4)] | None = None
    contrast: Finite | None = None
    cnr: Finite | None = None
    visible: bool | None = None
    area_px: Count | None = None
