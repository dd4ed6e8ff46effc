"""MSA-Net on PhantomBone: the full recipe and its variants.

Command:   python main.py --config=configs/msanet.py --workdir=runs/msanet
Hardware:  one or more TPU or GPU devices; on a CPU it runs too, slowly, and says how long.
Variants:  --config=configs/msanet.py:cpu,no_cdc  (comma-separated, see VARIANTS; `help` lists them)
Source:    Wu, Lin et al., EJNMMI Physics 12:72, 2025, doi 10.1186/s40658-025-00785-w. The abstract names the parts;
           every number below is our choice (docs/fidelity.md says why).
Measured:  :cpu on two busy CPU cores: 10 min, set 2.1.0, pooled test DSC 0.36 (0.23 to 0.47), threshold baseline 0.23.
           :released on one busy CPU core: 41 min of training, set 2.1.0, scored on phantom_bone/full, pooled test DSC
           0.475 (0.35 to 0.57).
Scores on PhantomBone are scores on simulated scans: they are not comparable with the paper's 0.6671.
"""

from __future__ import annotations

from collections.abc import Callable

from ml_collections import ConfigDict


def get_config(variants: str = "") -> ConfigDict:
    """The recipe with `variants` (comma-separated names from VARIANTS) applied in order."""
    config = _full()
    names = [name for name in variants.split(",") if name]
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        listing = "\n".join(f"  {name:20s} {change.__doc__}" for name, change in VARIANTS.items())
        wrong = "" if unknown == ["help"] else f"unknown variant {', '.join(unknown)}; "
        raise ValueError(f"{wrong}the variants of configs/msanet.py, combinable as cpu,no_cdc, are:\n{listing}")
    for name in names:
        VARIANTS[name](config)
    config.variants = ",".join(names)
    return config


def _full() -> ConfigDict:
    """msanet_jax/runs/recipe_keys.py has the meaning, the unit and the range of every key; docs/configs.md shows it."""
    config = ConfigDict()
    config.variants = ""
    config.seed = 0
    config.model = "msanet"

    config.data = ConfigDict()
    config.data.dataset = "phantom_bone/full"
    config.data.field = "thorax"
    config.data.image_size_px = 256
    config.data.scored_mask = "lesions"
    config.data.folds = 0
    config.data.fold = 0
    config.data.fold_seed = 0
    config.data.subsets = 0
    config.data.subset = 0

    config.augment = _augment()
    config.generator = _generator()
    config.discriminator = _discriminator()

    config.adversary = ConfigDict()
    config.adversary.enabled = True
    config.adversary.objective = "multi_scale_l1"
    config.adversary.pyramid_levels = 3
    config.adversary.stages = "equal"
    config.adversary.patch_loss = "cross_entropy"
    config.adversary.weight = 10.0
    config.adversary.warmup_epochs = 10.0
    config.adversary.discriminator_steps = 1

    config.loss = ConfigDict()
    config.loss.dice_weight = 1.0
    config.loss.cross_entropy_weight = 10.0
    config.loss.equal_lesions = False
    config.loss.deep_supervision_decay = 0.5

    config.generator_optimizer = _optimizer(peak_learning_rate=2e-3, weight_decay=1e-4)
    config.discriminator_optimizer = _optimizer(peak_learning_rate=5e-4, weight_decay=0.0)

    config.train = ConfigDict()
    config.train.batch_size = 16
    config.train.init_from = ""
    config.train.total_epochs = 200.0
    config.train.ema_decay = 0.99
    config.train.norm_batches = 0
    config.train.log_every_steps = 10
    config.train.validate_every_epochs = 10.0
    config.train.checkpoint_every_epochs = 5.0
    config.train.image_every_epochs = 50.0
    config.train.keep_checkpoints = 3

    config.evaluate = _evaluate()
    return config


def _evaluate() -> ConfigDict:
    evaluate = ConfigDict()
    evaluate.batch_size = 16
    evaluate.threshold = 0.5
    evaluate.threshold_rule = "fixed"
    evaluate.calibration = "none"
    evaluate.also_last = False
    evaluate.lesion_overlap_min = 0.1
    evaluate.surface_tolerance_mm = 5.0
    evaluate.calibration_bins = 15
    evaluate.froc_false_positives_per_scan = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    evaluate.froc_probability_min = 0.0001
    evaluate.froc_peak_distance_mm = 10.0
    evaluate.froc_hit_distance_mm = 5.0
    evaluate.bootstrap_samples = 1000
    return evaluate


def _generator() -> ConfigDict:
    generator = ConfigDict()
    generator.fold_px = 1
    generator.width = 24
    generator.max_width = 384
    generator.depth = 4
    generator.multi_scale_dilations = (1, 2, 3)
    generator.multi_scale_from_level = 1
    generator.cascade_dilations = (1, 2, 4, 8)
    generator.cascade_level = 3
    generator.deep_supervision = True
    generator.norm = "batch"
    generator.initial_lesion_share = 0.01
    generator.dropout_rate = 0.1
    generator.remat = False
    generator.dtype = "float32"
    return generator


def _discriminator() -> ConfigDict:
    discriminator = ConfigDict()
    discriminator.fold_px = 1
    discriminator.width = 16
    discriminator.depth = 4
    discriminator.norm = "none"
    discriminator.pairing = "concat"
    discriminator.bound = "spectral"
    discriminator.clip_value = 0.05
    discriminator.dtype = "float32"
    return discriminator


def _augment() -> ConfigDict:
    augment = ConfigDict()
    augment.mirror_probability = 0.5
    augment.rotation_deg = 10.0
    augment.translation_fraction = 0.06
    augment.scale_fraction = 0.15
    augment.stretch_fraction = 0.08
    augment.elastic_mm = 12.0
    augment.kept_counts_min = 0.5
    augment.uptake_log = 0.8
    augment.blur_mm = 4.0
    augment.haze_fraction = 0.15
    augment.contrast_fraction = 0.15
    augment.gain_fraction = 0.1
    return augment


def _optimizer(*, peak_learning_rate: float, weight_decay: float) -> ConfigDict:
    optimizer = ConfigDict()
    optimizer.name = "adamw"
    optimizer.peak_learning_rate = peak_learning_rate
    optimizer.final_learning_rate_fraction = 0.01
    optimizer.warmup_epochs = 3.0
    optimizer.beta1 = 0.9
    optimizer.beta2 = 0.99
    optimizer.weight_decay = weight_decay
    optimizer.clip_global_norm = 1.0
    return optimizer


def _cpu(config: ConfigDict) -> None:
    """Under ten minutes on two cores: fewer patients, 128 px, narrow networks."""
    config.data.dataset = "phantom_bone/cpu"
    config.data.image_size_px = 128
    config.generator.width = 12
    config.generator.max_width = 176
    config.generator.cascade_level = 2
    config.discriminator.width = 8
    config.discriminator.depth = 3
    config.train.batch_size = 8
    config.train.total_epochs = 60.0
    config.train.validate_every_epochs = 5.0
    config.train.image_every_epochs = 30.0
    config.adversary.warmup_epochs = 5.0
    config.evaluate.threshold_rule = config.evaluate.calibration = "validation"


def _released(config: ConfigDict) -> None:
    """The model that comes with the package: 320 virtual patients, 128 px, three quarters of an hour on one core."""
    _cpu(config)
    config.data.dataset = "phantom_bone/medium"
    config.generator.width = 16
    config.generator.max_width = 224
    config.train.validate_every_epochs = 4.0
    config.train.checkpoint_every_epochs = 4.0
    config.adversary.warmup_epochs = 4.0
    config.generator_optimizer.warmup_epochs = 1.0
    config.discriminator_optimizer.warmup_epochs = 1.0


def _smoke(config: ConfigDict) -> None:
    """Every part once, in a minute or two: a check of the installation, the score means nothing."""
    config.data.dataset = "phantom_bone/tiny"
    config.data.image_size_px = 64
    config.generator.width = 4
    config.generator.depth = 3
    config.generator.cascade_level = 1
    config.discriminator.width = 4
    config.discriminator.depth = 3
    config.train.batch_size = 4
    config.train.total_epochs = 4.0
    config.train.log_every_steps = 1
    config.train.validate_every_epochs = 2.0
    config.train.checkpoint_every_epochs = 1.0
    config.train.image_every_epochs = 2.0
    config.evaluate.batch_size = 4
    config.evaluate.bootstrap_samples = 100
    config.adversary.warmup_epochs = 1.0
    config.generator_optimizer.warmup_epochs = 1.0
    config.discriminator_optimizer.warmup_epochs = 1.0


def _tpu(config: ConfigDict) -> None:
    """Made for a TPU's 128 lanes: 2 x 2 pixels as channels, wide levels, bfloat16; trained only in a smaller size."""
    config.generator.fold_px = 2
    config.generator.depth = 3
    config.generator.width = 96
    config.generator.max_width = 384
    config.generator.cascade_level = 2
    config.generator.dtype = "bfloat16"
    config.discriminator.fold_px = 2
    config.discriminator.depth = 3
    config.discriminator.width = 128
    config.discriminator.dtype = "bfloat16"
    config.adversary.pyramid_levels = 2


def _gpu(config: ConfigDict) -> None:
    """Made for a GPU's tensor cores: bfloat16, channels in multiples of 8; not trained yet."""
    config.generator.width = 32
    config.generator.dtype = "bfloat16"
    config.discriminator.dtype = "bfloat16"


def _no_cdc(config: ConfigDict) -> None:
    """Without the cascade dilated convolutions."""
    config.generator.cascade_dilations = ()


def _no_msm(config: ConfigDict) -> None:
    """Without the multi-scale modules."""
    config.generator.multi_scale_dilations = ()


def _no_deep_supervision(config: ConfigDict) -> None:
    """With one head at full resolution only."""
    config.generator.deep_supervision = False


def _no_adversarial(config: ConfigDict) -> None:
    """Without discriminator: supervised losses only."""
    config.adversary.enabled = False


def _bounded_stages(config: ConfigDict) -> None:
    """Every stage of the multi-scale L1 divided by its bound; the weight makes up for their mean at `cpu`."""
    config.adversary.stages = "bounded"
    config.adversary.weight = 56.0


def _equal_lesions(config: ConfigDict) -> None:
    """Every lesion an equal share of Dice and of the multi-scale L1."""
    config.loss.equal_lesions = True


def _own_statistics(config: ConfigDict) -> None:
    """Batch norm with statistics of the averaged parameters."""
    config.train.norm_batches = 16


def _unet(config: ConfigDict) -> None:
    """A plain residual U-Net: all four parts off."""
    for change in (_no_cdc, _no_msm, _no_deep_supervision, _no_adversarial):
        change(config)


VARIANTS: dict[str, Callable[[ConfigDict], None]] = {
    "cpu": _cpu,
    "smoke": _smoke,
    "tpu": _tpu,
    "gpu": _gpu,
    "released": _released,
    "no_cdc": _no_cdc,
    "no_msm": _no_msm,
    "no_deep_supervision": _no_deep_supervision,
    "no_adversarial": _no_adversarial,
    "bounded_stages": _bounded_stages,
    "equal_lesions": _equal_lesions,
    "own_statistics": _own_statistics,
    "unet": _unet,
}
