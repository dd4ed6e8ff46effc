"""A data set folder -> a raw folder for nnU-Net version 2: imagesTr, labelsTr, imagesTs, labelsTs, dataset.json.

Images as 16 bit PNG, labels 0 and 1. Patients of train and validation go to Tr, those of the test to Ts; our split of
Tr is written as splits_final.json, which nnU-Net takes from its preprocessed folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipeline.errors import RequestError
from data_pipeline.files import whole_folder, write_json
from data_pipeline.intake.folder import SPLITS, load_masks, load_scan, read_data_set
from data_pipeline.intake.writing import write_image


class Case(NamedTuple):
    """An image as nnU-Net gets it.

    Attributes:
      split: `train`, `validation` or `test`.
      image_id: stem of its files.
      counts: `[rows, columns]` whole numbers.
      lesion: `[rows, columns]` bool.
    """

    split: str
    image_id: str
    counts: np.ndarray
    lesion: np.ndarray


def write_nnunet(data_set: Path, out: Path) -> int:
    """Writes the whole scans of a data set folder; returns the number of cases.

    Raises:
      RequestError: `data_set` is not a data set, or see `write_cases`.
    """
    folder = read_data_set(data_set)

    def cases() -> Iterator[Case]:
        for split in SPLITS:
            for entry in folder.of_split(split):
                lesion = load_masks(folder.folder, entry, ("lesions",))["lesions"] > 0
                yield Case(split, entry.image_id, load_scan(folder.folder, entry).counts, lesion)

    return write_cases(cases(), out, source=str(data_set))


def write_cases(cases: Iterable[Case], out: Path, *, source: str) -> int:
    """Writes the folder, whole or not at all; returns the number of cases.

    Args:
      cases: the images.
      out: folder to make.
      source: of the images, for messages.

    Raises:
      RequestError: no case for training, counts above 65535, or `out` cannot be written.
    """
    written: dict[str, list[str]] = {split: [] for split in SPLITS}
    with whole_folder(out) as beside:
        for case in cases:
            if case.counts.max() > np.iinfo(np.uint16).max:
                raise RequestError(
                    f"{source}: {case.image_id} has counts above 65535, too large for nnU-Net's PNG; leave it out"
                )
            side = "Ts" if case.split == "test" else "Tr"
            for name in (f"images{side}", f"labels{side}"):
                (beside / name).mkdir(exist_ok=True)
            write_image(beside / f"images{side}", f"{case.image_id}_0000", case.counts)
            write_image(beside / f"labels{side}", case.image_id, case.lesion.astype(np.uint8))
            written[case.split].append(case.image_id)
        training = [*written["train"], *written["validation"]]
        if not training:
            raise RequestError(f"{source}: no image for training has a lesion mask")
        document = {
            "channel_names": {"0": "counts"},
            "labels": {"background": 0, "lesion": 1},
            "numTraining": len(training),
            "file_ending": ".png",
        }
        write_json(beside / "dataset.json", document)
        write_json(beside / "splits_final.json", [{"train": written["train"], "val": written["validation"]}])
    return sum(len(names) for names in written.values())
