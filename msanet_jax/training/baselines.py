"""Models that learn no network, as probabilities, so that everything that scores a network scores them too."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.cluster.vq import kmeans2

from data_pipeline.grid import GridSplit
from msanet_jax.evaluation.evaluate import choose_uptake_threshold, uptake_maps
from msanet_jax.evaluation.field_maps import Probability, field_probability
from msanet_jax.networks.catalogue import BASELINES
from msanet_jax.training.top_hat import tune_top_hat

CLUSTERS = 5
ITERATIONS = 50


def fit_baseline(model: str, *, training: GridSplit, image_size_px: int) -> Probability:
    """The baseline of that name.

    `threshold` tunes one threshold t on normalised uptake x for the pooled DSC of the training images and gives
    x / (x + t), which exceeds 1/2 where x exceeds t; `kmeans` has nothing to tune (`kmeans_probability`); `top_hat`
    tunes a filter and two thresholds (`tune_top_hat`).

    Args:
      model: one of `BASELINES`.
      training: on the field's grid.
      image_size_px: columns that a baseline sees, as a network of this recipe would.
    """
    assert model in BASELINES
    if model == "kmeans":
        return field_probability(kmeans_probability, image_size_px)
    if model == "top_hat":
        return field_probability(tune_top_hat(training, image_size_px=image_size_px).probability, image_size_px)
    uptake_of = uptake_maps(image_size_px)
    threshold = choose_uptake_threshold(training, image_size_px=image_size_px)

    def probability(counts: np.ndarray) -> np.ndarray:
        uptake = uptake_of(counts).astype(np.float64)
        return (uptake / np.maximum(uptake + threshold, np.finfo(np.float64).tiny)).astype(np.float32)

    return probability


def kmeans_probability(images: np.ndarray) -> np.ndarray:
    """K-means on uptake, the non-learning baseline of Lin et al., PLoS One 15:e0243253, 2020 (K = 5).

    Our choice where the published recipe leaves it open: clusters are found in each image on its own, from centres at
    the 0.1, 0.3, 0.5, 0.7 and 0.9 quantiles of its distinct values, and the brightest cluster is the lesion. The
    network's input is the square root of counts; its square v is clustered. With b the middle between the two highest
    centres the value is v / (v + b): the cut at 1/2 is the cluster's, other cuts scale it.

    Args:
      images: `[n, rows, columns, 1]` normalised.

    Returns:
      `[n, rows, columns]` in [0, 1), above 1/2 in the top cluster.
    """
    return np.stack([_top_cluster(image[..., 0].astype(np.float64) ** 2) for image in images])


def _top_cluster(uptake: np.ndarray) -> np.ndarray:
    values = np.unique(uptake)
    if len(values) < CLUSTERS:  # a blank image has no clusters, and no lesion
        return np.zeros(uptake.shape, np.float32)
    start = np.quantile(values, (np.arange(CLUSTERS) + 0.5) / CLUSTERS)[:, None]
    with warnings.catch_warnings():
        # A cluster that runs empty is no cluster: its centre is left out below.
        warnings.filterwarnings("ignore", message="One of the clusters is empty")
        centres, owners = kmeans2(uptake.reshape(-1, 1), start, iter=ITERATIONS, minit="matrix")
    boundary = np.sort(centres[np.unique(owners), 0])[-2:].mean()
    return (uptake / (uptake + boundary)).astype(np.float32)
