"""Every number of the virtual patients that is a choice, in one place.

Sources: lesion counts and sites, lung cancer (NINMAS 2013-14 series: 18 % solitary, 60 % multiple, ribs before spine
before pelvis); uptake (JNM 57 suppl 1765: metastases 63.6 +- 51.9, degeneration 16.5 +- 8.4, normal vertebrae 7.3 to
8.1; PMID 31612417); benign spots per view (BS-80K: 3.3 benign boxes per anterior image). Where no numeric source was
found (lesion length, uptake by bone) the value is our assumption, tuned on one real scan; docs/phantom/card.md lists
which is which.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class LogNormal:
    """A log-normal variable, cut to [low, high]."""

    median: float
    spread: float  # geometric standard deviation
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class LesionPriors:
    """Metastases and benign spots.

    Attributes:
      share_without: patients without metastasis.
      share_solitary: of the others, with one lesion.
      share_multiple: of the others, with 2 to 8; the rest have 9 to 16.
      cluster_probability: that a patient with several lesions has a confluent cluster.
      cluster_radius_mm: within which a cluster's lesions lie.
      length_mm: longest axis.
      contrast: activity over that of the bone around it.
      cold_centre_probability: for lesions longer than `cold_centre_min_mm`.
      sites: relative frequency by site.
      benign_per_patient: mean of a Poisson number.
      benign_contrast: as `contrast`.
      benign_length_mm: longest axis.
    """

    share_without: float = 0.2
    share_solitary: float = 0.18
    share_multiple: float = 0.60
    cluster_probability: float = 0.35
    cluster_radius_mm: float = 45.0
    length_mm: LogNormal = LogNormal(median=20.0, spread=1.6, low=8.0, high=80.0)
    contrast: LogNormal = LogNormal(median=7.5, spread=1.7, low=1.8, high=25.0)
    cold_centre_probability: float = 0.2
    cold_centre_min_mm: float = 30.0
    sites: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {
            "rib": 0.44,
            "thoracic": 0.20,
            "lumbar": 0.07,
            "sternum": 0.06,
            "scapula": 0.06,
            "clavicle": 0.03,
            "humerus": 0.03,
            "hip": 0.06,
            "sacrum": 0.02,
            "femur": 0.02,
            "skull": 0.01,
        }
    )
    benign_per_patient: float = 4.0
    benign_contrast: LogNormal = LogNormal(median=2.0, spread=1.5, low=1.2, high=8.0)
    benign_length_mm: LogNormal = LogNormal(median=14.0, spread=1.4, low=6.0, high=40.0)


@dataclasses.dataclass(frozen=True)
class TruthRules:
    """How masks follow from the exact lesions.

    Attributes:
      projection_fraction: of the maximum of a lesion's attenuated projection; above it a pixel is lesion.
      isocontour_fraction: of the maximum of the blurred, noise-free lesion image.
      visible_cnr: lesion counts over the noise of the background within the mask (Rose's 3 with a margin for clutter).
      reader_fractions: isocontours at which the two virtual readers draw.
      reader_jitter: relative spread of that fraction from lesion to lesion.
      reader_half_cnr: contrast-to-noise at which a reader draws a lesion half of the time.
    """

    projection_fraction: float = 0.25
    isocontour_fraction: float = 0.45
    visible_cnr: float = 4.0
    reader_fractions: tuple[float, float] = (0.40, 0.52)
    reader_jitter: float = 0.12
    reader_half_cnr: float = 5.0


BONE_UPTAKE: Mapping[str, float] = {
    "rib": 0.85,
    "sternum": 2.6,
    "costal_cartilage": 0.05,
    "thoracic": 1.55,
    "lumbar": 1.45,
    "cervical_spine": 0.75,
    "sacrum": 1.15,
    "hip": 0.75,
    "scapula": 0.75,
    "clavicle": 0.8,
    "humerus": 0.6,
    "skull": 0.55,
    "jaw": 1.9,
    "femur": 0.9,
    "tibia": 0.7,
    "fibula": 0.4,
    "patella": 0.9,
    "foot": 0.5,
    "bofoot": 0.5,
    "talus": 0.6,
}
"""Activity per bone surface relative to the skeleton's reference; bones not named have `OTHER_BONE_UPTAKE`."""

OTHER_BONE_UPTAKE = 0.4

BONE_TO_SOFT = 24.0
"""Concentration in the 2 mm surface layer of reference bone over that of soft tissue."""

JOINTS: Mapping[str, float] = {
    "humerus": 3.2,
    "clavicle": 2.6,
    "scapula": 2.0,
    "femur": 1.7,
    "tibia": 2.2,
    "foot": 1.5,
}
"""Uptake at the joint ends of these bones over that of their shaft."""

MU_SOFT_PER_MM = 0.0150
MU_LUNG_PER_MM = 0.0045
MU_BONE_EXTRA_PER_MM = 0.0055
"""Narrow-beam attenuation at 140 keV (water 0.15 /cm; lung 0.296 g/cm3; skeleton at 1.4 g/cm3 about 0.205 /cm)."""
