"""Every number of the virtual patients that is a choice, in one place.

Ranges are wide on purpose (domain randomisation): the one real scan lies well within them, and a network must not learn
the middle of them by heart. Sources: lesion counts and sites, lung cancer (NINMAS 2013-14 series: 18 % solitary, 60 %
multiple, ribs before spine before pelvis); benign spots per view (BS-80K: 3.3 benign boxes per anterior image); scatter
(own Monte Carlo). Values without a source named beside them are our choice; docs/phantom/card.md lists which is which.
"""

from __future__ import annotations

from data_pipeline.phantom.priors.distributions import LogNormal, Normal, Prior, Uniform
from data_pipeline.phantom.priors.lesions import BENIGN_RATES, SUPERSCAN_SOFT_SHARE, LesionPriors, TruthRules
from data_pipeline.phantom.priors.patient import (
    ACQUISITION,
    ARM_SIDE_DEG,
    BREAST_MM,
    COUNTS_PER_VIEW,
    EDGE_COLUMNS,
    HEAD_ROW,
    HEIGHT_MM,
    HIP_SCALE,
    MOTION_MM,
    MOTION_PROBABILITY,
    PHYSIOLOGY,
    POSTURE,
    SHAPE,
    SHOULDER_SCALE,
    SIDED,
)
from data_pipeline.phantom.priors.uptake import (
    BONE_GROUPS,
    BONE_TO_SOFT,
    BONE_UPTAKE,
    FILLED,
    MU_BONE_EXTRA_PER_MM,
    MU_LUNG_PER_MM,
    MU_SOFT_PER_MM,
    OTHER_BONE_UPTAKE,
    PARTS,
    SPINE_MEMORY,
    SURFACE_MM,
    FillPrior,
    PartPrior,
    UptakeSpreads,
)

__all__ = [
    "ACQUISITION",
    "ARM_SIDE_DEG",
    "BENIGN_RATES",
    "BONE_GROUPS",
    "BONE_TO_SOFT",
    "BONE_UPTAKE",
    "BREAST_MM",
    "COUNTS_PER_VIEW",
    "EDGE_COLUMNS",
    "FILLED",
    "HEAD_ROW",
    "HEIGHT_MM",
    "HIP_SCALE",
    "MOTION_MM",
    "MOTION_PROBABILITY",
    "MU_BONE_EXTRA_PER_MM",
    "MU_LUNG_PER_MM",
    "MU_SOFT_PER_MM",
    "OTHER_BONE_UPTAKE",
    "PARTS",
    "PHYSIOLOGY",
    "POSTURE",
    "SHAPE",
    "SHOULDER_SCALE",
    "SIDED",
    "SPINE_MEMORY",
    "SUPERSCAN_SOFT_SHARE",
    "SURFACE_MM",
    "FillPrior",
    "LesionPriors",
    "LogNormal",
    "Normal",
    "PartPrior",
    "Prior",
    "TruthRules",
    "Uniform",
    "UptakeSpreads",
]
