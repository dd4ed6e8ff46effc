"""tf.data: shuffled, augmented training batches.

Batch k depends only on (seed, k), so training can stop and go on anywhere. Every epoch is a new permutation of the
images of which the last, incomplete batch is left out; over the epochs every image is seen equally often. A split that
is not in memory is read by number, each image when its turn comes, several at a time: a host reads its share alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
import tensorflow.experimental.numpy as tnp
from ml_collections import ConfigDict
from scipy import ndimage

from data_pipeline.augmentation.augment import augment_contrast, augment_counts
from data_pipeline.errors import RequestError
from data_pipeline.grid import GridSplit
from data_pipeline.normalize import binning_factor, normalize

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
    split: GridSplit,
    *,
    augment: ConfigDict,
    image_size_px: int,
    batch_size: int,
    seed: int,
    first_batch: int = 0,
    host: int = 0,
    hosts: int = 1,
    shares: bool = False,
) -> Iterator[Batch]:
    """Endless batches from number `first_batch` on.

    Args:
      split: the training images on the field's own grid, where they are augmented.
      augment: the recipe's section.
      image_size_px: columns of the network's grid, to which they are binned afterwards.
      batch_size: over all hosts.
      seed: of order and augmentation.
      first_batch: where to start.
      host: which share of every batch to deliver.
      hosts: number of shares.
      shares: whether to deliver `share` as well.

    Yields:
      `image` `[b, rows, columns, 1]` float32 normalised and `mask` `[b, rows, columns, 1]` float32 in {0, 1}; `share`
      is of the same shape, see `lesion_shares`.

    Raises:
      RequestError: fewer images than one batch, or the data set is damaged.
    """
    per_epoch = steps_per_epoch(len(split), batch_size)
    share = batch_size // hosts
    binning = binning_factor(split.shape[-1], image_size_px)
    failed: list[Exception] = []
    read = _reader(split, failed)

    def example(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`number` counts this host's images over the whole run; position over all hosts and epoch follow from it."""
        batch, within = number // share, host * share + number % share
        position = batch * batch_size + within
        epoch = batch // per_epoch
        order_seed = tf.stack([tf.constant(seed, tf.int64), epoch])
        index = tf.random.experimental.index_shuffle(
            (batch % per_epoch) * batch_size + within, order_seed, len(split) - 1
        )
        image_seed = tf.stack([tf.cast(position % 2**31, tf.int32), tf.constant(seed + 7, tf.int32)])
        counts, lesion, pixel_mm = read(index)
        image, truth = augment_counts(
            tf.cast(counts, tf.int32), tf.cast(lesion, tf.float32), image_seed, augment, pixel_mm, binning
        )
        image = augment_contrast(normalize(image, tnp), image_seed, augment)
        return image[..., None], truth[..., None]

    numbers = tf.data.Dataset.range(first_batch * share, np.iinfo(np.int64).max)
    examples = numbers.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches = examples.batch(share, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    try:
        for image, truth in batches.as_numpy_iterator():
            yield {"image": image, "mask": truth} | ({"share": lesion_shares(truth)} if shares else {})
    except tf.errors.OpError as error:
        raise (failed[0] if failed else error) from error


def _reader(split: GridSplit, failed: list[Exception]) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """Number of an image -> its counts and its mask, `[rows, columns]`, and its pixels' height and width in mm, `[2]`.

    TensorFlow makes text of what Python raises, so that errors are kept in `failed`.
    """
    if isinstance(split.counts, np.ndarray):
        # Half the memory wherever no pixel has more than 65535 counts.
        images = tf.constant(split.counts.astype(np.min_scalar_type(split.counts.max())))
        truths = tf.constant(split.masks)
        pixels_mm = tf.constant(split.pixel_sizes_mm, tf.float32)
        return lambda index: (images[index], truths[index], pixels_mm[index])
    shape = split.shape

    def read(number: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        try:
            place = int(number)
            return split.counts[place], split.masks[place], np.array(split.pixel_sizes_mm[place], np.float32)
        except Exception as error:
            failed.append(error)
            raise

    def reading(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        counts, lesion, pixel_mm = tf.numpy_function(read, [index], (tf.int32, tf.bool, tf.float32), stateful=False)
        return tf.ensure_shape(counts, shape), tf.ensure_shape(lesion, shape), tf.ensure_shape(pixel_mm, (2,))

    return reading


def lesion_shares(masks: np.ndarray) -> np.ndarray:
    """1 / A on the pixels of a lesion of A pixels, 0 outside, float32; a lesion is a region of 8-neighbours.

    Args:
      masks: `[b, rows, columns, 1]` in {0, 1}.

    Example:
      >>> lesion_shares(np.array([1.0, 0.0, 1.0, 1.0]).reshape(1, 1, 4, 1)).ravel().tolist()
      [1.0, 0.0, 0.5, 0.5]
    """
    # Neighbours within an image only: images do not touch.
    regions, _ = ndimage.label(masks[..., 0], structure=np.pad(np.ones((1, 3, 3)), ((1, 1), (0, 0), (0, 0))))
    sizes = np.bincount(regions.ravel())
    return np.where(regions > 0, 1.0 / sizes[regions], 0.0).astype(np.float32)[..., None]
