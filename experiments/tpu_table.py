"""What the shape and the number format of the variant `tpu` cost in score, at CPU size, three folds over patients.

Command:   msanet experiment experiments/tpu_table.py --workdir=runs/tpu_table --devices=cpu0,cpu1
Rows:      the variant's shape at half its widths and 128 px in bfloat16, its discriminator one stage shorter, as the
           `cpu` recipe is to the full one; a plain U-Net; MSA-Net in bfloat16 and in float32.
Size:      4 networks x 3 folds of phantom_bone/cpu: 12 trainings of 8 to 30 minutes, each on one core of an AMD EPYC
           without AVX-512. Fold by fold: stopped early, what is there can be compared.
Scores are scores on simulated scans: they are not comparable with the paper's 0.6671.
"""

from __future__ import annotations

from ml_collections import ConfigDict

BFLOAT16 = ("generator.dtype=bfloat16", "discriminator.dtype=bfloat16")


def get_config() -> ConfigDict:
    """The study; experiments/paper_table.py explains the keys."""
    config = ConfigDict()
    config.reference = "tpu_shape"
    config.folds = 3
    config.seeds = (0,)
    config.overrides = ("evaluate.threshold_rule=validation",)
    config.bootstrap_samples = 10_000
    shape = (
        "generator.width=48",
        "generator.max_width=192",
        "generator.cascade_level=1",
        "discriminator.depth=2",
        "discriminator.width=64",
    )
    config.models = (
        {"name": "tpu_shape", "recipe": "configs/msanet.py:cpu,tpu", "overrides": shape},
        {"name": "unet", "recipe": "configs/peers.py:unet,cpu", "overrides": ()},
        {"name": "msanet_bfloat16", "recipe": "configs/msanet.py:cpu", "overrides": BFLOAT16},
        {"name": "msanet", "recipe": "configs/msanet.py:cpu", "overrides": ()},
    )
    return config
