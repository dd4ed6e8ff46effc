"""Every model and every ablation of MSA-Net at CPU size, three folds over patients, equal budgets.

Command:   msanet experiment experiments/paper_table.py --workdir=runs/paper_table
Budget:    the same epochs, images, augmentation and optimiser of the generator for all; wall time is reported.
Size:      13 networks and 2 baselines x 3 folds of phantom_bone/cpu: 39 trainings of a few minutes on 2 CPU cores each.
           Stop it whenever you like; run the same command again to continue.
Ablations: concatenated pairs and 3 pyramid levels are MSA-Net itself; the rows show what changing them does.
Scores are scores on simulated scans: they are not comparable with the paper's 0.6671.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The study."""
    config = ConfigDict()
    config.reference = "msanet"  # the model that the others are compared with
    config.folds = 3  # of the cross-validation over patients; 0 for the data set's own splits
    config.seeds = (0,)  # every fold is trained once with each
    config.overrides = ("evaluate.threshold_rule=validation",)  # of every recipe: no model loses by a fixed 1/2
    config.bootstrap_samples = 10_000  # of the patients, for intervals and paired differences
    config.models = (
        _model("msanet", "configs/msanet.py:cpu"),
        _model("unet", "configs/peers.py:unet,cpu"),
        _model("unet_plus_plus", "configs/peers.py:unet_plus_plus,cpu"),
        _model("attention_unet", "configs/peers.py:attention_unet,cpu"),
        _model("segan", "configs/peers.py:segan,cpu"),
        _model("patch_gan", "configs/peers.py:patch_gan,cpu"),
        _model("threshold", "configs/peers.py:threshold,cpu", "evaluate.threshold_rule=fixed"),
        _model("kmeans", "configs/peers.py:kmeans,cpu", "evaluate.threshold_rule=fixed"),
        _model("no_cdc", "configs/msanet.py:cpu,no_cdc"),
        _model("no_msm", "configs/msanet.py:cpu,no_msm"),
        _model("no_deep_supervision", "configs/msanet.py:cpu,no_deep_supervision"),
        _model("no_adversarial", "configs/msanet.py:cpu,no_adversarial"),
        _model("pairing_multiply", "configs/msanet.py:cpu", "discriminator.pairing=multiply"),
        _model("pyramid_1", "configs/msanet.py:cpu", "adversary.pyramid_levels=1"),
        _model("pyramid_2", "configs/msanet.py:cpu", "adversary.pyramid_levels=2"),
    )
    return config


def _model(name: str, recipe: str, *overrides: str) -> dict[str, object]:
    """A row of the table: its name, its recipe, and what it changes there."""
    return {"name": name, "recipe": recipe, "overrides": overrides}
