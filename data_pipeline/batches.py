"""tf.data: shuffled, augmented training batches and padded evaluation batches.

Batch k depends only on (seed, k), so training can stop and go on anywhere. Every epoch is a new permutation of the
images of which the last, incomplete batch is left out; over the epochs every image is seen equally often.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tensorflow.experimental.numpy as tnp
from ml_collections import ConfigDict

from data_pipeline.augment import augment_contrast, augment_counts
from data_pipeline.errors import RequestError
from data_pipeline.features import BoneScans
from data_pipeline.normalize import bin_counts, binning_factor, normalize

Batch = dict[str, np.ndarray]


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches in one pass.

    Raises:
      RequestError: fewer images than one batch.
    """
    if images < batch_size:
        raise RequestError(
            f"train.batch_size={batch_size} is larger than the training set of {images} images; use at most that: "
            f"--config.train.batch_size={images}"
        )
    return images // batch_size


def train_batches(
    scans: BoneScans,
    *,
    data: ConfigDict,
    augment: ConfigDict,
    batch_size: int,
    seed: int,
    first_batch: int = 0,
    host: int = 0,
    hosts: int = 1,
) -> Iterator[Batch]:
    """Endless batches from number `first_batch` on.

    Args:
      scans: the training split.
      data: the recipe's section (image size, which mask).
      augment: the recipe's section.
      batch_size: over all hosts.
      seed: of order and augmentation.
      first_batch: where to start.
      host: which share of every batch to deliver.
      hosts: number of shares.

    Yields:
      `image` `[b, size, size, 1]` float32 normalised and `mask` `[b, size, size, 1]` float32 in {0, 1}.
    """
    per_epoch = steps_per_epoch(len(scans.rows), batch_size)
    counts, masks = binned(scans, data)
    share = batch_size // hosts
    images = tf.constant(counts)
    truths = tf.constant(masks)

    def example(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`number` counts this host's images over the whole run; position over all hosts and epoch follow from it."""
        batch, within = number // share, host * share + number % share
        position = batch * batch_size + within
        epoch = batch // per_epoch
        order_seed = tf.stack([tf.constant(seed, tf.int64), epoch])
        index = tf.random.experimental.index_shuffle(
            (batch % per_epoch) * batch_size + within, order_seed, len(scans.rows) - 1
        )
        image_seed = tf.stack([tf.cast(position % 2**31, tf.int32), tf.constant(seed + 7, tf.int32)])
        image, truth = augment_counts(
            tf.cast(images[index], tf.int32), tf.cast(truths[index], tf.float32), image_seed, augment
        )
        image = augment_contrast(normalize(image, tnp), image_seed, augment)
        return image[..., None], truth[..., None]

    numbers = tf.data.Dataset.range(first_batch * share, np.iinfo(np.int64).max)
    examples = numbers.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches = examples.batch(share, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    for image, truth in batches.as_numpy_iterator():
        yield {"image": image, "mask": truth}


def evaluation_batches(scans: BoneScans, *, data: ConfigDict, batch_size: int) -> Iterator[Batch]:
    """Every image once, in order; the last batch is filled up with zeros.

    Yields:
      `image`, `mask` as in training, `weight` `[b]` float32 (0 for filling) and `index` `[b]` int32 into `scans.rows`.
    """
    counts, masks = binned(scans, data)
    for begin in range(0, len(counts), batch_size):
        index = np.arange(begin, min(begin + batch_size, len(counts)), dtype=np.int32)
        fill = batch_size - len(index)
        batch = {
            "image": normalize(counts[index])[..., None],
            "mask": masks[index].astype(np.float32)[..., None],
            "weight": np.ones(len(index), np.float32),
            "index": index,
        }
        yield {key: np.pad(value, [(0, fill)] + [(0, 0)] * (value.ndim - 1)) for key, value in batch.items()}


def binned(scans: BoneScans, data: ConfigDict) -> tuple[np.ndarray, np.ndarray]:
    """Counts `[n, size, size]` int32 and lesion mask `[n, size, size]` uint8 in {0, 1} at the recipe's size.

    Counts add up; a binned pixel is lesion where at least half of it is.

    Raises:
      RequestError: no such mask, or a size that does not divide.
    """
    if data.scored_mask not in scans.masks:
        raise RequestError(f"data.scored_mask={data.scored_mask!r} is none of {', '.join(scans.masks)}")
    factor = binning_factor(scans.counts.shape[-1], data.image_size_px)
    lesion = (scans.masks[data.scored_mask] > 0).astype(np.int32)
    share = bin_counts(lesion, factor)
    return bin_counts(scans.counts.astype(np.int32), factor), (2 * share >= factor**2).astype(np.uint8)


def binned_instances(scans: BoneScans, data: ConfigDict) -> np.ndarray:
    """Lesion ids `[n, size, size]` uint8 whose union is the mask of `binned`.

    A binned pixel of the mask carries the id that most of its lesion pixels have (on a tie the first, row by row).
    """
    _, masks = binned(scans, data)
    ids = scans.masks[data.scored_mask]
    factor = binning_factor(ids.shape[-1], data.image_size_px)
    if factor == 1:
        return ids.astype(np.uint8)
    n, rows, columns = masks.shape
    blocks = ids.reshape(n, rows, factor, columns, factor).swapaxes(2, 3).reshape(n, rows, columns, factor**2)
    votes = (blocks[..., :, None] == blocks[..., None, :]).sum(axis=-1) * (blocks > 0)
    best = np.take_along_axis(blocks, votes.argmax(axis=-1)[..., None], axis=-1)[..., 0]
    return np.where(masks > 0, best, 0).astype(np.uint8)
