"""PhantomBone as a TFDS builder, and the splits of any data set as arrays in memory.

A set is built on first use from the simulator, patient by patient; finished patients are kept beside it until the whole
is done, so an interrupted build goes on where it was. The thorax images are cut out by the same finder that prediction
uses on real scans. Simulated data: scores on it are not comparable with the paper's.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import operator
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from data_pipeline import phantom
from data_pipeline.errors import RequestError
from data_pipeline.features import BoneScans, ImageRow, image_features, stack_examples
from data_pipeline.fields import field_shape
from data_pipeline.imported import ImportedBone, imported_builder
from data_pipeline.imports.manifest import is_data_set, read_data_set
from data_pipeline.patient_examples import SET_MASKS, PatientStore, simulate_in_processes
from data_pipeline.scan import View
from data_pipeline.splits import check_disjoint, split_patients

# TensorFlow only feeds data; left alone it would take the accelerator's memory.
tf.config.set_visible_devices([], "GPU")

__all__ = ["SPLITS", "BoneScans", "ImageRow", "PhantomBone", "load_split", "prepare"]

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass
class PhantomBoneConfig(tfds.core.BuilderConfig):
    """Size of a set.

    Attributes:
      seed: of the virtual patients.
      patients: per split.
      images: views over all patients; those beyond one a patient go to randomly chosen patients.
      field: `thorax` or `whole_body`; of the same patients.
    """

    seed: int = 0
    patients: dict[str, int] = dataclasses.field(default_factory=dict)
    images: int = 0
    field: str = "thorax"


SIZES = (
    PhantomBoneConfig(
        name="full",
        description="171 patients, 286 images; 118 + 53 patients, by a third party's table of the group's data",
        seed=2025,
        patients={"train": 100, "validation": 18, "test": 53},
        images=286,
    ),
    PhantomBoneConfig(
        name="large",
        description="1,100 patients, 1,650 images: what more patients are worth, and the released model",
        seed=2028,
        patients={"train": 1000, "validation": 20, "test": 80},
        images=1650,
    ),
    PhantomBoneConfig(
        name="cpu",
        description="106 patients, 170 images: a few minutes on two cores",
        seed=2026,
        patients={"train": 70, "validation": 10, "test": 26},
        images=170,
    ),
    PhantomBoneConfig(
        name="tiny",
        description="10 patients, 16 images: for tests",
        seed=2027,
        patients={"train": 5, "validation": 2, "test": 3},
        images=16,
    ),
)
"""Sizes of PhantomBone; each is there as `NAME`, the thorax, and as `NAME_whole_body`, of the same patients."""


class PhantomBone(tfds.core.GeneratorBasedBuilder):
    """Simulated planar bone scintigrams of the thorax with exact lesion masks."""

    VERSION = tfds.core.Version(phantom.VERSION)
    RELEASE_NOTES = {  # noqa: RUF012
        "1.0.0": "Difficulty calibrated with a plain U-Net; frozen.",
        "1.0.1": "The same bytes on every processor: float64, counts by inverse distribution. Masks of organs.",
    }
    BUILDER_CONFIGS = [  # noqa: RUF012
        *SIZES,
        *(
            PhantomBoneConfig(
                name=f"{size.name}_whole_body",
                description=f"{size.description}; whole bodies",
                seed=size.seed,
                patients=size.patients,
                images=size.images,
                field="whole_body",
            )
            for size in SIZES
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=image_features(field_shape(self.builder_config.field), SET_MASKS),
            description="Simulated scans; scores on them are not comparable with scores on clinical data.",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        self._bar = tqdm(total=self.builder_config.images, unit="image", desc=f"building {self.info.full_name}")
        return {
            split: self._generate_examples(patients) for split, patients in planned_views(self.builder_config).items()
        }

    def _generate_examples(self, patients: dict[int, tuple[View, ...]]) -> Iterator[tuple[str, dict[str, Any]]]:
        store = patient_store(self)
        for index, views in patients.items():
            examples = store.examples(index, views)
            self._bar.update(len(examples))
            yield from ((example["image_id"], example) for example in examples)


def patient_store(builder: tfds.core.DatasetBuilder) -> PatientStore:
    """Where finished patients wait for the rest of the set."""
    config = builder.builder_config
    folder = Path(builder.data_path).parents[2] / f".{builder.name}_{config.name}_{builder.version}_patients"
    return PatientStore(folder=folder, seed=config.seed, field=config.field)


def planned_views(config: PhantomBoneConfig) -> dict[str, dict[int, tuple[View, ...]]]:
    """Split -> patient index -> views, the same for the same config."""
    total = sum(config.patients.values())
    keys = [f"{index:05d}" for index in range(total)]
    splits = split_patients(keys, sizes=config.patients, seed=config.seed)
    check_disjoint(splits)
    random = np.random.default_rng([config.seed, 1])
    both = set(random.permutation(total)[: config.images - total].tolist())
    single = [View.ANTERIOR if value < 0.5 else View.POSTERIOR for value in random.uniform(size=total)]
    return {
        split: {
            int(key): (View.ANTERIOR, View.POSTERIOR) if int(key) in both else (single[int(key)],) for key in patients
        }
        for split, patients in splits.items()
    }


def load_split(dataset: str, split: str, data_dir: str, field: str = "thorax") -> BoneScans:
    """A split of a set, which is built first where it is missing.

    Args:
      dataset: `phantom_bone/full`, `phantom_bone/cpu`, `phantom_bone/tiny`, or a folder that `msanet import` wrote.
      split: `train`, `validation` or `test`.
      data_dir: where sets are kept.
      field: `thorax` or `whole_body`.

    Raises:
      RequestError: no such set, or a folder that cannot be written or read.
    """
    builder = prepare(dataset, data_dir, field)
    try:
        examples = list(builder.as_data_source(split=split))
    except Exception as error:  # array_record raises its own types for damaged files
        raise RequestError(
            f"{builder.data_dir}: the built data set is damaged ({str(error).splitlines()[0]}); delete it to build anew"
        ) from error
    masks = builder.builder_config.masks if isinstance(builder, ImportedBone) else SET_MASKS
    return stack_examples(examples, masks, version=str(builder.version))


def prepare(dataset: str, data_dir: str, field: str = "thorax") -> PhantomBone | ImportedBone:
    """Builds the set unless it is there; says so.

    Raises:
      RequestError: no such set, or `data_dir` cannot be written.
    """
    field_shape(field)
    name, _, config = dataset.partition("/")
    known = [builder_config.name for builder_config in PhantomBone.BUILDER_CONFIGS if builder_config.field == "thorax"]
    phantom_set = name == PhantomBone.name and config in known
    if not phantom_set and not is_data_set(dataset):
        names = ", ".join(f"{PhantomBone.name}/{entry}" for entry in known)
        raise RequestError(f"data.dataset={dataset!r} is none of {names}, nor a folder that `msanet import` wrote")
    # TFDS warns of every configuration that it did not know beforehand.
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        Path(data_dir).mkdir(parents=True, exist_ok=True)
        if phantom_set:
            builder = PhantomBone(config=config if field == "thorax" else f"{config}_{field}", data_dir=data_dir)
        else:
            builder = imported_builder(dataset, data_dir=data_dir, field=field)
        if not Path(builder.data_dir).exists():
            _build(builder, manual_dir=None if phantom_set else dataset)
    except OSError as error:
        raise RequestError(f"--data_dir={data_dir}: cannot be written ({error}); choose another folder") from error
    return builder


def is_simulated(dataset: str) -> bool:
    """Whether a set holds simulated scans only: PhantomBone, or an import of simulated files."""
    return not is_data_set(dataset) or read_data_set(dataset).origin == "simulated"


def _build(builder: PhantomBone | ImportedBone, *, manual_dir: str | None) -> None:
    target = Path(builder.data_dir)
    for stale in target.parent.glob("*incomplete*"):
        logging.warning("removing the unfinished build %s; its finished patients are kept and used", stale)
        shutil.rmtree(stale)
    tfds.disable_progress_bar()
    if isinstance(builder, PhantomBone):
        plan = functools.reduce(operator.or_, planned_views(builder.builder_config).values())
        simulate_in_processes(patient_store(builder), plan, title=f"simulating {builder.info.full_name}")
    try:
        builder.download_and_prepare(
            file_format="array_record",
            download_config=tfds.download.DownloadConfig(manual_dir=manual_dir) if manual_dir else None,
        )
    finally:
        if (bar := getattr(builder, "_bar", None)) is not None:
            bar.close()
    if isinstance(builder, PhantomBone):
        shutil.rmtree(patient_store(builder).folder, ignore_errors=True)
