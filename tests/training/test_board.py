"""What TensorBoard gets: groups of tags, nothing undefined or constant, and the test with its pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from msanet_jax.training.board import parameter_table, tags, write_test


def test_tags_by_hand() -> None:
    scalars = {
        "dsc_pooled": 0.5,
        "recall_pooled": float("nan"),
        "dsc_mean": None,
        "lesion_recall": 0.4,
        "lesion_dsc_mean_clustered": 0.3,
        "false_positives_per_image": 2.0,
        "images_without_prediction": 1,
        "images": 16,
        "lesions": 9,
        "lesions_small": 3,
        "threshold": 0.2,
    }
    assert tags("validation", scalars) == {
        "validation/dsc_pooled": 0.5,
        "validation lesions/lesion_recall": 0.4,
        "validation kinds of lesion/lesion_dsc_mean_clustered": 0.3,
        "validation lesions/false_positives_per_image": 2.0,
        "validation images/images_without_prediction": 1,
    }
    assert tags("train", {"dice_loss": 0.7, "learning_rate": 0.0}) == {
        "train/dice_loss": 0.7,
        "train/learning_rate": 0.0,
    }


def test_parameter_table_keeps_its_columns() -> None:
    table = parameter_table({"head": {"kernel": np.zeros((3, 3, 1, 8), np.float32)}})
    assert table.startswith("```\n")
    assert table.endswith("\n```")
    assert "head/kernel" in table
    assert "72" in table


def test_the_test_and_its_pictures_are_events(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (5, 4), (255, 0, 0)).save(tmp_path / "pictures" / "froc.png")
    write_test(tmp_path, 7, {"dsc_pooled": 0.25, "lesion_recall": None})
    (events,) = tmp_path.glob("events.*")
    found = {}
    for record in tf.data.TFRecordDataset(str(events)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        found |= {value.tag: (event.step, value.tensor) for value in event.summary.value}
    assert set(found) == {"test/dsc_pooled", "test/froc"}
    assert found["test/dsc_pooled"][0] == 7
    assert tf.make_ndarray(found["test/dsc_pooled"][1]) == np.float32(0.25)
    picture = tf.image.decode_png(tf.make_ndarray(found["test/froc"][1])[2])
    assert np.array_equal(picture, np.full((4, 5, 3), [255, 0, 0], np.uint8))
