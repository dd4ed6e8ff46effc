"""The peers of MSA-Net on PhantomBone, in the trainer, data, augmentation and budget of configs/msanet.py.

Command:   python main.py --config=configs/peers.py:segan,cpu --workdir=runs/segan
Variants:  first the peer, then released, cpu or smoke (see PEERS and SIZES; `help` lists them)
Rule:      widths are such that the generator has as many parameters as MSA-Net's, as nearly as a whole width allows, at
           full size, at `released` and at `cpu`; docs/peers.md holds the counts, the multiplications and the sources.
Scores on PhantomBone are scores on simulated scans: they are not comparable with the paper's 0.6671.
"""

from __future__ import annotations

from collections.abc import Callable

from ml_collections import ConfigDict

from configs import msanet


def get_config(variants: str = "") -> ConfigDict:
    """MSA-Net's recipe with the networks of a peer; `variants` is `PEER` or `PEER,SIZE`."""
    names = [name for name in variants.split(",") if name]
    if not names or names[0] not in PEERS or len(names) > 2 or not set(names[1:]) <= SIZES.keys():
        listing = "\n".join(f"  {name:20s} {change.__doc__}" for name, change in (PEERS | SIZES).items())
        wrong = "" if names == ["help"] else f"not a peer and at most one size: {variants!r}; "
        raise ValueError(f"{wrong}the variants of configs/peers.py, combinable as unet,cpu, are:\n{listing}")
    size = names[1] if len(names) > 1 else "full"
    config = msanet.get_config("" if size == "full" else size)
    config.model = names[0]
    PEERS[names[0]](config, size)
    config.variants = ",".join(names)
    return config


def _unet(config: ConfigDict, size: str) -> None:
    """U-Net, Ronneberger et al. 2015."""
    config.generator = _generator(config, width={"full": 28, "released": 16, "cpu": 12, "smoke": 4}[size])
    config.adversary.enabled = False


def _unet_plus_plus(config: ConfigDict, size: str) -> None:
    """U-Net++, Zhou et al. 2018."""
    config.generator = _generator(config, width={"full": 26, "released": 15, "cpu": 11, "smoke": 4}[size])
    config.generator.deep_supervision = True  # a head on every column, all at full resolution
    config.loss.deep_supervision_decay = 1.0  # columns count alike, as published
    config.adversary.enabled = False


def _attention_unet(config: ConfigDict, size: str) -> None:
    """Attention U-Net, Oktay et al. 2018."""
    config.generator = _generator(config, width={"full": 27, "released": 15, "cpu": 12, "smoke": 4}[size])
    config.generator.deep_supervision = True  # a head at every decoder level
    config.adversary.enabled = False


def _segan(config: ConfigDict, size: str) -> None:
    """SegAN, Xue et al. 2018: multiplied pairs, clipped critic, multi-scale L1 + Dice."""
    config.generator = _generator(config, width={"full": 71, "released": 41, "cpu": 31, "smoke": 4}[size])
    config.discriminator.width = {"full": 16, "released": 8, "cpu": 8, "smoke": 4}[size]
    config.discriminator.depth = 6
    config.discriminator.norm = "batch"
    config.discriminator.pairing = "multiply"
    config.discriminator.bound = "clip"
    del config.discriminator.fold_px  # its discriminator does not fold pixels
    config.adversary.pyramid_levels = 1
    config.adversary.weight = 1.0  # Dice : multi-scale L1 = 1 : 1, from the first step
    config.adversary.warmup_epochs = 0.0
    config.loss.cross_entropy_weight = 0.0
    config.discriminator_optimizer.peak_learning_rate = 2e-4
    config.discriminator_optimizer.beta1 = 0.5
    config.discriminator_optimizer.beta2 = 0.999


def _patch_gan(config: ConfigDict, size: str) -> None:
    """Conditional patch-GAN, Isola et al. 2017, on the U-Net."""
    config.generator = _generator(config, width={"full": 28, "released": 16, "cpu": 12, "smoke": 4}[size])
    # Patches of 70 px at 256, 34 at 128, 16 at 64:
    config.discriminator.depth = {"full": 3, "released": 2, "cpu": 2, "smoke": 1}[size]
    config.discriminator.norm = "batch"
    config.discriminator.pairing = "concat"
    config.discriminator.bound = "none"
    del config.discriminator.fold_px  # its discriminator does not fold pixels
    config.adversary.objective = "patch_gan"
    config.adversary.weight = 0.01  # the published 1 : 100, there to L1, here to Dice + cross-entropy as weighed above
    config.discriminator_optimizer.peak_learning_rate = 2e-4
    config.discriminator_optimizer.beta1 = 0.5
    config.discriminator_optimizer.beta2 = 0.999


def _threshold(config: ConfigDict, size: str) -> None:
    """Baseline: the best single threshold on normalised uptake."""
    config.evaluate.threshold_rule = "fixed"  # 1/2 is the baseline's own cut
    config.evaluate.calibration = "none"
    config.adversary.enabled = False


def _kmeans(config: ConfigDict, size: str) -> None:
    """Baseline: k-means with five clusters, Lin et al. 2020."""
    config.evaluate.threshold_rule = "fixed"  # 1/2 is the baseline's own cut
    config.evaluate.calibration = "none"
    config.adversary.enabled = False


def _top_hat(config: ConfigDict, size: str) -> None:
    """Baseline: white top-hat with hysteresis, its size and thresholds tuned on training images."""
    config.evaluate.threshold_rule = "fixed"  # 1/2 is the baseline's own cut
    config.evaluate.calibration = "none"
    config.adversary.enabled = False


def _generator(config: ConfigDict, *, width: int) -> ConfigDict:
    """What all peers share with MSA-Net's section, at a width of their own."""
    generator = ConfigDict({key: config.generator[key] for key in SHARED})
    generator.width = width  # channels of the first level, doubled at every level down
    return generator


SHARED = ("depth", "norm", "initial_lesion_share", "dropout_rate", "dtype")
PEERS: dict[str, Callable[[ConfigDict, str], None]] = {
    "unet": _unet,
    "unet_plus_plus": _unet_plus_plus,
    "attention_unet": _attention_unet,
    "segan": _segan,
    "patch_gan": _patch_gan,
    "threshold": _threshold,
    "kmeans": _kmeans,
    "top_hat": _top_hat,
}
SIZES: dict[str, Callable[[ConfigDict], None]] = {name: msanet.VARIANTS[name] for name in ("released", "cpu", "smoke")}
