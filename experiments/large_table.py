"""MSA-Net and U-Net where patients are not scarce: a thousand simulated training patients, the released model's recipe.

Command:   msanet experiment experiments/large_table.py --workdir=runs/large_table
Budget:    the same epochs, images, augmentation and optimiser of the generator for both; wall time is reported.
Size:      2 trainings on phantom_bone/large (128 px, about 1.9 million parameters each), either of about ten times the
           work of one of experiments/paper_table.py. Stop it whenever you like; run the same command again to continue.
Question:  with few patients (experiments/paper_table.py) a large network may only learn them by heart; here what the
           parts of MSA-Net are worth is limited by the network and not by the data.
Scores are scores on simulated scans: they are not comparable with the paper's 0.6671.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The study; experiments/paper_table.py explains the keys."""
    config = ConfigDict()
    config.reference = "msanet"
    config.folds = 0  # the 80 test patients of the set: their number, not their choice, is what folds would mend
    config.seeds = (0,)
    config.overrides = (
        "data.dataset=phantom_bone/large",
        "train.total_epochs=12.0",  # 19 thousand images
        "evaluate.threshold_rule=validation",
    )
    config.bootstrap_samples = 10_000
    config.models = (
        {"name": "msanet", "recipe": "configs/msanet.py:released", "overrides": ()},
        {"name": "unet", "recipe": "configs/peers.py:unet,released", "overrides": ()},
    )
    return config
