"""An imported data set folder as a TFDS builder: the folder is its manual data, the built set is a copy of its field.

The name of the built set holds a digest of everything that training reads, so that an edited mask, box or split gives a
new one. Only images with a lesion mask whose patient is in train, validation or test are built.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipeline.annotations.lesion_facts import LesionFacts
from data_pipeline.annotations.lesion_shape import lesion_shapes
from data_pipeline.errors import RequestError
from data_pipeline.features import image_features
from data_pipeline.fields import field_counts, field_ids, field_pixel_mm, field_shape, find_window
from data_pipeline.intake.folder import SPLITS, DataSetFolder, load_facts, load_masks, load_scan, read_data_set
from data_pipeline.intake.manifest import ImageEntry
from data_pipeline.terminal.progress import progress

_DIGEST_CHARACTERS = 12


@dataclasses.dataclass
class ImportedBoneConfig(tfds.core.BuilderConfig):
    """Which folder, and what of it.

    Attributes:
      field: `thorax` or `whole_body`.
      masks: kinds that every image of the splits has.
      images: in all splits.
    """

    field: str = "thorax"
    masks: tuple[str, ...] = ()
    images: int = 0


class ImportedBone(tfds.core.GeneratorBasedBuilder):
    """Planar bone scintigrams that `msanet import` put into a folder."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First layout of imported sets."}  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = "The folder that `msanet import SOURCE --out=FOLDER` wrote."

    def _info(self) -> tfds.core.DatasetInfo:
        config: ImportedBoneConfig = self.builder_config
        return self.dataset_info_from_configs(
            features=image_features(field_shape(config.field), config.masks),
            description="Scans imported by their owner.",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        folder = read_data_set(Path(dl_manager.manual_dir))
        self._bar = progress(title="preparing the data set", unit="image", total=self.builder_config.images)
        return {split: self._generate_examples(folder, split) for split in SPLITS}

    def _generate_examples(self, folder: DataSetFolder, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        config: ImportedBoneConfig = self.builder_config
        for entry in folder.of_split(split):
            yield entry.image_id, field_example(folder.folder, entry, config.field, config.masks)
            self._bar.update()


def field_example(folder: Path, entry: ImageEntry, field: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    """An image's field with its masks; lesions that lie outside the field are left out.

    Raises:
      RequestError: a file is damaged or does not fit its scan.
    """
    scan = load_scan(folder, entry)
    window = find_window(scan, field, entry.thorax)
    ids = {
        name: field_ids(whole, window, field)
        for name, whole in load_masks(
            folder, entry, ("lesions", *(kind for kind in kinds if kind != "lesions"))
        ).items()
    }
    pixel = field_pixel_mm(entry.pixel_size_mm, window, field)
    known = {facts.id: facts for facts in load_facts(folder, entry)}
    rows = []
    for shape in lesion_shapes(ids["lesions"], pixel):
        facts = known.get(shape.id, LesionFacts(shape.id))
        size_mm = round(shape.length_mm, 2) if facts.size_mm is None else facts.size_mm
        rows.append(dataclasses.replace(facts, size_mm=size_mm))
    return {
        "counts": field_counts(scan.counts, window, field),
        "image_id": entry.image_id,
        "patient": entry.patient,
        "view": str(entry.view),
        "pixel_size_mm": np.array(pixel, np.float32),
        "crop_origin_px": np.array([window.row, window.column], np.int32),
        "lesion_rows": json.dumps([dataclasses.asdict(row) for row in rows]),
        **{kind: ids[kind] for kind in kinds},
    }


def imported_builder(folder: str, *, data_dir: str, field: str) -> ImportedBone:
    """The builder of a folder; building is the caller's affair.

    Raises:
      RequestError: the folder is damaged, or a split has no image with a lesion mask.
    """
    data_set = read_data_set(folder)
    for split in SPLITS:
        if not data_set.of_split(split):
            raise RequestError(
                f"{Path(folder) / 'splits.json'}: {split} has no patient with a lesion mask; at least three patients "
                "with masks are needed, one in each of train, validation and test"
            )
    kinds = data_set.mask_kinds()
    config = ImportedBoneConfig(
        name=f"{field}_{data_set.digest()[:_DIGEST_CHARACTERS]}",
        description="Imported scans.",
        field=field,
        masks=kinds,
        images=sum(len(data_set.of_split(split)) for split in SPLITS),
    )
    return ImportedBone(config=config, data_dir=data_dir)
