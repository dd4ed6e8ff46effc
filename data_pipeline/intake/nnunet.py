"""A data set folder -> a raw folder for nnU-Net version 2: imagesTr, labelsTr, imagesTs, labelsTs, dataset.json.

Whole scans as 16 bit PNG, labels 0 and 1. Patients of train and validation go to Tr, those of the test to Ts; our split
of Tr is written as splits_final.json, which nnU-Net takes from its preprocessed folder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_pipeline.errors import RequestError
from data_pipeline.files import whole_folder, write_json
from data_pipeline.intake.folder import SPLITS, load_masks, load_scan, read_data_set
from data_pipeline.intake.writing import write_image


def write_nnunet(data_set: Path, out: Path) -> int:
    """Writes the folder; returns the number of cases.

    Raises:
      RequestError: `data_set` is not a data set, has no mask, or has counts above 65535; or `out` cannot be written.
    """
    folder = read_data_set(data_set)
    cases: dict[str, list[str]] = {split: [] for split in SPLITS}
    with whole_folder(out) as beside:
        for split in SPLITS:
            side = "Ts" if split == "test" else "Tr"
            for entry in folder.of_split(split):
                counts = load_scan(folder.folder, entry).counts
                if counts.max() > np.iinfo(np.uint16).max:
                    raise RequestError(f"{entry.counts}: counts above 65535 do not fit nnU-Net's PNG; leave it out")
                lesion = (load_masks(folder.folder, entry, ("lesions",))["lesions"] > 0).astype(np.uint8)
                for name in (f"images{side}", f"labels{side}"):
                    (beside / name).mkdir(exist_ok=True)
                write_image(beside / f"images{side}", f"{entry.image_id}_0000", counts)
                write_image(beside / f"labels{side}", entry.image_id, lesion)
                cases[split].append(entry.image_id)
        training = [*cases["train"], *cases["validation"]]
        if not training:
            raise RequestError(f"{data_set}: no image for training has a lesion mask")
        document = {
            "channel_names": {"0": "counts"},
            "labels": {"background": 0, "lesion": 1},
            "numTraining": len(training),
            "file_ending": ".png",
        }
        write_json(beside / "dataset.json", document)
        write_json(beside / "splits_final.json", [{"train": cases["train"], "val": cases["validation"]}])
    return sum(len(names) for names in cases.values())
