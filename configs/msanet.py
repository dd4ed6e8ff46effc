"""MSA-Net on PhantomBone: the full recipe and its variants.

Command:   python main.py --config=configs/msanet.py --workdir=runs/msanet
Hardware:  one or more TPU or GPU devices; on a CPU it runs too, slowly, and says how long.
Variants:  --config=configs/msanet.py:cpu,no_cdc  (comma-separated, see VARIANTS; `help` lists them)
Source:    Wu, Lin et al., EJNMMI Physics 12:72, 2025, doi 10.1186/s40658-025-00785-w. The abstract names the parts;
           every number below is our choice (docs/fidelity.md says why).
Measured:  :cpu on 2 CPU cores: set 2.0.0, field grid, pooled test DSC 0.24 (0.13 to 0.36), threshold baseline 0.17; not
           tuned for it. Set 1.0.1, network grid: 4 min, 3.0 GB, DSC 0.61 (0.55 to 0.67), threshold baseline 0.22.
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
    config = ConfigDict()
    config.variants = ""  # the names after the file's colon, for the record; not to be set
    config.seed = 0  # of initial parameters, order of images, augmentation and dropout
    config.model = "msanet"  # or a network of msanet_jax/networks/peers, see configs/peers.py

    config.data = ConfigDict()
    config.data.dataset = "phantom_bone/full"  # TFDS builder and its configuration, or a folder of `msanet import`
    config.data.field = "thorax"  # thorax (256 x 256 px) | whole_body (1024 x 256 px)
    config.data.image_size_px = 256  # columns; the 256 px of the field are binned down to this, counts add up
    config.data.scored_mask = "lesions"  # lesions | lesions_all (and hidden) | lesions_isocontour | reader_1 | reader_2
    config.data.folds = 0  # of a cross-validation over patients; 0 for the set's own splits
    config.data.fold = 0  # the tested one, 0 ... folds - 1
    config.data.fold_seed = 0  # of the grouping into folds; the same for all runs that are compared

    config.augment = _augment()
    config.generator = _generator()
    config.discriminator = _discriminator()

    config.adversary = ConfigDict()
    config.adversary.enabled = True  # False: no discriminator, supervised losses only
    config.adversary.objective = "multi_scale_l1"  # multi_scale_l1 | patch_gan (pix2pix)
    config.adversary.pyramid_levels = 3  # of the multi-scale L1; 1 is SegAN's loss
    config.adversary.patch_loss = "cross_entropy"  # of the patch-GAN: cross_entropy | least_squares
    config.adversary.weight = 10.0  # of the adversarial loss in the generator's
    config.adversary.warmup_epochs = 10.0  # the weight rises linearly from 0 over these
    config.adversary.discriminator_steps = 1  # per generator step

    config.loss = ConfigDict()
    config.loss.dice_weight = 1.0  # of the Dice loss, over the whole batch
    config.loss.cross_entropy_weight = 10.0  # of the mean cross-entropy over pixels, of which few are lesion
    config.loss.deep_supervision_decay = 0.5  # weight of each coarser head relative to the finer one

    config.generator_optimizer = _optimizer(peak_learning_rate=2e-3, weight_decay=1e-4)
    config.discriminator_optimizer = _optimizer(peak_learning_rate=5e-4, weight_decay=0.0)

    config.train = ConfigDict()
    config.train.batch_size = 16  # over all devices
    config.train.total_epochs = 200.0  # passes over the training images
    config.train.ema_decay = 0.99  # moving average of the generator, used for evaluation
    config.train.log_every_steps = 10  # losses into history.jsonl and TensorBoard
    config.train.validate_every_epochs = 10.0  # scores on the validation patients; the best is what gets tested
    config.train.checkpoint_every_epochs = 5.0  # a stopped run goes on from the last
    config.train.image_every_epochs = 50.0  # TensorBoard panels
    config.train.keep_checkpoints = 3  # of the periodic ones, the latest

    config.evaluate = ConfigDict()
    config.evaluate.batch_size = 16  # over all devices
    config.evaluate.threshold = 0.5  # probability above which a pixel is lesion
    config.evaluate.threshold_rule = "fixed"  # fixed: the line above | validation: best pooled DSC there
    config.evaluate.lesion_overlap_min = 0.1  # share of a lesion's pixels that must be found to count as detected
    config.evaluate.surface_tolerance_mm = 5.0  # contours this near agree: about half the camera's resolution
    config.evaluate.calibration_bins = 15  # of equal width over [0, 1]
    config.evaluate.froc_false_positives_per_scan = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # operating points (CAMELYON16)
    config.evaluate.froc_probability_min = 0.0001  # a peak below is no candidate; networks put most of the image below
    config.evaluate.froc_peak_distance_mm = 10.0  # of two peaks nearer than this the higher counts
    config.evaluate.froc_hit_distance_mm = 5.0  # a peak this near to a lesion's mask hits it
    config.evaluate.bootstrap_samples = 1000  # of patients, for the 95 % intervals
    return config


def _generator() -> ConfigDict:
    generator = ConfigDict()
    generator.fold_px = 1  # squares of this side become channels at the entry and pixels again at the exit; 1 for none
    generator.width = 24  # channels at the finest level; doubled at every level down, at most max_width
    generator.max_width = 384  # channels at most, at any level
    generator.depth = 4  # number of halvings; image sides must be divisible by fold_px 2^depth
    generator.multi_scale_dilations = (1, 2, 3)  # parallel branches of a multi-scale module; () for none
    generator.multi_scale_from_level = 1  # first encoder level with one; 0 is the finest
    generator.cascade_dilations = (1, 2, 4, 8)  # of the cascade; () for none
    generator.cascade_level = 3  # encoder level that it ends, where the image has 32 px; `depth` is the bottleneck
    generator.deep_supervision = True  # a head at every decoder level
    generator.norm = "batch"  # batch | group
    generator.initial_lesion_share = 0.01  # probability that an untrained head gives every pixel
    generator.dropout_rate = 0.1  # at the bottleneck
    generator.remat = False  # True: blocks are computed again for their gradients, to save memory
    generator.dtype = "float32"  # computation; parameters stay float32
    return generator


def _discriminator() -> ConfigDict:
    discriminator = ConfigDict()
    discriminator.fold_px = 1  # squares of this side become channels of the pair at the entry; 1 for none
    discriminator.width = 16  # channels of the first stage; doubled at every further one
    discriminator.depth = 4  # stages, each halves the image
    discriminator.norm = "none"  # none | batch (SegAN)
    discriminator.pairing = "concat"  # concat | multiply (SegAN)
    discriminator.bound = "spectral"  # spectral | clip (SegAN) | l1 | none: keeps the multi-scale L1 finite
    discriminator.clip_value = 0.05  # only for bound = clip
    discriminator.dtype = "float32"  # computation: float32 | bfloat16; parameters stay float32
    return discriminator


def _augment() -> ConfigDict:
    augment = ConfigDict()
    augment.mirror_probability = 0.5  # left-right
    augment.rotation_deg = 10.0  # uniform in +- this
    augment.translation_fraction = 0.06  # of the image side, uniform in +- this
    augment.scale_fraction = 0.15  # zoom in 1 +- this
    augment.kept_counts_min = 0.5  # binomial thinning: keep a uniform share of counts in [this, 1]
    augment.contrast_fraction = 0.15  # gamma of the normalised image in 1 +- this
    return augment


def _optimizer(*, peak_learning_rate: float, weight_decay: float) -> ConfigDict:
    optimizer = ConfigDict()
    optimizer.name = "adamw"  # adamw | sgd
    optimizer.peak_learning_rate = peak_learning_rate  # after the warm-up
    optimizer.final_learning_rate_fraction = 0.01  # cosine decay ends here
    optimizer.warmup_epochs = 3.0  # the learning rate rises linearly from 0 over these
    optimizer.beta1 = 0.9  # adamw only: decay of the mean of gradients
    optimizer.beta2 = 0.99  # adamw only: decay of the mean of squared gradients
    optimizer.weight_decay = weight_decay  # adamw only: decoupled, of kernels
    optimizer.clip_global_norm = 1.0  # gradients of a larger norm are scaled down to it
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
    config.train.total_epochs = 30.0
    config.train.validate_every_epochs = 5.0
    config.train.image_every_epochs = 15.0
    config.adversary.warmup_epochs = 5.0


def _released(config: ConfigDict) -> None:
    """The model that comes with the package: 320 virtual patients, 128 px."""
    config.data.dataset = "phantom_bone/medium"
    config.data.image_size_px = 128
    config.generator.width = 16
    config.generator.max_width = 224
    config.generator.cascade_level = 2
    config.discriminator.width = 8
    config.discriminator.depth = 3
    config.train.batch_size = 8
    config.train.total_epochs = 12.0
    config.train.validate_every_epochs = 2.0
    config.train.checkpoint_every_epochs = 1.0
    config.train.image_every_epochs = 6.0
    config.adversary.warmup_epochs = 1.0
    config.generator_optimizer.warmup_epochs = 0.5
    config.discriminator_optimizer.warmup_epochs = 0.5
    config.evaluate.threshold_rule = "validation"


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


def _unet(config: ConfigDict) -> None:
    """A plain residual U-Net: all four parts off."""
    for change in (_no_cdc, _no_msm, _no_deep_supervision, _no_adversarial):
        change(config)


VARIANTS: dict[str, Callable[[ConfigDict], None]] = {
    "cpu": _cpu,
    "smoke": _smoke,
    "tpu": _tpu,
    "released": _released,
    "no_cdc": _no_cdc,
    "no_msm": _no_msm,
    "no_deep_supervision": _no_deep_supervision,
    "no_adversarial": _no_adversarial,
    "unet": _unet,
}
