"""Is MSA-Net above U-Net by 0.02? 8 pairs of trainings on new patients each, scored on 300 new test patients.

Command:   msanet experiment experiments/pairs_unet_small.py --workdir=runs/pairs_unet_small --devices=cpu0,cpu1
Plan:      msanet experiment experiments/pairs_unet_small.py --plan
Data:      phantom_bone/pairs_small: no patient of it was used to choose anything in either recipe, and none is in
           phantom_bone/pairs. A pair has 70 training patients, as many as the `cpu` recipe, and 20 validation patients.
Question:  half the pairs and a third of the patients of experiments/pairs_unet.py, which is planned for a difference of
           0.01. This one has a power of 0.91 (sd of a training 0.007) to 0.99 (0.0035) for a difference of 0.02, which
           the method should bring, and of 0.34 to 0.47 for 0.01: an interval around zero does not exclude that.
Primary:   pooled DSC of the averaged parameters of the last step. The best checkpoint is scored as well.
Size:      16 trainings and 32 scorings of 300 patients: about 5 core hours. On one core of two: data 30 min,
           a U-Net 10 min, an MSA-Net 20 min. All pairs are run, whatever the first ones show.
Finished:  7 of 16 trainings, in pairs_unet_small.zip beside this file. Unpack it into the workdir, and the command goes
           on with the others.
Scores are scores on simulated scans: they are not comparable with the paper's 0.6671.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The study; experiments/pairs_unet.py explains the keys."""
    config = ConfigDict()
    config.reference = "unet"
    config.pairs = 8
    config.primary = "dsc_pooled"
    config.primary_state = "last"
    config.secondary = ("lesion_dsc_mean_small", "lesion_dsc_mean_clustered")
    config.expected = {"difference": 0.02, "training_sd": 0.007, "patient_sd": 0.068, "patients": 300}
    config.overrides = ("data.dataset=phantom_bone/pairs_small", "evaluate.threshold_rule=validation")
    config.bootstrap_samples = 4000
    config.models = (
        {"name": "unet", "recipe": "configs/peers.py:unet,cpu", "overrides": ()},
        {"name": "msanet", "recipe": "configs/msanet.py:cpu", "overrides": ()},
    )
    return config
