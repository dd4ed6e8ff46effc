"""Every key of a recipe: its values, its unit and its meaning. docs/configs.md is made from this table.

`check_values` holds a recipe against it before anything starts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from data_pipeline.errors import RequestError
from data_pipeline.fields import FIELDS


class Values(Protocol):
    """The values that a key may have; `str` gives them in words."""

    def accept(self, value: Any) -> bool:
        """Whether the value is one of them."""
        ...


@dataclasses.dataclass(frozen=True)
class Real:
    """Finite numbers from `low` to `high`; an end in `without` is not included."""

    low: float
    high: float
    without: tuple[float, ...] = ()

    def accept(self, value: Any) -> bool:
        """True for a number within the bounds; True and False do not count as numbers."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high and value not in self.without  # NaN fails every comparison

    def __str__(self) -> str:
        low, high = (f"{end:,.10g}" for end in (self.low, self.high))
        return (
            f"a number, {'above ' if self.low in self.without else ''}{low} to "
            f"{'below ' if self.high in self.without else ''}{high}"
        )


@dataclasses.dataclass(frozen=True)
class Whole:
    """Whole numbers from `low` to `high`."""

    low: int
    high: int

    def accept(self, value: Any) -> bool:
        """True for an int within the bounds."""
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"a whole number, {self.low:,} to {self.high:,}"


@dataclasses.dataclass(frozen=True)
class Several:
    """Tuples whose entries are `each`, at least `least` of them."""

    each: Real | Whole
    least: int

    def accept(self, value: Any) -> bool:
        """True for a tuple or list of accepted entries."""
        return isinstance(value, tuple | list) and len(value) >= self.least and all(map(self.each.accept, value))

    def __str__(self) -> str:
        return f"a tuple of{' at least one' if self.least else ''}: {self.each}"


@dataclasses.dataclass(frozen=True)
class Words:
    """Texts in one line: one of `names`, or any of at least `least` characters."""

    names: tuple[str, ...] = ()
    least: int = 1

    def accept(self, value: Any) -> bool:
        """True for one of the names; without names for any printable text."""
        if self.names:
            return isinstance(value, str) and value in self.names
        return isinstance(value, str) and len(value) >= self.least and value.isprintable()

    def __str__(self) -> str:
        return f"one of {', '.join(self.names)}" if self.names else f"a text{'' if self.least else ', may be empty'}"


@dataclasses.dataclass(frozen=True)
class Flag:
    """True or False."""

    def accept(self, value: Any) -> bool:
        """True for a bool."""
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "True or False"


@dataclasses.dataclass(frozen=True)
class Key:
    """A key.

    Attributes:
      values: that it may have.
      meaning: in a sentence or less.
      unit: of the number.
    """

    values: Values
    meaning: str
    unit: str = ""


SEED_MAX = 2**31 - 8
"""Augmentation adds up to 7 and keeps the sum in 32 bits."""

SEED = Whole(0, SEED_MAX)
SIZE = Whole(1, 4096)
COUNT = Whole(1, 1_000_000)
SHARE = Real(0.0, 1.0)
SHARE_ABOVE_0 = Real(0.0, 1.0, without=(0.0,))
SHARE_BELOW_1 = Real(0.0, 1.0, without=(1.0,))
WEIGHT = Real(0.0, 1e6)
RATE = Real(0.0, 1e6, without=(0.0,))
LENGTH = Real(0.0, 1000.0)
DILATIONS = Several(Whole(1, 256), least=0)
PRECISION = Words(("float32", "bfloat16"))


def _optimizer(name: str) -> dict[str, Key]:
    return {
        f"{name}.name": Key(Words(("adamw", "sgd")), "Optimizer"),
        f"{name}.peak_learning_rate": Key(RATE, "Learning rate after the warm-up"),
        f"{name}.final_learning_rate_fraction": Key(SHARE, "Cosine decay ends at this fraction of the peak"),
        f"{name}.warmup_epochs": Key(WEIGHT, "The learning rate rises linearly from 0 over these", "epochs"),
        f"{name}.beta1": Key(SHARE_BELOW_1, "AdamW: decay of the mean of gradients"),
        f"{name}.beta2": Key(SHARE_BELOW_1, "AdamW: decay of the mean of squared gradients"),
        f"{name}.weight_decay": Key(WEIGHT, "AdamW: decoupled decay of kernels"),
        f"{name}.clip_global_norm": Key(RATE, "Gradients of a larger norm are scaled down to it"),
    }


KEYS: Mapping[str, Key] = {
    "variants": Key(Words(least=0), "Variants after the file's colon, for the record; do not set it"),
    "seed": Key(SEED, "Seed of initial parameters, order of images, augmentation and dropout"),
    "model": Key(Words(), "`msanet`, or a network or baseline of configs/peers.py"),
    "data.dataset": Key(Words(), "TFDS builder and its configuration, or a folder that `msanet import` wrote"),
    "data.field": Key(Words(tuple(FIELDS)), "thorax: 256 x 256 pixels; whole_body: 1024 x 256"),
    "data.image_size_px": Key(SIZE, "The field's 256 columns are binned down to this; counts add up", "pixels"),
    "data.scored_mask": Key(
        Words(), "Mask of the set: lesions, lesions_all (and hidden), lesions_isocontour, reader_1, reader_2"
    ),
    "data.folds": Key(Whole(0, 1000), "Folds of a cross-validation over patients; 0 uses the set's own splits"),
    "data.fold": Key(Whole(0, 999), "The tested fold, 0 ... folds - 1"),
    "data.fold_seed": Key(SEED, "Seed of the grouping into folds or subsets; the same for all runs that are compared"),
    "data.subsets": Key(
        Whole(0, 10_000), "Disjoint equal parts of the training and of the validation patients; 0 uses all of them"
    ),
    "data.subset": Key(
        Whole(0, 9_999), "The part of this run, 0 ... subsets - 1; all parts have the same test patients"
    ),
    "augment.mirror_probability": Key(SHARE, "Probability of a left-right mirror image"),
    "augment.rotation_deg": Key(Real(0.0, 180.0), "Rotation, uniform in +- this", "degrees"),
    "augment.translation_fraction": Key(SHARE, "Shift, uniform in +- this", "image sides"),
    "augment.scale_fraction": Key(SHARE_BELOW_1, "Zoom, uniform in 1 +- this"),
    "augment.stretch_fraction": Key(
        Real(0.0, 0.5), "Rows are zoomed by 1 +- this and columns divided by it: other bodies and pixels"
    ),
    "augment.elastic_mm": Key(Real(0.0, 20.0), "Smooth displacement, within +- this along both axes", "mm"),
    "augment.kept_counts_min": Key(SHARE_ABOVE_0, "Binomial thinning keeps a uniform share of counts in [this, 1]"),
    "augment.uptake_log": Key(
        Real(0.0, 3.0), "Logarithm of a smooth gain over the body, within +- a value in [0, this]; by thinning"
    ),
    "augment.blur_mm": Key(Real(0.0, 50.0), "Counts move by a Gaussian of standard deviation in [0, this]", "mm"),
    "augment.haze_fraction": Key(SHARE, "Share of the counts that is scattered by 30 mm, uniform in [0, this]"),
    "augment.contrast_fraction": Key(SHARE_BELOW_1, "Gamma of the normalised image, uniform in 1 +- this"),
    "augment.gain_fraction": Key(SHARE_BELOW_1, "The normalised image is multiplied by 1 +- this"),
    "generator.fold_px": Key(
        Whole(1, 64), "Squares of this side become channels at the entry, pixels at the exit; 1 folds nothing", "pixels"
    ),
    "generator.width": Key(SIZE, "Channels at the finest level; doubled at every level down, at most max_width"),
    "generator.max_width": Key(SIZE, "Channels at most, at any level"),
    "generator.depth": Key(Whole(1, 10), "Halvings; image sides must be divisible by fold_px 2^depth"),
    "generator.multi_scale_dilations": Key(DILATIONS, "Parallel branches of a multi-scale module; () disables it"),
    "generator.multi_scale_from_level": Key(Whole(0, 10), "First encoder level with such a module; 0 is the finest"),
    "generator.cascade_dilations": Key(DILATIONS, "Dilations of the cascade; () disables it"),
    "generator.cascade_level": Key(
        Whole(0, 10), "The cascade ends this encoder level; `depth` or more is the bottleneck"
    ),
    "generator.deep_supervision": Key(Flag(), "A head at every decoder level"),
    "generator.norm": Key(Words(("batch", "group")), "Normalisation"),
    "generator.initial_lesion_share": Key(
        Real(0.0, 1.0, without=(0.0, 1.0)), "Probability that an untrained head gives every pixel"
    ),
    "generator.dropout_rate": Key(SHARE_BELOW_1, "Dropout at the bottleneck"),
    "generator.remat": Key(Flag(), "True computes blocks again for their gradients, to save memory"),
    "generator.dtype": Key(PRECISION, "Type of the computation; parameters stay float32"),
    "discriminator.fold_px": Key(
        Whole(1, 64), "Squares of this side become channels of the pair at the entry; 1 folds nothing", "pixels"
    ),
    "discriminator.width": Key(SIZE, "Channels of the first stage; doubled at every further one"),
    "discriminator.depth": Key(Whole(1, 10), "Stages; each halves the image"),
    "discriminator.norm": Key(Words(("none", "batch")), "Normalisation; SegAN's is batch"),
    "discriminator.pairing": Key(Words(("concat", "multiply")), "How image and mask are joined; SegAN multiplies"),
    "discriminator.bound": Key(
        Words(("spectral", "clip", "l1", "none")), "What keeps the multi-scale L1 finite; SegAN clips"
    ),
    "discriminator.clip_value": Key(RATE, "Largest parameter for bound = clip"),
    "discriminator.dtype": Key(PRECISION, "Type of the computation; parameters stay float32"),
    "adversary.enabled": Key(Flag(), "False: no discriminator, supervised losses only"),
    "adversary.objective": Key(Words(), "multi_scale_l1, or patch_gan (pix2pix)"),
    "adversary.pyramid_levels": Key(Whole(1, 10), "Levels of the multi-scale L1; 1 is SegAN's loss"),
    "adversary.stages": Key(
        Words(("equal", "bounded")), "Stages of the multi-scale L1: as they are, or each divided by the most it can be"
    ),
    "adversary.patch_loss": Key(Words(("cross_entropy", "least_squares")), "Loss of the patch-GAN"),
    "adversary.weight": Key(WEIGHT, "Weight of the adversarial loss in the generator's"),
    "adversary.warmup_epochs": Key(WEIGHT, "The weight rises linearly from 0 over these", "epochs"),
    "adversary.discriminator_steps": Key(Whole(1, 1000), "Discriminator steps per generator step"),
    "loss.dice_weight": Key(WEIGHT, "Weight of the Dice loss over the whole batch"),
    "loss.cross_entropy_weight": Key(WEIGHT, "Weight of the mean cross-entropy over pixels, of which few are lesion"),
    "loss.equal_lesions": Key(Flag(), "True: every lesion weighs alike in Dice and multi-scale L1, whatever its size"),
    "loss.deep_supervision_decay": Key(WEIGHT, "Weight of each coarser head relative to the finer one"),
    **_optimizer("generator_optimizer"),
    **_optimizer("discriminator_optimizer"),
    "train.batch_size": Key(COUNT, "Batch over all devices", "images"),
    "train.init_from": Key(
        Words(least=0), "Start at trained weights: a run's folder, a .msanet file, or default; empty draws random ones"
    ),
    "train.total_epochs": Key(RATE, "Passes over the training images", "epochs"),
    "train.ema_decay": Key(SHARE_BELOW_1, "Decay of the moving average of the generator, which is used for evaluation"),
    "train.norm_batches": Key(
        Whole(0, 10_000),
        "Give the averaged parameters batch-norm statistics of their own; 0 keeps the running ones",
        "batches",
    ),
    "train.log_every_steps": Key(COUNT, "Losses go into history.jsonl and TensorBoard", "steps"),
    "train.validate_every_epochs": Key(RATE, "Validation patients are scored; the best state is tested", "epochs"),
    "train.checkpoint_every_epochs": Key(RATE, "A stopped run continues from the last checkpoint", "epochs"),
    "train.image_every_epochs": Key(RATE, "Panels for TensorBoard", "epochs"),
    "train.keep_checkpoints": Key(Whole(1, 1000), "Periodic checkpoints that are kept, the latest"),
    "evaluate.batch_size": Key(COUNT, "Batch over all devices", "images"),
    "evaluate.threshold": Key(SHARE, "A pixel is lesion if its probability is above this"),
    "evaluate.threshold_rule": Key(
        Words(("fixed", "validation")), "fixed: evaluate.threshold; validation: best pooled DSC on validation patients"
    ),
    "evaluate.calibration": Key(
        Words(("validation", "none")), "Probabilities are calibrated on the validation patients, or not at all"
    ),
    "evaluate.also_last": Key(Flag(), "True scores the averaged state of the last step too, into last/"),
    "evaluate.lesion_overlap_min": Key(SHARE_ABOVE_0, "A lesion is detected if this share of its pixels is found"),
    "evaluate.surface_tolerance_mm": Key(LENGTH, "Contours this near agree; about half the camera's resolution", "mm"),
    "evaluate.calibration_bins": Key(Whole(1, 1000), "Bins of equal width over [0, 1]"),
    "evaluate.froc_false_positives_per_scan": Key(
        Several(RATE, least=1), "Operating points of the FROC score (CAMELYON16)", "per scan"
    ),
    "evaluate.froc_probability_min": Key(SHARE_BELOW_1, "A peak at or below this is not a candidate"),
    "evaluate.froc_peak_distance_mm": Key(LENGTH, "The higher of two peaks nearer than this counts", "mm"),
    "evaluate.froc_hit_distance_mm": Key(LENGTH, "A peak this near to a lesion's mask hits it", "mm"),
    "evaluate.bootstrap_samples": Key(COUNT, "Resamples of patients for the 95 % intervals"),
}

OF_THE_MODEL = ("generator", "discriminator")
"""Sections whose keys are the attributes of the model's networks: a peer may lack keys or have its own."""


def check_values(flat: Mapping[str, Any]) -> None:
    """Refuses values that a key cannot have; keys that are missing or unknown are not looked at.

    Args:
      flat: `recipe.flatten` of a recipe.

    Raises:
      RequestError: names the key, its value and the values that it can have.
    """
    for key, value in flat.items():
        if key in KEYS and not KEYS[key].values.accept(value):
            raise RequestError(f"config.{key}={value!r} must be {KEYS[key].values}")


def check_keys(flat: Mapping[str, Any]) -> None:
    """Refuses a recipe that lacks a key or has one that nothing reads.

    Args:
      flat: `recipe.flatten` of a recipe.

    Raises:
      RequestError: names the key.
    """
    own = {key for key in flat if key.partition(".")[0] in OF_THE_MODEL}
    common = {key for key in KEYS if key.partition(".")[0] not in OF_THE_MODEL}
    for key in sorted(common - flat.keys()):
        raise RequestError(f"config.{key} is missing; docs/configs.md lists every key")
    for key in sorted(flat.keys() - common - own):
        raise RequestError(f"config.{key}: no such key; docs/configs.md lists every key")
