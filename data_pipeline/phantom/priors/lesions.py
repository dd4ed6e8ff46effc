"""Of metastases, benign spots and the masks that are made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from data_pipeline.phantom.priors.distributions import LogNormal, Uniform

BENIGN_RATES: Mapping[str, float] = {
    "facet": 0.495,
    "endplate": 0.385,
    "shoulder": 0.275,
    "acromioclavicular": 0.193,
    "sternoclavicular": 0.193,
    "manubriosternal": 0.066,
    "knee": 0.495,
    "hip_joint": 0.11,
    "sacroiliac": 0.193,
    "ankle": 0.11,
    "toe": 0.138,
    "wrist": 0.138,
    "costochondral": 0.275,
    "costovertebral": 0.138,
    "teeth": 0.165,
    "forehead": 0.066,
    "rib_fractures": 0.121,
    "compression_fracture": 0.138,
    "paget": 0.017,
    "osteoarthropathy": 0.017,
    "thyroid_cartilage": 0.066,
    "breast": 0.033,
    "hydronephrosis": 0.044,
    "urine": 0.165,
    "injection": 0.22,
    "prosthesis": 0.055,
    "surgery_gap": 0.028,
}
"""Mean number of each kind in a patient; in sum about what BS-80K shows, our choice by kind."""


METASTASIS_LENGTH_MM = LogNormal(median=19.0, spread=1.6, low=7.0, high=90.0)
METASTASIS_CONTRAST = LogNormal(median=6.0, spread=1.8, low=1.6, high=25.0)
LYTIC_CONTRAST = Uniform(0.0, 0.4)
BENIGN_CONTRAST = LogNormal(median=3.1, spread=1.7, low=1.4, high=20.0)
BENIGN_LENGTH_MM = LogNormal(median=20.0, spread=1.4, low=8.0, high=45.0)


@dataclasses.dataclass(frozen=True)
class LesionPriors:
    """Metastases and benign spots.

    Attributes:
      share_without: patients without metastasis.
      share_solitary: of the others, with one lesion.
      share_multiple: of the others, with 2 to 8.
      share_superscan: of the others, whose axial skeleton is full of lesions; the rest have 9 to `most`.
      most: lesions of a patient who is no superscan.
      superscan_lesions: least and most lesions of a superscan.
      cluster_probability: that a patient with several lesions has a confluent cluster.
      cluster_radius_mm: within which a cluster's lesions lie.
      length_mm: longest axis.
      contrast: activity over that of the bone around it.
      cold_centre_probability: for lesions longer than `cold_centre_min_mm`.
      lytic_probability: of a lesion that takes up less than the bone around it.
      lytic_contrast: its activity over that of the bone around it.
      whole_vertebra_probability: of a lesion of a vertebra that fills it.
      sites: relative frequency by site.
      benign_rates: mean number in a patient, by kind.
      benign_contrast: as `contrast`; overlaps it by choice, so that brightness alone tells nothing.
      benign_length_mm: longest axis.
    """

    share_without: float = 0.2
    share_solitary: float = 0.18
    share_multiple: float = 0.62
    share_superscan: float = 0.01
    most: int = 30
    superscan_lesions: tuple[int, int] = (70, 140)
    cluster_probability: float = 0.35
    cluster_radius_mm: float = 45.0
    length_mm: LogNormal = METASTASIS_LENGTH_MM
    contrast: LogNormal = METASTASIS_CONTRAST
    cold_centre_probability: float = 0.2
    cold_centre_min_mm: float = 30.0
    lytic_probability: float = 0.04
    lytic_contrast: Uniform = LYTIC_CONTRAST
    whole_vertebra_probability: float = 0.12
    sites: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {
            "rib": 0.40,
            "thoracic": 0.19,
            "lumbar": 0.08,
            "cervical": 0.01,
            "sternum": 0.06,
            "scapula": 0.06,
            "clavicle": 0.03,
            "humerus": 0.035,
            "hip": 0.06,
            "sacrum": 0.025,
            "femur": 0.03,
            "tibia": 0.005,
            "skull": 0.015,
        }
    )
    benign_rates: Mapping[str, float] = dataclasses.field(default_factory=lambda: dict(BENIGN_RATES))
    benign_contrast: LogNormal = BENIGN_CONTRAST
    benign_length_mm: LogNormal = BENIGN_LENGTH_MM


SUPERSCAN_SOFT_SHARE = 0.35
"""What is left in soft tissue and kidneys of a superscan."""


@dataclasses.dataclass(frozen=True)
class TruthRules:
    """How masks follow from the exact lesions.

    Attributes:
      projection_fraction: of the maximum of a lesion's attenuated projection; above it a pixel is lesion.
      isocontour_fraction: of the maximum of the blurred, noise-free lesion image; a lesion whose projection is smaller
        than this contour is scored by the contour, since no camera shows it smaller.
      visible_cnr: lesion counts over the noise of the background within the mask (Rose's 3 with a margin for clutter);
        a lesion below it is hidden: kept apart from the scored mask, as nobody can draw it.
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
