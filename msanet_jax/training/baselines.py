"""Models that learn no network, as probabilities, so that everything that scores a network scores them too."""

from __future__ import annotations

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.features import BoneScans
from msanet_jax.evaluation.evaluate import Probability, choose_uptake_threshold
from msanet_jax.networks.catalogue import BASELINES
from msanet_jax.training import kmeans


def fit_baseline(config: ConfigDict, *, training: BoneScans) -> Probability:
    """The baseline `config.model`.

    `threshold` tunes one threshold t on normalised uptake x for the pooled DSC of the training images and gives
    x / (x + t), which exceeds 1/2 where x exceeds t; `kmeans` has nothing to tune (msanet_jax/training/kmeans.py).
    """
    assert config.model in BASELINES
    if config.model == "kmeans":
        return kmeans.probability
    threshold = choose_uptake_threshold(training, config=config)

    def probability(images: np.ndarray) -> np.ndarray:
        uptake = images[..., 0].astype(np.float64)
        return (uptake / np.maximum(uptake + threshold, np.finfo(np.float64).tiny)).astype(np.float32)

    return probability
