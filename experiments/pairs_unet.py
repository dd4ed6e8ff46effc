"""Is MSA-Net above U-Net? 16 pairs of trainings on new patients each, scored on 1,000 new test patients.

Command:   msanet experiment experiments/pairs_unet.py --workdir=runs/pairs_unet --devices=cpu0,cpu1
Plan:      msanet experiment experiments/pairs_unet.py --plan
Data:      phantom_bone/pairs: no patient of it was used to choose anything in either recipe. A pair has 70 training
           patients, as many as the `cpu` recipe, and 20 validation patients (twice as many: they choose the threshold).
Primary:   pooled DSC of the averaged parameters of the last step. The best checkpoint is scored as well; its choice by
           20 patients adds noise.
Expected:  from earlier trainings: sd of a training 0.0035 to 0.007, here the larger; of the difference on 96 patients
           0.0069, which is 0.068 a patient.
Size:      32 trainings of a few minutes and 64 scorings of 1,000 patients. Stop it whenever you like; run the same
           command again to continue. Do not look at the difference to decide when to stop.
Scores are scores on simulated scans: they are not comparable with the paper's 0.6671.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The study."""
    config = ConfigDict()
    config.reference = "unet"
    config.pairs = 16
    config.primary = "dsc_pooled"  # decides the question
    config.primary_state = "last"  # last: averaged parameters of the last step | best: of the best validation
    config.secondary = ("lesion_dsc_mean_small", "lesion_dsc_mean_clustered")
    config.expected = {"difference": 0.01, "training_sd": 0.007, "patient_sd": 0.068, "patients": 1000}  # for power
    config.overrides = ("data.dataset=phantom_bone/pairs", "evaluate.threshold_rule=validation")
    config.bootstrap_samples = 4000  # of pairs and patients
    config.models = (
        {"name": "unet", "recipe": "configs/peers.py:unet,cpu", "overrides": ()},
        {"name": "msanet", "recipe": "configs/msanet.py:cpu", "overrides": ()},
    )
    return config
