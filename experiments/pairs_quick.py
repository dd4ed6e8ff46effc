"""A study of pairs of a few minutes that goes through every part.

Command:   msanet experiment experiments/pairs_quick.py --workdir=runs/pairs_quick
It checks the machinery; its scores mean nothing.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The study; experiments/pairs_unet.py explains the keys."""
    config = ConfigDict()
    config.reference = "unet"
    config.pairs = 2
    config.primary = "dsc_pooled"
    config.primary_state = "last"
    config.secondary = ("lesion_dsc_mean_small", "lesion_dsc_mean_clustered")
    config.expected = {"difference": 0.01, "training_sd": 0.007, "patient_sd": 0.068, "patients": 3}
    config.overrides = (
        "evaluate.threshold_rule=validation",
        "data.image_size_px=32",
        "generator.depth=2",
        "train.total_epochs=4.0",
        "train.batch_size=2",
    )
    config.bootstrap_samples = 200
    small = ("discriminator.depth=2", "generator.cascade_dilations=(1,)", "generator.multi_scale_dilations=(1,)")
    config.models = (
        {"name": "unet", "recipe": "configs/peers.py:unet,smoke", "overrides": ()},
        {"name": "msanet", "recipe": "configs/msanet.py:smoke", "overrides": small},
    )
    return config
