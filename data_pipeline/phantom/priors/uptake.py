"""Of healthy uptake: bones, parts of bones, spongy bone, and attenuation. Tuned on the one real scan; our choice."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class UptakeSpreads:
    """Standard deviations of the logarithm of healthy uptake.

    Attributes:
      group: of all bones of a group, such as the ribs.
      pair: of a bone on both sides.
      bone: of a bone on its own.
      spine: of vertebrae, correlated from one to the next.
      side: of all bones of a side.
    """

    group: float = 0.25
    pair: float = 0.22
    bone: float = 0.30
    spine: float = 0.24
    side: float = 0.07


SPINE_MEMORY = 0.8
"""Correlation of the uptake of neighbouring vertebrae."""

BONE_GROUPS = ("rib", "thoracic", "lumbar", "hip", "sternum", "skull", "scapula", "femur", "tibia", "humerus")


@dataclasses.dataclass(frozen=True)
class PartPrior:
    """Uptake of a part over that of its bone.

    Attributes:
      ratio: median at 60 years.
      common: geometric standard deviation of all parts of the kind together.
      own: of one part alone.
      age_power: how the ratio follows the age (worn joints).
    """

    ratio: float
    common: float
    own: float
    age_power: float = 0.0


PARTS: Mapping[str, PartPrior] = {
    "shoulder": PartPrior(1.9, 1.3, 1.25, 0.6),
    "acromioclavicular": PartPrior(1.5, 1.3, 1.35, 0.6),
    "sternoclavicular": PartPrior(1.6, 1.35, 1.3, 0.6),
    "elbow": PartPrior(1.4, 1.25, 1.25, 0.3),
    "wrist": PartPrior(1.5, 1.3, 1.3, 0.3),
    "hip_joint": PartPrior(1.4, 1.25, 1.2, 0.5),
    "knee": PartPrior(1.4, 1.35, 1.3, 0.8),
    "ankle": PartPrior(1.5, 1.3, 1.25, 0.3),
    "tarsus": PartPrior(1.3, 1.3, 1.25, 0.3),
    "toe": PartPrior(1.3, 1.35, 1.4, 0.6),
    "body": PartPrior(1.1, 1.2, 1.1),
    "endplate": PartPrior(1.0, 1.15, 1.15, 0.3),
    "spinous": PartPrior(1.0, 1.3, 1.12),
    "facet": PartPrior(1.1, 1.25, 1.2, 0.5),
    "manubrium": PartPrior(1.05, 1.0, 1.3),
    "manubriosternal": PartPrior(1.2, 1.0, 1.35, 0.3),
    "sternum_body": PartPrior(0.95, 1.0, 1.25),
    "xiphoid": PartPrior(0.7, 1.0, 1.5),
    "rib_back": PartPrior(1.05, 1.2, 1.1),
    "rib_side": PartPrior(1.0, 1.2, 1.1),
    "rib_front": PartPrior(0.9, 1.25, 1.1),
    "costochondral": PartPrior(1.3, 1.4, 1.3),
    "costovertebral": PartPrior(1.2, 1.2, 1.15, 0.3),
    "scapular_spine": PartPrior(1.2, 1.25, 1.15),
    "scapular_tip": PartPrior(1.3, 1.25, 1.2),
    "sacroiliac": PartPrior(2.0, 1.3, 1.2),
    "iliac_crest": PartPrior(1.2, 1.25, 1.15),
    "ischium": PartPrior(1.2, 1.25, 1.2),
    "pubis": PartPrior(1.0, 1.25, 1.2),
    "trochanter": PartPrior(1.1, 1.2, 1.2),
    "upper_shaft": PartPrior(1.1, 1.2, 1.1),
    "lower_shaft": PartPrior(1.0, 1.2, 1.1),
    "tibial_shaft": PartPrior(1.0, 1.3, 1.15),
    "deltoid": PartPrior(1.2, 1.25, 1.2),
    "face": PartPrior(1.5, 1.0, 1.3),
    "nose": PartPrior(1.3, 1.0, 1.4),
    "teeth": PartPrior(1.4, 1.4, 1.4),
    "skull_base": PartPrior(1.3, 1.0, 1.25),
    "occiput": PartPrior(1.0, 1.0, 1.25),
    "forehead": PartPrior(1.0, 1.0, 1.35),
    "orbit": PartPrior(0.8, 1.25, 1.1),
    "temple": PartPrior(1.0, 1.25, 1.15),
    "jaw_angle": PartPrior(0.9, 1.2, 1.2),
}
"""By kind of part (`parts`): every one of them varies on its own."""


@dataclasses.dataclass(frozen=True)
class FillPrior:
    """Spongy bone of a kind of bone.

    Attributes:
      share: tracer per volume, as area of surface in mm2 with as much tracer per mm3.
      ends: share of the length, from either end, that is filled.
    """

    share: float
    ends: float


FILLED: Mapping[str, FillPrior] = {
    "thoracic": FillPrior(0.20, 0.5),
    "lumbar": FillPrior(0.22, 0.5),
    "sacrum": FillPrior(0.06, 0.5),
    "hip": FillPrior(0.12, 0.5),
    "sternum": FillPrior(0.15, 0.5),
    "humerus": FillPrior(0.12, 0.13),
    "femur": FillPrior(0.12, 0.14),
    "tibia": FillPrior(0.12, 0.12),
    "patella": FillPrior(0.15, 0.5),
    "talus": FillPrior(0.12, 0.5),
    "foot": FillPrior(0.10, 0.5),
}
"""Bodies of vertebrae, flat bones of the trunk and ends of long bones."""

BONE_UPTAKE: Mapping[str, float] = {
    "rib": 0.50,
    "sternum": 1.9,
    "costal_cartilage": 0.05,
    "thoracic": 1.05,
    "lumbar": 1.15,
    "cervical_spine": 0.75,
    "sacrum": 0.8,
    "hip": 0.62,
    "scapula": 0.75,
    "clavicle": 0.8,
    "humerus": 0.6,
    "skull": 0.72,
    "jaw": 1.5,
    "femur": 1.05,
    "tibia": 0.7,
    "fibula": 0.4,
    "patella": 0.9,
    "foot": 0.5,
    "bofoot": 0.5,
    "talus": 0.6,
}
"""Activity per bone surface relative to the skeleton's reference; bones not named have `OTHER_BONE_UPTAKE`."""

OTHER_BONE_UPTAKE = 0.4

SURFACE_MM = 2.0
"""Thickness of the layer that takes up tracer on bone surfaces."""

BONE_TO_SOFT = 15.5
"""Concentration in the 2 mm surface layer of reference bone over that of soft tissue."""

MU_SOFT_PER_MM = 0.0150
MU_LUNG_PER_MM = 0.0045
MU_BONE_EXTRA_PER_MM = 0.0055
"""Narrow-beam attenuation at 140 keV (water 0.15 /cm; lung 0.296 g/cm3; skeleton at 1.4 g/cm3 about 0.205 /cm)."""
