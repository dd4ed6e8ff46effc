"""Variants of the method on development patients: what each adds to MSA-Net, and to U-Net.

Command:   msanet experiment experiments/pairs_variants.py --workdir=runs/pairs_variants --devices=cpu0,cpu1
Data:      phantom_bone/development. None of its patients is in phantom_bone/pairs, which stays for the answer.
Variants:  bounded_stages, equal_lesions and own_statistics of configs/msanet.py. U-Net gets as many attempts as MSA-Net
           where a variant applies to it; its bounded stages are replaced by a larger weight of the cross-entropy.
Primary:   as in experiments/pairs_unet.py, each row against MSA-Net. The p values are not corrected for the rows.
Size:      8 rows x 16 pairs: 128 trainings of a few minutes. Stopped early, the finished pairs can be compared.
Scores are scores on simulated scans: they are not comparable with the paper's 0.6671.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The study; experiments/pairs_unet.py explains the keys."""
    config = ConfigDict()
    config.reference = "msanet"
    config.pairs = 16
    config.primary = "dsc_pooled"
    config.primary_state = "last"
    config.secondary = ("lesion_dsc_mean_small", "lesion_dsc_mean_clustered")
    config.expected = {"difference": 0.01, "training_sd": 0.007, "patient_sd": 0.068, "patients": 1000}
    config.overrides = ("data.dataset=phantom_bone/development", "evaluate.threshold_rule=validation")
    config.bootstrap_samples = 4000
    config.models = (
        _model("msanet", "configs/msanet.py:cpu"),
        _model("bounded_stages", "configs/msanet.py:cpu,bounded_stages"),
        _model("equal_lesions", "configs/msanet.py:cpu,equal_lesions"),
        _model("own_statistics", "configs/msanet.py:cpu,own_statistics"),
        _model("unet", "configs/peers.py:unet,cpu"),
        _model("unet_cross_entropy_20", "configs/peers.py:unet,cpu", "loss.cross_entropy_weight=20.0"),
        _model("unet_equal_lesions", "configs/peers.py:unet,cpu", "loss.equal_lesions=True"),
        _model("unet_own_statistics", "configs/peers.py:unet,cpu", "train.norm_batches=16"),
    )
    return config


def _model(name: str, recipe: str, *overrides: str) -> dict[str, object]:
    return {"name": name, "recipe": recipe, "overrides": overrides}
