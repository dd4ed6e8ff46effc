"""A study of a few minutes that goes through every part: networks, an ablation, a baseline, two folds.

Command:   msanet experiment experiments/quick.py --workdir=runs/quick
It checks the machinery; its scores mean nothing.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The study; experiments/paper_table.py explains the keys."""
    config = ConfigDict()
    config.reference = "msanet"
    config.folds = 2
    config.seeds = (0,)
    config.overrides = ("data.image_size_px=32", "train.total_epochs=2.0", "generator.depth=2")
    config.bootstrap_samples = 200
    small = ("discriminator.depth=2", "generator.cascade_dilations=(1,)", "generator.multi_scale_dilations=(1,)")
    config.models = (
        {"name": "msanet", "recipe": "configs/msanet.py:smoke", "overrides": small},
        {"name": "no_adversarial", "recipe": "configs/msanet.py:smoke,no_adversarial", "overrides": small},
        {"name": "unet", "recipe": "configs/peers.py:unet,smoke", "overrides": ()},
        {"name": "kmeans", "recipe": "configs/peers.py:kmeans,smoke", "overrides": ()},
    )
    return config
